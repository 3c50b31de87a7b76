"""`striate` and `python -m striate`."""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends in `SystemExit` with 0 done, 1 failed, 2 wrong usage or 130 interrupted."""
    from striate.cli.main import striate

    striate.main(prog_name="striate")


if __name__ == "__main__":
    main()
