"""Our answers to the batch that the peers get: as a classifier computes them, or by a back end and a precision.

Started by inference.py. It imports Striate, for what is timed is the network alone, without reading photos. Engines
are kept beside the prepared files, not in the user's cache; `--first` finds none, as on the first use of a network.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from striate.runtime import prepare_torch

prepare_torch()  # as every command does, before anything else imports torch

import numpy as np  # noqa: E402
import torch  # noqa: E402

sys.path.append(str(Path(__file__).resolve().parent / "peers"))
from inference_timing import finish, measure, options  # noqa: E402

from striate.inference.engines import open_engine  # noqa: E402
from striate.network import open_network  # noqa: E402
from striate.prediction import Classifier  # noqa: E402
from striate.runtime import set_threads  # noqa: E402


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--network", required=True, help="our name of the architecture")
    parser.add_argument("--backend", help="torch, onnxruntime, openvino [what the classifier takes]")
    parser.add_argument("--precision", default="fp32", help="fp32, bf16, int8; auto where the classifier chooses")
    parser.add_argument("--expected", type=int, help="images that the classifier is told to expect")
    parser.add_argument("--first", action="store_true", help="no engine has been built before")
    args = parser.parse_args()
    folder = Path(args.folder)
    threads = set_threads(args.threads)
    network = f"{args.network}:{folder / 'weights.pth'}"
    os.environ["STRIATE_CACHE"] = str(tempfile.mkdtemp() if args.first else folder / "striate-cache")
    engine = default(network, args) if args.backend is None else chosen(network, folder, threads, args)
    images = torch.from_numpy(np.load(folder / "images.npy")[: args.batch_size])

    @torch.inference_mode()
    def run(count: int) -> None:
        for _ in range(count):
            engine(images)

    if args.answers:
        with torch.inference_mode():
            np.save(args.answers, engine(images).float().numpy())
    finish({"backend": engine.backend, "precision": engine.precision, **measure(run, args.warm, args.seconds)})


def default(network: str, args: Any) -> Any:
    """What a classifier takes by itself for as many images as it is told to expect."""
    classifier = Classifier.load(network, precision=args.precision, images=args.expected, offline=True)
    return classifier.engine


def chosen(network: str, folder: Path, threads: int, args: Any) -> Any:
    """The engine of a back end and a precision; int8 is calibrated on the images that the peers have."""
    saved = open_network(network, offline=True)
    calibration = None
    if args.precision == "int8":
        calibration = list(torch.from_numpy(np.load(folder / "calibration.npy")).split(16))
    cache = folder / "striate-engines"
    cache.mkdir(exist_ok=True)
    return open_engine(
        saved.model, saved.spec, saved.labels, backend=args.backend, precision=args.precision,
        device=torch.device("cpu"), threads=threads, cache=cache, calibration=calibration,
    )  # fmt: skip


if __name__ == "__main__":
    main()
