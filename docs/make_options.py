"""Write docs/options.md from the declarations: `python docs/make_options.py`."""

from pathlib import Path

from striate.options.table import options_table

if __name__ == "__main__":
    Path(__file__).with_name("options.md").write_text(options_table(), encoding="utf-8")
