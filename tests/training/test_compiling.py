"""Compilation by a measured rule: what is not worth measuring is not, and a look leaves no trace."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from striate.data import load_data
from striate.options import TrainOptions, from_mapping, load_recipe
from striate.progress import Progress
from striate.runfolder import RunFolder
from striate.runtime import random_state, why_not_compiled
from striate.training import compiling, resume, train
from striate.training.defaults import resolve, resolve_rate, resolve_runtime
from striate.training.session import open_session
from striate.training.start import build_model


@pytest.fixture
def session(quick, tmp_path):
    options = quick(optimizer={"lr": 0.05})
    dataset = load_data(options.data)
    options, spec = resolve(options, dataset)
    model = build_model(options, spec, dataset.labels, None, Progress()).model
    options = resolve_runtime(resolve_rate(options, dataset, model))
    return open_session(options, spec, dataset, RunFolder(tmp_path / "run"), model)


def test_earlier_recipes_say_yes_and_no(tmp_path):
    for word, choice in (("true", "on"), ("false", "off"), ('"auto"', "auto")):
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(f"[runtime]\ncompile = {word}\n")
        assert load_recipe(str(recipe)).runtime.compile == choice
    assert from_mapping(TrainOptions, {}).runtime.compile == "auto"


def test_a_short_run_is_not_measured(session, heard):
    choice = compiling.choose_compile(session, heard)
    assert choice.choice == "off"
    assert choice.eager_step_seconds is None
    assert heard.lines == heard.warnings == []


def test_a_longer_run_is_measured_without_a_trace(session, heard, monkeypatch):
    monkeypatch.setattr(compiling, "FEWEST_STEPS", 1)
    weights = {name: value.clone() for name, value in session.model.state_dict().items()}
    before = random_state()
    choice = compiling.choose_compile(session, heard)
    assert choice.choice == "off"
    assert choice.eager_step_seconds is not None
    assert "too short" in choice.reason
    assert all(torch.equal(value, weights[name]) for name, value in session.model.state_dict().items())
    assert torch.equal(random_state()["cpu"], before["cpu"])
    assert not session.optimizer.state
    assert all(parameter.grad is None for parameter in session.model.parameters())


def test_the_rule_weighs_what_is_saved_against_the_warm_up(session, heard, monkeypatch):
    monkeypatch.setattr(compiling, "FEWEST_STEPS", 1)
    monkeypatch.setattr(compiling, "WORTH_TRYING", 0)
    monkeypatch.setattr(compiling, "_seconds", lambda trial, batch: 1.0)
    steps = session.batches_per_epoch * session.options.schedule.epochs
    for warm_up, quick, expected in ((1.0, 0.5, "on"), (steps * 0.5, 0.5, "off"), (0.0, 1.1, "off")):
        monkeypatch.setattr(compiling, "_try", lambda session, batch, seconds=(warm_up, quick): seconds)
        assert compiling.choose_compile(session, heard).choice == expected


def test_a_compiler_that_fails_is_a_note_and_a_run_without(quick, heard, monkeypatch):
    monkeypatch.setenv("CXX", "/nonexistent/compiler")
    monkeypatch.setenv("PATH", "/nonexistent")
    result = train(quick(runtime={"compile": "on"}, schedule={"epochs": 1}), progress=heard)
    assert any("not compiled: there is no C++ compiler" in line for line in heard.warnings)
    run = RunFolder(result.run)
    assert run.read_recipe().runtime.compile == "off"
    assert run.read_environment()["compile"]["choice"] == "off"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_run_resumes_to_the_same_bits(quick, heard, precision):
    if why_not_compiled(torch.device("cpu")) is not None:
        pytest.skip("needs a C++ compiler")
    changes = {
        "model": {"model": "compact_s", "dropout": 0.3},
        "optimizer": {"lr": 0.05},
        "schedule": {"schedule": "constant", "epochs": 2},
        "runtime": {"compile": "on", "precision": precision},
    }
    whole = train(quick("whole", **changes), progress=heard)
    facts = RunFolder(whole.run).read_environment()
    assert facts["compile"]["choice"] == "on", heard.warnings
    torch.compiler.reset()  # as a new process would
    changes["schedule"]["epochs"] = 1
    stopped = train(quick("stopped", **changes))
    torch.compiler.reset()
    resumed = resume(stopped.run, epochs=2)
    expected, got = (load_file(RunFolder(one.run).model) for one in (whole, resumed))
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    eager = train(quick("eager", **{**changes, "runtime": {"compile": "off", "precision": precision}}))
    assert not all(torch.equal(value, expected[name]) for name, value in load_file(RunFolder(eager.run).model).items())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_network_unfreezes_and_resumes_to_the_same_bits(quick, heard):
    if why_not_compiled(torch.device("cpu")) is not None:
        pytest.skip("needs a C++ compiler")
    source = train(quick("source", model={"model": "compact_xs"}, schedule={"epochs": 1}))
    changes = {
        "model": {"model": None, "from": str(source.run)},
        "transfer": {"freeze_to": "stem", "cut": "group1", "head_epochs": 1},
        "optimizer": {"lr": 0.05},
        "schedule": {"schedule": "constant", "epochs": 3},
        "runtime": {"compile": "on"},
        "training": {"best_by": "last"},  # the first epoch, of the fitted head alone, may be the best one
    }
    whole = train(quick("whole", **changes), progress=heard)
    assert RunFolder(whole.run).read_environment()["compile"]["choice"] == "on", heard.warnings
    assert [row["frozen_to"] for row in RunFolder(whole.run).read_metrics()] == ["group1", "stem", "stem"]
    expected, start = load_file(RunFolder(whole.run).model), load_file(RunFolder(source.run).model)
    frozen = [name for name in expected if name.startswith("stem.")]
    assert all(torch.equal(expected[name], start[name]) for name in frozen)
    assert not torch.equal(*(one["stages.group1.0.conv.weight"] for one in (expected, start)))
    torch.compiler.reset()  # as a new process would
    changes["schedule"]["epochs"] = 2
    stopped = train(quick("stopped", **changes))
    torch.compiler.reset()
    got = load_file(RunFolder(resume(stopped.run, epochs=3).run).model)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
