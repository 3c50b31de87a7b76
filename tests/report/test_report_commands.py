import json
import os
import time

import pytest
from click.testing import CliRunner

from striate.cli.report import command as report_command
from striate.cli.runs import command as runs_command


def call(command, *arguments):
    return CliRunner().invoke(command, [str(one) for one in arguments])


def aged(run, hours):
    """Make a folder look as if nothing had touched it for hours."""
    then = time.time() - 3600 * hours
    for path in run.rglob("*"):
        os.utime(path, (then, then))
    return run


@pytest.fixture
def runs(make_run, tmp_path):
    aged(make_run("old-digits", accuracy=0.9), 30)
    aged(make_run("new-digits", accuracy=0.99), 10)
    aged(make_run("some-mnist", data="mnist", model="resnet20", accuracy=0.7), 20)
    aged(make_run("dead-digits", finished=False, epochs=3), 5)
    make_run("busy-digits", finished=False, epochs=2)
    return tmp_path / "runs"


def names(result):
    assert result.exit_code == 0, result.output
    return [row["run"].split("/")[-1] for row in json.loads(result.stdout)["runs"]]


def test_runs_are_listed_newest_first(runs):
    assert names(call(runs_command, runs, "--json")) == [
        "busy-digits",
        "dead-digits",
        "new-digits",
        "some-mnist",
        "old-digits",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--model", "ResNet*"), ["some-mnist"]),
        (("--data", "mnist"), ["some-mnist"]),
        (("--min-top1", "0.95"), ["new-digits"]),
        (("--status", "unfinished"), ["busy-digits", "dead-digits"]),
        (("--status", "finished", "--data", "digits"), ["new-digits", "old-digits"]),
    ],
)
def test_filters(runs, arguments, expected):
    assert names(call(runs_command, runs, "--json", *arguments)) == expected


def test_a_run_that_is_named_twice_is_compared_once(runs):
    words = ["old-digits", "--runs", runs, "--json"]
    assert set(json.loads(call(report_command, "old-digits", *words).stdout)) == {"report"}
    found = json.loads(call(report_command, "old-digits", "new-digits", *words).stdout)
    assert found["report"].endswith("comparison.html")
    assert len(found["pairs"]) <= 1


def test_json_fields(runs):
    row = json.loads(call(runs_command, runs, "--data", "mnist", "--json").stdout)["runs"][0]
    assert set(row) == {"run", "model", "data", "epochs", "val_top1", "test_top1", "seconds", "bytes", "status"}
    assert row["epochs"] == 20
    assert row["test_top1"] is None
    assert row["bytes"] > 10_000


def test_the_table_for_people(runs):
    lines = call(runs_command, runs).stdout.splitlines()
    assert lines[0].split() == ["run", "model", "data", "epochs", "val", "test", "seconds", "size", "status"]
    assert "unfinished, in use?" in lines[1]
    assert len(lines) == 6


def left(runs):
    return sorted(path.name for path in runs.iterdir())


def test_pruning_is_dry_without_yes(runs):
    before = left(runs)
    result = call(runs_command, runs, "--prune")
    assert "would remove" in result.stdout
    assert "dead-digits" in result.stdout
    assert left(runs) == before


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        ((), {"dead-digits"}),
        (("--below", "0.8"), {"some-mnist"}),
        (("--keep-best", "1"), {"old-digits", "dead-digits"}),
        (("--keep-newest", "2"), {"new-digits", "some-mnist", "old-digits"}),
        (("--keep-newest", "0", "--data", "mnist"), {"some-mnist"}),
    ],
)
def test_pruning_removes_what_it_says(runs, arguments, gone):
    before = set(left(runs))
    result = call(runs_command, runs, "--prune", "--yes", "--json", *arguments)
    assert result.exit_code == 0, result.output
    assert {path.split("/")[-1] for path in json.loads(result.stdout)["removed"]} == gone
    assert before - set(left(runs)) == gone


def test_a_busy_run_is_never_removed(runs):
    call(runs_command, runs, "--prune", "--yes", "--keep-newest", "0")
    assert left(runs) == ["busy-digits"]


def test_a_link_and_what_it_points_to_stay(runs, tmp_path, make_run):
    target = aged(make_run("../elsewhere", finished=False), 50)
    (runs / "link").symlink_to(target, target_is_directory=True)
    result = call(runs_command, runs, "--prune", "--yes")
    assert "is a link and stays" in result.stderr
    assert (target / "recipe.toml").is_file()


def test_a_damaged_run_is_still_listed(runs):
    (runs / "old-digits" / "evaluation.json").write_text("{")
    (runs / "old-digits" / "recipe.toml").write_text("= no toml")
    assert "old-digits" in call(runs_command, runs).stdout


@pytest.mark.parametrize("arguments", [("--keep-best", "1"), ("--prune", "--keep-best", "1", "--below", "0.5")])
def test_wrong_usage(runs, arguments):
    assert call(runs_command, runs, *arguments).exit_code == 2


def test_no_runs(tmp_path):
    assert names(call(runs_command, tmp_path / "none", "--json")) == []


def test_report_of_one_run(runs):
    result = call(report_command, "new-digits", "--runs", runs, "--json")
    assert json.loads(result.stdout) == {"report": str(runs / "new-digits" / "report.html")}
    assert (runs / "new-digits" / "report.html").is_file()


def test_report_of_several_runs(runs, tmp_path):
    out = tmp_path / "page.html"
    result = call(report_command, runs / "new-digits", runs / "old-digits", "--output", out, "--json")
    row = json.loads(result.stdout)
    assert row["report"] == str(out)
    assert [(pair["split"], pair["n"], pair["of"]) for pair in row["pairs"]] == [("val", 359, 359)]
    assert "2 runs compared" in out.read_text(encoding="utf-8")


def test_report_of_an_unknown_run(runs):
    result = call(report_command, "nwe-digits", "--runs", runs)
    assert result.exit_code == 2
    assert "new-digits" in result.stderr
