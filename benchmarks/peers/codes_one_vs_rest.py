"""scikit-learn's one-vs-rest logistic regression on the codes of a pretrained network, for several labels an image.

Reads a table of images, labels and splits; of the strengths tried the one with the largest mean average precision on
the validation images is kept. Prints one JSON object and writes the probabilities of the test images.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("network")
    parser.add_argument("probabilities", type=Path, help="where those of the test images go, .npz")
    args = parser.parse_args()
    import striate

    with args.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    images = np.array([str(args.table.parent / row["image"]) for row in rows])
    binarizer = MultiLabelBinarizer()
    targets = binarizer.fit_transform([row["label"].split("|") for row in rows])
    split = np.array([row["split"] for row in rows])
    start = time.perf_counter()
    codes = np.asarray(striate.CodesTransformer(args.network, cache=False).fit_transform(list(images)))
    found = time.perf_counter()
    best = None
    for strength in STRENGTHS:
        model = OneVsRestClassifier(make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000)))
        model.fit(codes[split == "train"], targets[split == "train"])
        score = average_precision_score(targets[split == "val"], model.predict_proba(codes[split == "val"]))
        if best is None or score > best[0]:
            best = (score, strength, model)
    assert best is not None
    score, strength, model = best
    probabilities = model.predict_proba(codes[split == "test"])
    paths = np.array([row["image"] for row in rows])[split == "test"]
    np.savez(
        args.probabilities, probabilities=probabilities, truths=targets[split == "test"], paths=paths,
        names=binarizer.classes_,
    )  # fmt: skip
    facts = {
        "C": strength, "val_map": score, "test_map": average_precision_score(targets[split == "test"], probabilities),
        "codes": codes.shape[1], "codes_seconds": found - start, "fit_seconds": time.perf_counter() - found,
    }  # fmt: skip
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
