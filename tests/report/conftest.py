"""Run folders made up for the tests: the files are those of a real run, the figures behave as training does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

DIGITS = tuple(str(digit) for digit in range(10))
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SPLIT_SIZES = {"train": 1438, "val": 359}


class MadeRun:
    """One made-up run; every part can be overridden before `write`."""

    def __init__(
        self,
        *,
        model: str = "lenet5_dense",
        data: str = "digits",
        labels: tuple[str, ...] = DIGITS,
        size: int = 8,
        channels: int = 1,
        sizes: dict[str, int] | None = None,
        epochs: int = 20,
        planned: int | None = None,
        accuracy: float = 0.97,
        steps: bool = False,
        ema: bool = False,
        seed: int = 0,
        options: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.model, self.data, self.labels = model, data, labels
        self.size, self.channels, self.accuracy = size, channels, accuracy
        self.random = np.random.default_rng(seed)
        self.sizes = sizes or SPLIT_SIZES
        self.manifest = self._manifest()
        self.metrics = self._metrics(epochs, steps, ema)
        self.targets = {name: self._labels_of(name) for name in self.sizes if name != "train"}
        self.options = {
            "data": {"data": data, "resize": "crop", "input_size": size, "channels": channels},
            "model": {"model": model},
            "optimizer": {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "batch_size": 128, "clip_norm": 1.0},
            "schedule": {"epochs": planned or epochs, "schedule": "onecycle", "warmup": 0.0},
            "training": {"seed": seed, "best_by": "top1", "ema": 0.99 if ema else 0.0},
        }
        for section, table in (options or {}).items():
            self.options.setdefault(section, {}).update(table)
        self.environment: dict[str, Any] = {
            "striate": "0.1.0",
            "python": "3.11.9",
            "torch": "2.11.0",
            "processor": "A processor with two cores",
            "device": "cpu",
            "threads": 2,
            "precision": "bf16",
            "command": f"striate train {data}",
            "revision": "4f5ab3b",
            "phases": {"import": 1.31, "load": 0.42, "train": 9.7, "evaluate": 0.31, "report": 0.2},
        }
        self.predictions, self.evaluation = self._evaluate(ema)
        self.pictures = self._pictures()
        self.tensors = self._tensors()

    def write(self, path: Path, *, finished: bool = True, pictures: bool = True, model: bool = True) -> Path:
        """Write the files of the run folder."""
        import tomli_w

        path.mkdir(parents=True)
        (path / "recipe.toml").write_text(tomli_w.dumps(self.options), encoding="utf-8")
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.metrics), encoding="utf-8")
        (path / "environment.json").write_text(json.dumps(self.environment), encoding="utf-8")
        pq.write_table(self.manifest, path / "data.parquet")
        if finished:
            (path / "evaluation.json").write_text(json.dumps(self.evaluation), encoding="utf-8")
            pq.write_table(self.predictions, path / "predictions.parquet")
        if pictures and finished:
            np.savez_compressed(path / "pictures.npz", **self.pictures)
        if model:
            record = {
                "architecture": {"name": self.model, "config": {}, "classes": len(self.labels)},
                "spec": {
                    "size": [self.size, self.size],
                    "channels": self.channels,
                    "mean": [0.31] * self.channels,
                    "std": [0.37] * self.channels,
                    "resize": "crop",
                },
                "labels": list(self.labels),
            }
            save_file(self.tensors, path / "model.safetensors", metadata={"striate": json.dumps(record)})
        return path

    def _manifest(self) -> pa.Table:
        rows: dict[str, list[Any]] = {"path": [], "hash": [], "label": [], "group": [], "split": [], "reason": []}
        for split, count in self.sizes.items():
            for index in range(count):
                rows["path"].append(f"{split}[{index}]")
                rows["hash"].append(f"{split}-{index:08x}")
                rows["label"].append(self.labels[index % len(self.labels)])
                rows["group"].append(None)
                rows["split"].append(split)
                rows["reason"].append(None)
        return pa.table(rows, schema=pa.schema([(name, pa.string()) for name in rows]))

    def _labels_of(self, split: str) -> np.ndarray:
        return np.arange(self.sizes[split]) % len(self.labels)

    def _metrics(self, epochs: int, steps: bool, ema: bool) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        per_epoch = max(self.sizes["train"] // 128, 1)
        chance = 1 / len(self.labels)
        for epoch in range(1, epochs + 1):
            done = epoch / epochs
            learned = 1 - math.exp(-4 * done * min(epochs / 8, 1) - 0.4)
            train = chance + (min(self.accuracy + 0.02, 1) - chance) * learned
            val = chance + (self.accuracy - chance) * learned + self.random.normal(0, 0.004)
            loss = math.log(len(self.labels)) * (1 - 0.96 * learned)
            rate = 0.05 * math.sin(math.pi * min(done, 0.999)) + 1e-5
            if steps:
                rows += [
                    {
                        "kind": "step",
                        "epoch": epoch,
                        "step": (epoch - 1) * per_epoch + step + 1,
                        "lr": rate,
                        "loss": loss * float(self.random.lognormal(0, 0.15)),
                        "grad_norm": float(self.random.lognormal(0, 0.3)),
                    }
                    for step in range(per_epoch)
                ]
            row: dict[str, Any] = {
                "kind": "epoch",
                "epoch": epoch,
                "step": epoch * per_epoch,
                "lr": rate,
                "train_loss": loss,
                "train_top1": train,
                "grad_norm": 1.2 + self.random.normal(0, 0.1),
                "seconds": 0.48 + (0.2 if epoch == 1 else 0) + abs(self.random.normal(0, 0.01)),
                "images_per_second": 2900 + self.random.normal(0, 60),
                "data_wait_share": 0.04,
                "val": {"top1": val, "top5": min(val + 0.02, 1), "loss": loss * 1.08, "balanced_accuracy": val},
                "best": epoch == epochs,
            }
            if ema:
                mean = val + 0.03 * (done - 0.4)
                row["val_ema"] = {"top1": mean, "top5": 1.0, "loss": loss * 1.02, "balanced_accuracy": mean}
            rows.append(row)
        return rows

    def _evaluate(self, ema: bool) -> tuple[pa.Table, dict[str, Any]]:
        tables, splits = [], {}
        for split, targets in self.targets.items():
            count, classes = len(targets), len(self.labels)
            right = self.random.random(count) < self.accuracy
            near = (targets + self.random.choice([1, 1, 1, 2, 5], count)) % classes
            predicted = np.where(right, targets, near)
            probability = np.where(right, 1 - self.random.beta(1, 14, count), self.random.uniform(0.35, 0.98, count))
            own = np.where(right, probability, (1 - probability) * 0.8)
            other = np.where(right, near, targets)
            tops = [
                [
                    {"label": self.labels[p], "probability": float(q)},
                    {"label": self.labels[o], "probability": float(1 - q)},
                ]
                for p, q, o in zip(predicted, probability, other, strict=True)
            ]
            tables.append(
                pa.table(
                    {
                        "path": [f"{split}[{index}]" for index in range(count)],
                        "label": [self.labels[one] for one in targets],
                        "predicted": [self.labels[one] for one in predicted],
                        "probability": probability.astype(np.float32),
                        "label_probability": own.astype(np.float32),
                        "loss": -np.log(own).astype(np.float32),
                        "correct": predicted == targets,
                        "error": pa.nulls(count, pa.string()),
                        "top": tops,
                        "split": [split] * count,
                    }
                )
            )
            splits[split] = scores_of(self.labels, targets, predicted, float(-np.log(own).mean()))
        evaluation = {
            "model": self.model,
            "selected_by": "top1",
            "selected_on": "val",
            "best_epoch": len([row for row in self.metrics if row["kind"] == "epoch"]),
            "weights": "ema" if ema else "raw",
            "params": 61_706,
            "splits": splits,
            "train": {"top1": min(self.accuracy + 0.015, 1.0), "top5": 1.0, "loss": 0.03, "n": self.sizes["train"]},
        }
        return pa.concat_tables(tables), evaluation

    def _pictures(self) -> dict[str, np.ndarray]:
        labels = self.random.integers(0, len(self.labels), 24)
        wrong = np.flatnonzero(~self.predictions["correct"].to_numpy(zero_copy_only=False))[:18]
        best = np.flatnonzero(self.predictions["correct"].to_numpy(zero_copy_only=False))[:18]
        return {
            "augmented": np.stack([self._picture(int(label)) for label in labels]),
            "augmented_labels": np.array([self.labels[label] for label in labels]),
            "worst": np.stack([self._picture(row) for row in wrong]),
            "worst_rows": wrong.astype(np.int64),
            "best": np.stack([self._picture(row) for row in best]),
            "best_rows": best.astype(np.int64),
        }

    def _picture(self, seed: int) -> np.ndarray:
        """Soft stripes whose direction and colour follow the class."""
        y, x = np.mgrid[0 : self.size, 0 : self.size] / self.size
        angle = seed * 0.61 + self.random.normal(0, 0.2)
        wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 9 + self.random.uniform(0, 6))
        colour = 0.5 + 0.5 * np.cos(np.arange(self.channels) * 2.1 + seed)
        pixels = (0.5 + 0.42 * wave[..., None]) * (0.35 + 0.65 * colour) + self.random.normal(0, 0.03, (*wave.shape, 1))
        return (pixels.clip(0, 1) * 255).astype(np.uint8)

    def _tensors(self) -> dict[str, np.ndarray]:
        side = 3 if self.size <= 16 else 5 if self.size <= 64 else 7
        y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
        weight = self.random.normal(0, 0.06, (32, self.channels, side, side))
        for place in range(32):
            turned = np.sin((x * math.cos(place) + y * math.sin(place)) * 3) * math.exp(-place / 40)
            weight[place] += turned * self.random.normal(1, 0.4, (self.channels, 1, 1))
        return {
            "head.linear.weight": np.zeros((len(self.labels), 64), np.float32),
            "head.linear.bias": np.zeros(len(self.labels), np.float32),
            "stem.conv.weight": weight.astype(np.float32),
            "stages.block1.conv.weight": np.zeros((64, 32, 3, 3), np.float32),
            "stages.block10.conv.weight": np.zeros((64, 64, 3, 3), np.float32),
            "stages.block2.conv.weight": np.zeros((64, 64, 3, 3), np.float32),
        }


def scores_of(labels: tuple[str, ...], targets: np.ndarray, predicted: np.ndarray, loss: float) -> dict[str, Any]:
    """What `Scores.to_dict` gives."""
    classes = len(labels)
    matrix = np.zeros((classes, classes), dtype=int)
    np.add.at(matrix, (targets, predicted), 1)
    hit, support, said = np.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    recall, precision = hit / np.maximum(support, 1), hit / np.maximum(said, 1)
    f1 = 2 * recall * precision / np.maximum(recall + precision, 1e-12)
    return {
        "top1": float(hit.sum() / len(targets)),
        "top5": 0.999 if classes > 5 else None,
        "loss": loss,
        "n": len(targets),
        "unreadable": 0,
        "balanced_accuracy": float(recall[support > 0].mean()),
        "ece": 0.012,
        "per_class": [
            {
                "label": labels[one],
                "precision": float(precision[one]),
                "recall": float(recall[one]),
                "f1": float(f1[one]),
                "support": int(support[one]),
            }
            for one in range(classes)
        ],
        "confusion": matrix.tolist(),
    }


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a made-up run folder: keywords of `MadeRun`, and `name`, `finished`, `pictures`, `model`."""

    def make(name: str = "20250101-120000-lenet5-digits", **settings: Any) -> Path:
        writing = {key: settings.pop(key) for key in ("finished", "pictures", "with_model") if key in settings}
        if "with_model" in writing:
            writing["model"] = writing.pop("with_model")
        return MadeRun(**settings).write(tmp_path / "runs" / name, **writing)

    return make


def photo_labels(count: int) -> tuple[str, ...]:
    """Class names as a photo collection has them."""
    first = ("golden", "spotted", "great", "lesser", "northern", "river", "mountain", "common", "giant", "dwarf")
    second = ("heron", "beetle", "orchid", "terrier", "lantern", "kayak", "teapot", "church", "tench", "parachute")
    names = [f"{one} {two}" for two in second for one in first]
    return tuple(f"{names[index % 100]}{'' if index < 100 else f' {index // 100 + 1}'}" for index in range(count))
