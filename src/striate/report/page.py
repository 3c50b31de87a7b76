"""`write_report`: a run folder becomes report.html, one file that needs nothing else.

What the page may do is written into it as a content security policy: no request leaves it, and the only script that
runs is ours, known by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from striate.report import certainty, label_sets, sections, technical
from striate.report.depth import depth
from striate.report.diagnosis import findings_of, headline_split
from striate.report.evaluations import evaluations
from striate.report.evidence import Evidence
from striate.report.looking import looking
from striate.report.record import Record, count_manifest, read_record
from striate.report.robustness import robustness
from striate.report.transferring import transfer

if TYPE_CHECKING:
    import jinja2


def write_report(run: Path, output: Path | None = None) -> Path:
    """Write the report of one run folder and return its path.

    Args:
        run: the run folder; an unfinished run gets a report of what is there.
        output: another place for the page than `report.html` in the run folder.

    Raises:
        StriateError: `run` is no run folder.
        OSError: the page cannot be written.
    """
    run = Path(run)
    record = read_record(run)
    return write_page(output or run / "report.html", "report.html", report_values(record))


def report_values(record: Record) -> dict[str, Any]:
    """Everything that the template shows."""
    counts = (
        None
        if record.manifest is None
        else count_manifest(record.manifest, record.labels, multi_label=record.multi_label)
    )
    split = headline_split(record.evaluation)
    evidence = Evidence(
        epochs=record.epochs,
        steps=record.steps,
        evaluation=record.evaluation,
        environment=record.environment,
        counts=counts,
        reliability=certainty.bins_of(record),
        split=split,
    )
    return {
        "title": f"{record.model_name} on {record.data_name}",
        "run_name": record.run.resolve().name,
        "when": record.environment.get("started") or record.environment.get("date") or "",
        "version": record.environment.get("striate") or "",
        "problems": record.problems,
        "headline": sections.headline(record),
        "findings": findings_of(evidence),
        "data": sections.data(record, counts),
        "curves": sections.curves(record),
        "depth": depth(record),
        "mistakes": sections.mistakes(record),
        "classes": None if record.multi_label else sections.classes(record, counts),
        "labels": label_sets.labels(record, counts),
        "images": sections.images(record),
        "looking": looking(record),
        "calibration": certainty.calibration(record),
        "rejection": certainty.rejection(record),
        "thresholds": certainty.thresholds(record),
        "evaluations": evaluations(record),
        "robustness": robustness(record),
        "transfer": transfer(record),
        "timing": technical.timing(record),
        "network": technical.network(record),
        "options": technical.options(record),
        "environment": technical.environment(record),
    }


def write_page(path: Path, template: str, values: dict[str, Any], scripts: tuple[str, ...] = ("script.js",)) -> Path:
    """Render a template of ours with scripts of ours to `path`; a reader never meets half a page."""
    script = _script(scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _templates().get_template(template).render(**values, script=Markup(script), script_hash=digest)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    # a file name that is no valid Unicode must not cost the report
    scratch.write_bytes(page.encode("utf-8", errors="replace"))
    os.replace(scratch, path)
    return path


@cache
def _templates() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["coded"] = coded
    return environment


def coded(text: str) -> Markup:
    """Text, escaped, in which `words between backticks` are set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _text(name: str) -> str:
    return (resources.files("striate.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _script(names: tuple[str, ...]) -> str:
    return "\n".join(map(_text, names))
