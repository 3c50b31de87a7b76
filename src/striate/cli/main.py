"""The table of commands. A command's module is imported when that command is called, not to list it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from striate.cli.errors import reported
from striate.errors import UnknownNameError

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("striate.cli.train", "Train a network on images, evaluate it and write its report."),
    "check": ("striate.cli.check", "Examine a data set: unreadable files, duplicates, leaks, imbalance."),
    "probe": ("striate.cli.probe", "Measure what trained networks know about images, and plan the transfer."),
    "evaluate": ("striate.cli.evaluate", "Score a trained network on a split or on other data."),
    "predict": ("striate.cli.predict", "Rank the classes of image files, folders or standard input."),
    "explain": ("striate.cli.explain", "Show on which pixels of an image a network's answer depends."),
    "export": ("striate.cli.export", "Write a network as ONNX, OpenVINO or PyTorch program, checked against predict."),
    "models": ("striate.cli.models", "List the architectures with their papers and sizes."),
    "anatomy": ("striate.cli.anatomy", "Show a network layer by layer: shapes, costs, receptive fields."),
    "compare": ("striate.cli.compare", "Show networks side by side, and their accuracy over operations."),
    "bench": ("striate.cli.bench", "Time training and inference beside the machine's limits."),
    "report": ("striate.cli.report", "Write the report of a run folder again."),
    "runs": ("striate.cli.runs", "List, filter and prune run folders."),
}


class LazyGroup(click.Group):
    """A group whose commands are the literal table above."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run, and turn every error into its lines on standard error and its exit code."""
        return reported(super().main, args, prog_name, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        return import_module(COMMANDS[cmd_name][0]).command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """An unknown command is answered with the nearest ones."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UnknownNameError("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Names and lines from the table: nothing is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="`striate COMMAND --help` shows the options of a command. RUN is a run folder, `latest`, or a model file.",
)
@click.option("--version", is_flag=True, help="Print the version.")
@click.pass_context
def striate(ctx: click.Context, version: bool) -> None:
    """Convolutional networks, from the landmark papers to your own photos."""
    if version:
        from striate import __version__

        click.echo(f"striate {__version__}")
    elif ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
