"""The house of ARCHITECTURE.md: a file imports only from floors below, and rooms on one floor are strangers.

Read from the syntax trees, so that imports inside functions and under TYPE_CHECKING count too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "striate"

FLOORS = (
    ("version", "errors"),
    ("spec",),
    ("options",),
    ("layers", "runtime", "progress"),
    ("models", "data"),
    ("inference", "anatomy", "checkpoint", "runfolder", "hub", "metrics", "linear"),
    ("network",),
    ("prediction", "evaluation", "explanation"),
    ("training", "exporting"),
    ("transfer",),
    ("report", "serving", "bench"),
    ("api",),
    ("cli",),
    ("__init__", "__main__"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Slow to import: loaded only by the functions that need them.
SLOW = {"torchvision", "sklearn", "matplotlib", "scipy", "pandas", "timm", "torchmetrics", "jinja2", "IPython"}
# The rooms that `striate --help`, `COMMAND --help`, `import striate` go through: no array library at module level.
LIGHT = {"version", "errors", "spec", "options", "runtime", "progress", "runfolder", "api", "cli", "__init__"}
ARRAYS = {"torch", "numpy", "pyarrow", "PIL", "safetensors", "rich"}
# Classes derived from a slow library's: only the front door may name them, which loads them on first use.
DERIVED = {"striate.transfer.estimators": {"sklearn"}}

MODULES = sorted(SOURCE.rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


NAMES = {dotted(path) for path in MODULES}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every imported module by its full name, with the line: `from striate.data import cache` may mean a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are written in full, from striate..."
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield (longer if longer in NAMES else str(node.module)), node.lineno


class _WithoutTypeChecking(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST:
        return ast.Pass() if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)


class _WithoutFunctions(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return ast.Pass()

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return ast.Pass()


def at_run_time(path: Path) -> ast.Module:
    """The tree without what only a type checker sees."""
    return _WithoutTypeChecking().visit(tree_of(path))


def at_import(path: Path) -> ast.Module:
    """The tree of what runs when the module is imported."""
    return _WithoutFunctions().visit(at_run_time(path))


def room_of(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_go_down(path: Path):
    own = room_of(dotted(path))
    assert own in FLOOR, f"{own} is on no floor: give it one here and in ARCHITECTURE.md"
    for module, line in imported(tree_of(path)):
        if module == "striate":
            assert own in ("cli", "__main__"), f"{path}:{line}: a room imports from rooms, not from the front door"
        elif module.startswith("striate."):
            other = room_of(module)
            assert other == own or FLOOR[other] < FLOOR[own], f"{path}:{line}: {own} may not import {other}"


def test_no_module_imports_itself_in_a_circle():
    graph = {
        dotted(path): {name for name, _ in imported(at_run_time(path)) if name in NAMES} - {dotted(path)}
        for path in MODULES
    }
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for other in sorted(graph[module]):
                walk(other, (*trail, module))
            done.add(module)

    for module in graph:
        walk(module, ())


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_slow_libraries_are_imported_where_they_are_used(path: Path):
    refused = (SLOW | (ARRAYS if room_of(dotted(path)) in LIGHT else set())) - DERIVED.get(dotted(path), set())
    for module, line in imported(at_import(path)):
        assert module.split(".")[0] not in refused, f"{path}:{line}: import {module} inside the function that needs it"
        assert module not in DERIVED, f"{path}:{line}: {module} loads {DERIVED[module]}"
        assert not module.startswith(("torch._dynamo", "torch._inductor")), f"{path}:{line}"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if room_of(dotted(path)) not in ("cli", "progress")], ids=dotted
)
def test_only_the_command_line_prints(path: Path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "sys.stdout.write", "sys.stderr.write", "click.echo"), (
                f"{path}:{node.lineno}"
            )


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_files_stay_readable_in_one_sitting(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
