"""A real HTTP server of the machine itself, and files of weights made from torchvision's random ones."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from striate.hub import download
from striate.progress import Progress


class Heard(Progress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Publisher:
    """Serves `files` and counts what it is asked for; `cut` bytes of an answer are sent before it hangs up."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cut: list[int] = []
        self.ranges = True
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name, wanted = request.path.lstrip("/"), request.headers.get("Range")
        self.asked.append((name, wanted))
        if name not in self.files:
            request.send_error(404)
            return
        content, start = self.files[name], 0
        if wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            request.send_response(206)
        else:
            request.send_response(200)
        rest = content[start:]
        request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        if self.cut:
            rest = rest[: self.cut.pop(0)]
            request.close_connection = True
        request.wfile.write(rest)

    def publish(self, name: str, content: bytes) -> str:
        """Serve `content` under a name that ends with the beginning of its checksum, as torchvision's do."""
        stem, _, suffix = name.rpartition(".")
        full = f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}.{suffix}"
        self.files[full] = content
        return full

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    one = Publisher()
    yield one
    one.stop()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own; torch's is never looked into."""
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "weights"


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def torchvision_file(tmp_path: Path):
    """`make(name, classes=…)`: the network of torchvision with random weights, and its state dict in a file."""
    models = pytest.importorskip("torchvision.models", reason="torchvision makes the weights")

    def make(name: str, file: str | None = None, **settings: object) -> tuple[torch.nn.Module, Path]:
        torch.manual_seed(3)
        if name in ("googlenet", "inception_v3"):
            settings = {"init_weights": False, **settings}
        network = getattr(models, name)(**settings).eval()
        path = tmp_path / (file or f"{name}.pth")
        torch.save(network.state_dict(), path)
        return network, path

    return make
