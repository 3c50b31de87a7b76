"""The public names: each resolves, and keywords of the verbs are the declared options."""

import pytest

import striate
from striate.api import progress_of, run_or_file, sections_of
from striate.errors import CheckpointError, UnknownNameError, UsageError
from striate.progress import Console, Progress


@pytest.mark.parametrize("name", striate.__all__)
def test_every_public_name_resolves(name):
    assert getattr(striate, name) is not None
    assert name in dir(striate)


def test_the_list_for_type_checkers_is_the_list_of_the_front_door():
    import ast
    from pathlib import Path

    tree = ast.parse(Path(striate.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {(alias.name, line.module) for line in block.body for alias in line.names}  # type: ignore[attr-defined]
    assert seen == set(striate._HOME.items())


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = striate.trian


def test_keywords_are_sorted_into_their_sections():
    settings = {"epochs": 3, "weight_decay": 1e-4, "from_": "scratch", "device": "cpu"}
    assert sections_of(settings) == {
        "schedule": {"epochs": 3},
        "regularize": {"weight_decay": 1e-4},
        "model": {"from": "scratch"},
        "runtime": {"device": "cpu"},
    }


def test_unknown_keywords_are_answered_with_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        striate.train("digits", epoch=3)
    assert caught.value.message == "unknown option 'epoch'"
    assert caught.value.nearest[0] == "epochs"


def test_values_are_checked_before_anything_is_loaded():
    with pytest.raises(UsageError, match=r"schedule\.epochs = 0"):
        striate.train("digits", epochs=0)
    with pytest.raises(UsageError, match="unknown option of the data 'epochs'"):
        striate.load_data("digits", epochs=3)


def test_progress_is_shown_unless_silenced():
    own = Progress()
    assert progress_of(own) is own
    assert type(progress_of(False)) is Progress
    assert type(progress_of(True)) is Console


def test_run_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "runs" / "2026-a").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="no run in runs yet"):
        run_or_file("latest")
    (tmp_path / "runs" / "2026-a" / "recipe.toml").write_text("")
    assert str(run_or_file("model.safetensors")) == "model.safetensors"
    assert {str(run_or_file(text)) for text in ("latest", "2026", "runs/2026-a")} == {"runs/2026-a"}
    with pytest.raises(UnknownNameError, match="unknown run"):
        run_or_file("2027")
