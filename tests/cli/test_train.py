"""`striate train` with the training itself replaced: what is asked of it, and what is printed."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from striate import api
from striate.cli.main import striate
from striate.spec import RunResult, Scores

RESULT = RunResult(
    run=Path("runs/a"),
    model="compact_s",
    epochs=3,
    seconds=1.25,
    best_epoch=2,
    val=Scores(top1=0.9875, top5=0.999, loss=0.05, n=360),
    report=Path("runs/a/report.html"),
)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Calls that reached the training; runs in an empty folder."""
    calls = []
    monkeypatch.chdir(tmp_path)

    def train(options, **others):
        calls.append(options)
        return RESULT

    def resume(run, **others):
        calls.append((run, others["epochs"]))
        return RESULT

    monkeypatch.setattr(api, "train_and_report", train)
    monkeypatch.setattr(api, "resume", resume)
    return calls


def run(*words):
    return CliRunner().invoke(striate, ["train", *words])


def make_run(path: Path) -> Path:
    (path / "resume").mkdir(parents=True)
    (path / "recipe.toml").write_text("")
    return path


def test_without_data_it_trains_on_digits(asked):
    assert run().exit_code == 0
    assert asked[0].data.data == "digits"


def test_the_argument_wins_over_the_recipe(asked, tmp_path):
    (tmp_path / "r.toml").write_text('[data]\ndata = "mnist"\n[schedule]\nepochs = 9\n')
    run("--recipe", "r.toml")
    run("cifar10", "--recipe", "r.toml", "--epochs", "2")
    assert [(one.data.data, one.schedule.epochs) for one in asked] == [("mnist", 9), ("cifar10", 2)]


def test_the_summary_says_split_scores_seconds_and_where_things_are(asked):
    text = run().stdout
    assert "validation  top-1 98.75%, top-5 99.90%, loss 0.0500, 360 images" in text
    assert "compact_s, 3 epochs, best 2, 1.2 s" in text
    assert "runs/a/report.html" in text
    assert "test" not in text


def test_json_is_the_result_and_nothing_else(asked):
    found = json.loads(run("--json").stdout)
    assert found["val"] == {"top1": 0.9875, "top5": 0.999, "loss": 0.05, "n": 360}
    assert (found["run"], found["model"], found["epochs"], found["seconds"]) == ("runs/a", "compact_s", 3, 1.25)
    assert "test" not in found


def test_resume_finds_the_run_and_passes_the_new_number_of_epochs(asked, tmp_path):
    make_run(tmp_path / "runs" / "old")
    make_run(tmp_path / "elsewhere" / "other")
    assert run("--resume", "latest").exit_code == 0
    assert run("--resume", "old", "--epochs", "9").exit_code == 0
    assert run("--resume", "other", "--runs", "elsewhere").exit_code == 0
    assert asked == [(Path("runs/old"), None), (Path("runs/old"), 9), (Path("elsewhere/other"), None)]


@pytest.mark.parametrize("words", [("mnist",), ("--lr", "0.1"), ("--no-report",), ("--recipe", "r.toml")])
def test_resume_takes_no_other_data_or_options(asked, tmp_path, words):
    (tmp_path / "r.toml").write_text("")
    make_run(tmp_path / "runs" / "old")
    result = run("--resume", "old", *words)
    assert result.exit_code == 2
    assert "error: --resume goes on with the data and options of its run, not with" in result.stderr
    assert "hint: only --epochs can change" in result.stderr
    assert asked == []


def test_resuming_where_there_is_no_run_says_so(asked):
    result = run("--resume", "latest")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: there is no run in runs yet\nhint: ")


def test_an_interrupt_says_how_to_go_on(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    old = make_run(tmp_path / "runs" / "old")
    os.utime(old / "recipe.toml", (1, 1))

    def train(options, **others):
        make_run(tmp_path / "runs" / "new")
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "train_and_report", train)
    result = run()
    assert result.exit_code == 130
    assert result.stderr == "error: interrupted\nhint: `striate train --resume runs/new` goes on where it stopped\n"


def test_an_interrupt_before_anything_was_written_gives_no_false_hope(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    os.utime(make_run(tmp_path / "runs" / "old") / "recipe.toml", (1, 1))

    def train(options, **others):
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "train_and_report", train)
    result = run()
    assert (result.exit_code, result.stderr) == (130, "error: interrupted\n")
