"""`striate models`."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from striate.cli.models import command, short
from striate.models import entries, sources


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_json_lists_every_architecture_with_the_promised_fields():
    rows = json.loads(run("--json"))["models"]
    assert [row["name"] for row in rows] == [entry.name for entry in entries()]
    promised = {"name", "family", "paper", "year", "input", "params", "macs", "aliases"}
    assert all(promised <= row.keys() for row in rows)
    lenet = next(row for row in rows if row["name"] == "lenet5_1998")
    assert (lenet["input"], lenet["params"], lenet["macs"], lenet["year"]) == ([1, 32, 32], 60_000, 326_520, 1998)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("LeNet5_", ["lenet5_1998", "lenet5_dense"]),
        ("vgg16", ["vgg_d"]),  # an alias wins over a part of vgg16_bn
        ("ResNet20", ["cifar_resnet20"]),  # and over a part of preact_resnet200
        ("resnet200", ["preact_resnet200"]),
        ("resnet18*", ["resnet18", "resnet18_a"]),
        ("compact", ["compact_xs", "compact_s", "compact_m", "compact_l"]),  # a family
    ],
)
def test_pattern(pattern, names):
    assert [row["name"] for row in json.loads(run(pattern, "--json"))["models"]] == names


def test_a_name_that_is_a_family_too_lists_the_family():
    for pattern in ("squeezenet", "mobilenet", "googlenet"):
        expected = [one.name for one in entries() if one.family == pattern or pattern in (one.name, *one.aliases)]
        assert len(expected) > 1
        assert [row["name"] for row in json.loads(run(pattern, "--json"))["models"]] == expected


def test_networks_of_timm():
    timm = pytest.importorskip("timm", reason="timm lists its own networks")
    rows = json.loads(run("timm:resnet18*", "--json"))["models"]
    assert [row["name"] for row in rows] == [f"timm:{name}" for name in timm.list_models("resnet18*")]
    ours = json.loads(run("resnet18", "--json"))["models"]
    assert all(row.keys() == ours[0].keys() for row in rows)
    (row,) = json.loads(run("TIMM:resnet18", "--json"))["models"]
    assert row["weights"] == [f"timm:{full.replace('.', ':')}" for full in timm.list_pretrained("resnet18.*")]
    assert row["input"] == [3, 224, 224]
    assert (row["params"], row["macs"], row["paper"], row["year"]) == (None, None, None, None)
    assert json.loads(run("timm:resnet18.a1_in1k", "--json"))["models"] == [row]
    some = json.loads(run("timm:test_", "--json"))["models"]
    assert {row["name"] for row in some} >= {"timm:test_resnet", "timm:test_vit"}
    everything = json.loads(run("timm:", "--json"))["models"]
    assert len(everything) == len(timm.list_models())
    without = [row for row in everything if not row["weights"]]
    assert without
    assert all(row["input"] is None for row in without)


def test_networks_of_timm_in_words():
    pytest.importorskip("timm", reason="timm lists its own networks")
    output = run("timm:resnet18")
    assert "3x224x224" in output
    assert "a1_in1k" in output
    assert all(line.strip() and len(line) <= 160 for line in run("timm:").splitlines())


def test_a_network_that_timm_does_not_have():
    pytest.importorskip("timm", reason="timm lists its own networks")
    result = CliRunner().invoke(command, ["timm:resnet19"])
    assert result.exit_code == 2
    assert "resnet18" in result.stderr


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    result = CliRunner().invoke(command, ["timm:resnet18"])
    assert result.exit_code == 1
    assert "needs timm" in result.stderr
    assert "striate[timm]" in result.stderr


def test_table_shows_names_sizes_and_papers():
    output = run("lenet")
    assert "lenet5_1998" in output
    assert "60,000" in output
    assert "LeCun" in output
    assert all(len(line) <= 120 for line in run().splitlines())


def test_published_weights_are_listed():
    rows = {row["name"]: row for row in json.loads(run("--json"))["models"]}
    assert rows["resnet50_v1_5"]["weights"] == ["resnet50:imagenet1k_v1", "resnet50:imagenet1k_v2"]
    assert rows["vgg_d"]["weights"] == ["vgg16:imagenet1k_v1"]
    assert rows["resnet50"]["weights"] == rows["lenet5_1998"]["weights"] == []


def test_no_match_is_answered_with_the_nearest():
    result = CliRunner().invoke(command, ["lennet5"])
    assert result.exit_code == 2
    assert "lenet5" in result.stderr


def test_listing_does_not_load_torch():
    code = "import sys, striate.cli.models, striate.models.registry, striate.models; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999"), (416_520, "417 k"), (40_551_040, "40.6 M"), (1.814e9, "1.81 G")]
)
def test_short(count, text):
    assert short(int(count)) == text
