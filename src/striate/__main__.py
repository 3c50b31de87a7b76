"""`striate` and `python -m striate`."""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends in `SystemExit` with 0 done, 1 failed, 2 wrong usage or 130 interrupted."""
    from striate.cli.main import striate

    try:
        striate.main(prog_name="striate")
    except SystemExit as end:
        if isinstance(end.code, int):
            from striate.runtime import end_process

            end_process(end.code)
        raise


if __name__ == "__main__":
    main()
