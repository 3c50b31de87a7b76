"""The one way in which rooms below the command line speak while they work: tasks that advance, and single lines.

Rooms take a `Progress` and never print. `Silent`, the base, is the default; `Console` shows bars in a terminal or a
notebook, and plain lines where the output is a file or a pipe. All of it goes to standard error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


class Task:
    """Something under way; this base shows nothing."""

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count `count` more units as done; `note` replaces the few words beside the bar."""


class Progress:
    """Where a room reports what it does; this base shows nothing."""

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        """Work of `total` units (None: unknown) as a context manager that gives the `Task` to advance."""
        yield Task()

    def say(self, text: str) -> None:
        """One line that the user should see."""

    def warn(self, text: str) -> None:
        """One line that the user should not miss."""


Silent = Progress


class Bars(Progress):
    """The tasks and warnings of another `Progress`, without its lines."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        """As the other shows it."""
        with self._shown.task(title, total) as task:
            yield task

    def warn(self, text: str) -> None:
        """As the other shows it."""
        self._shown.warn(text)


class Named(Progress):
    """Another `Progress`, before each of whose lines stands whom of several it is about."""

    def __init__(self, shown: Progress, name: str) -> None:
        self._shown, self._name = shown, name

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        """As the other shows it."""
        with self._shown.task(title, total) as task:
            yield task

    def say(self, text: str) -> None:
        """The line, with the name."""
        self._shown.say(f"{self._name}: {text}")

    def warn(self, text: str) -> None:
        """The line, with the name."""
        self._shown.warn(f"{self._name}: {text}")


class Console(Progress):
    """Bars where standard error is a terminal or a notebook, plain lines elsewhere, and those for long tasks only.

    A warning is shown once, though several splits or seeds of one command may give it.
    """

    def __init__(self, *, plain: bool | None = None) -> None:
        from rich.console import Console as RichConsole

        self._console = RichConsole(stderr=True, highlight=False)
        # bars in a notebook are widgets, which are a package of their own
        notebook = self._console.is_jupyter and find_spec("ipywidgets") is not None
        interactive = notebook or (self._console.is_terminal and not self._console.is_jupyter)
        self._plain = not interactive if plain is None else plain
        self._warned: set[str] = set()

    @contextmanager
    def task(self, title: str, total: int | None = None) -> Iterator[Task]:
        """A bar, or in plain output a line every ten seconds."""
        if self._plain:
            yield _PlainTask(title, total)
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with RichProgress(*columns, TextColumn("{task.fields[note]}"), console=self._console, transient=True) as bar:
            yield _BarTask(bar, bar.add_task(title, total=total, note=""))

    def say(self, text: str) -> None:
        """One line on standard error."""
        self._console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """One line on standard error, marked as a warning; the same one again is left out."""
        if text in self._warned:
            return
        self._warned.add(text)
        self._console.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)


class _PlainTask(Task):
    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._total, self._done, self._note = title, total, 0, ""
        self._start = self._shown = time.monotonic()

    def advance(self, count: int = 1, note: str | None = None) -> None:
        self._done += count
        self._note = self._note if note is None else note
        if time.monotonic() - self._shown > 10:
            self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        count = f"{self._done} done" if self._total is None else f"{self._done}/{self._total}"
        seconds = self._shown - self._start
        print(f"{self._title}: {count}  {seconds:.0f} s  {self._note}".rstrip(), file=sys.stderr, flush=True)


class _BarTask(Task):
    def __init__(self, bar: object, task_id: object) -> None:
        self._bar, self._id = bar, task_id

    def advance(self, count: int = 1, note: str | None = None) -> None:
        fields = {} if note is None else {"note": note}
        self._bar.update(self._id, advance=count, **fields)  # type: ignore[attr-defined]
