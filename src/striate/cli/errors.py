"""How errors reach people: `error:` says what and where, `hint:` the next step; a traceback only with `--debug`.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from striate.errors import StriateError, nearest

INTERRUPTED = 130  # 128 + SIGINT, as shells expect
_HINTS = {
    errno.ENOSPC: "free some space and try again; `striate train --resume RUN` goes on with a run that was stopped",
    errno.EDQUOT: "free some space and try again; `striate train --resume RUN` goes on with a run that was stopped",
    errno.EACCES: "check who owns it, or name another folder",
    errno.EPERM: "check who owns it, or name another folder",
    errno.EROFS: "name a folder that can be written to",
    errno.ENOENT: "check the path for a typing mistake",
}


class Interrupted(StriateError):
    """Ctrl-C; the hint says how to go on."""

    exit_code = INTERRUPTED


def reported(main: Callable[..., Any], args: Sequence[str] | None, prog_name: str | None, **extra: Any) -> Any:
    """Call click's `main` so that every error ends in two lines on standard error and `SystemExit`."""
    if not extra.pop("standalone_mode", True):
        return main(args, prog_name, standalone_mode=False, **extra)
    words = list(sys.argv[1:] if args is None else args)
    try:
        code = main(words, prog_name, standalone_mode=False, **extra)
        if sys.stdout is not None:  # it was closed before the start
            sys.stdout.flush()
    except Exception as error:
        if "--debug" in words and not isinstance(error, (click.ClickException, click.Abort)):
            import traceback

            traceback.print_exception(error)
        message, hint, code = described(error)
        show_error(message, hint)
    sys.exit(code if isinstance(code, int) else 0)


def show_error(message: str, hint: str | None = None) -> None:
    """The two lines, on standard error."""
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def described(error: BaseException) -> tuple[str, str | None, int]:
    """Message, hint and exit code of any exception."""
    if isinstance(error, StriateError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, click.Abort):
        return "interrupted", None, INTERRUPTED
    if isinstance(error, click.NoSuchOption):
        return f"no such option {error.option_name}", _usage_hint(error), error.exit_code
    if isinstance(error, click.ClickException):
        return _lowered(error.format_message()), _usage_hint(error), error.exit_code
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{(error.strerror or str(error)).lower()}", _HINTS.get(error.errno), 1
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "allocate memory" in str(error):
        return "not enough memory", "try a smaller --batch-size or --input-size, or another --device", 1
    text = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {text}", "run again with --debug to see where it happened", 1


def _usage_hint(error: click.ClickException) -> str | None:
    """The nearest spelling where there is one, else the command whose help answers."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        spellings = [
            text for one in error.ctx.command.get_params(error.ctx) for text in (*one.opts, *one.secondary_opts)
        ]
        near = nearest(error.option_name, spellings)
        if near:
            return f"did you mean {' or '.join(near)}?"
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return None
    return f"`{error.ctx.command_path} --help` shows what it takes"


def _lowered(text: str) -> str:
    """One line, starting in lower case as all our messages do, without the closing full stop."""
    text = " ".join(text.split())
    return (text[:1].lower() + text[1:]).rstrip(".")
