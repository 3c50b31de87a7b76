"""The code of others that computes a network: what its answers depend on besides its record and its parameters."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from torch import nn

from striate.models.sources import TIMM, is_own


def foreign_code(model: nn.Module) -> dict[str, str]:
    """timm's version for a network of timm; a digest of each file for one's own class; nothing for ours.

    The files are that of the class and those beside and below it that it imports, and that they import, as far as their
    `import` lines say; the class's own digest is in the network's record too.
    """
    source = getattr(model, "_source", None)
    if not isinstance(source, str):
        return {}
    if source.startswith(TIMM):
        return {"timm": version_of("timm")}
    return _files(Path(source.rpartition(":")[0]).expanduser().resolve()) if is_own(source) else {}


def version_of(package: str) -> str:
    """The version of an installed package, `none` where it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _files(first: Path) -> dict[str, str]:
    """Digests by path below the folder of `first`."""
    root, waiting, seen = first.parent, [first], {first}
    found: dict[str, str] = {}
    while waiting:
        file = waiting.pop()
        try:
            content = file.read_bytes()
            tree = ast.parse(content)
        except (OSError, SyntaxError, ValueError):
            continue
        where = file.relative_to(root)
        found[where.as_posix()] = hashlib.sha256(content).hexdigest()
        for name in _imported(tree, where.parent.parts):
            module = root.joinpath(*name)
            for path in (module / "__init__.py", module.with_name(f"{name[-1]}.py")):
                if path not in seen and path.is_file():
                    seen.add(path)
                    waiting.append(path)
    return found


def _imported(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The parts of every name that may be a module: of `import a.b` a and a.b, of `from a import b` these too."""
    for node in ast.walk(tree):
        names: list[tuple[str, ...]] = []
        if isinstance(node, ast.Import):
            names = [tuple(one.name.split(".")) for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = (*above, *(node.module.split(".") if node.module else ()))
            names = [(*module, one.name) for one in node.names]
        for name in names:
            yield from (name[:length] for length in range(1, len(name) + 1))
