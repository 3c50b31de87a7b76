"""`striate models`."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from striate.cli.models import command, short
from striate.models import entries


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
        ("LeNet5", ["lenet5_1998", "lenet5_dense"]),
        ("vgg16", ["vgg_d", "vgg16_bn"]),  # an alias and a name
        ("resnet18*", ["resnet18", "resnet18_a"]),
        ("compact", ["compact_s", "compact_m", "compact_l"]),  # a family
    ],
)
def test_pattern(pattern, names):
    assert [row["name"] for row in json.loads(run(pattern, "--json"))["models"]] == names


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
