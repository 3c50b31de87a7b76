"""`striate probe` and `striate.probe`."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from PIL import Image
from tests.transfer.low_digits import some_digits

from striate.cli.probe import command, command_of, lines_of
from striate.cli.train import command as train_command
from striate.errors import UsageError
from striate.transfer.advice import probe
from striate.transfer.picture import draw_probe
from striate.transfer.plan import TransferPlan

QUICK = ("--device", "cpu", "--precision", "fp32", "--threads", "1")


def call(*arguments: str):
    return CliRunner().invoke(command, [*arguments, *QUICK], catch_exceptions=False)


def test_json_and_picture(source, tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    words = ("digits", "--limit", "150", "--from", str(source), "--no-plan", "--json")
    result = call(*words, "--picture", str(tmp_path / "probe.svg"))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["images"] == 150
    assert found["sources"][0]["depths"][0]["place"] == "stem"
    assert found["plan"] is None
    assert ElementTree.parse(tmp_path / "probe.svg").getroot().tag.endswith("svg")
    again = json.loads(call(*words).stdout)
    assert again["sources"][0]["from_cache"]
    assert again["sources"][0]["depths"] == found["sources"][0]["depths"]


def test_the_command_that_follows_says_what_was_given(source, tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("striate.transfer.plan.LEAST_SECONDS", 1.0)
    words = ("--limit", "100", "--probe-images", "60", "--runs", str(source.parent))
    result = call("digits", "--from", source.name, *words)
    assert result.exit_code == 0, result.output
    (last,) = [line for line in result.stdout.splitlines() if line.startswith("next")]
    given = last.partition(", with ")[2].removesuffix(" as here").split()
    assert set(given) == {word for word in (*words, *QUICK) if word.startswith("--")}


def test_what_a_person_reads(source, tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    result = call("digits", "--limit", "150", "--from", str(source), "--no-plan")
    assert result.exit_code == 0, result.output
    for word in ("stem", "SVM", "softmax", "similarity", "by images", "with more", "rule", "best"):
        assert word in result.stdout
    assert all(len(line) <= 130 for line in result.stdout.splitlines() if str(source) not in line)


def test_the_plan_is_printed_with_its_reasons(source, other_digits):
    found = probe(other_digits, source, plan=False, progress=False, device="cpu", precision="fp32", threads=1)
    plan = TransferPlan(
        source=str(source), scenario="top", expected_top1=0.953, low=0.93, high=0.97, gain=0.021, seconds=12.0,
        why=("First reason.", "Second."), scenarios=(), freeze_to="stage2", epochs=9,
    )  # fmt: skip
    *_, last = lines = lines_of(found.with_plan(plan), "my photos")
    text = "\n".join(lines)
    assert last.split(maxsplit=1)[1] == (
        f"striate train 'my photos' --from {shlex.quote(str(source))} --scenario top --freeze-to stage2"
    )
    assert command_of(replace(plan, source="scratch", scenario="scratch"), "photos") == (
        "striate train photos --from scratch"
    )
    every = replace(plan, cut="stem", pretrained_lr=0.1, layer_decay=0.8, head_epochs=1)
    given = train_command.make_context("train", shlex.split(command_of(every, "photos"))[2:]).params
    known = [given[f"transfer__{name}"] for name in ("scenario", "freeze_to", "cut", "pretrained_lr", "layer_decay")]
    assert known == ["top", "stage2", "stem", 0.1, 0.8]
    assert (given["data"], given["model__from"], given["transfer__head_epochs"]) == ("photos", (str(source),), 1)
    assert lines_of(found.with_plan(plan), "photos", ("--limit",))[-1].endswith(", with --limit as here")
    for word in ("top from", "freeze to stage2, epochs 9", "95.3%", "+2.1 points", "12 s", "First reason.", "Second."):
        assert word in text
    assert found.with_plan(plan).to_dict()["plan"]["freeze_to"] == "stage2"


@pytest.mark.slow
def test_a_probe_ends_with_a_plan_that_was_measured(source, other_digits):
    found = probe(other_digits, source, progress=False, device="cpu", precision="fp32", threads=1, epochs=2)
    assert found.plan is not None
    assert json.loads(json.dumps(found.to_dict()))["plan"]["scenario"] in "\n".join(lines_of(found))


def test_pictures_of_one_network_several_and_hardly_any_images(source, other_digits, tmp_path):
    from tests.transfer.test_probing import with_counts

    settings = {"plan": False, "progress": False, "device": "cpu", "precision": "fp32", "threads": 1}
    two = probe(other_digits, [source, source / "model.safetensors"], **settings)
    few = probe(with_counts(other_digits, (1,) * 5), source, **settings)
    for name, result in {"two": two, "few": few}.items():
        draw_probe(result, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width > 1000
    with pytest.raises(UsageError, match="PNG or an SVG"):
        draw_probe(few, tmp_path / "few.pdf")
    assert "none can be held out" in lines_of(few)[0]


def test_images_that_a_run_was_trained_on_are_said(source, heard):
    known = some_digits((0, 1, 2, 3, 4))
    probe(known, source, plan=False, progress=heard, device="cpu", precision="fp32", threads=1, probe_images=20)
    assert any("was trained on" in line and "flattered" in line for line in heard.warnings)


def test_what_is_wrong_is_said_before_any_work(tmp_path):
    assert "PNG or an SVG" in call("digits", "--picture", str(tmp_path / "a.pdf")).stderr
    assert "folder that is there" in call("digits", "--picture", str(tmp_path / "none" / "a.png")).stderr
    result = call("digits")
    assert result.exit_code == 2
    assert "no network to probe digits with" in result.stderr
    assert "--from NETWORK" in result.stderr
