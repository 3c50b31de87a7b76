"""`striate anatomy` and `striate compare`."""

import csv
import io
import json
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from striate.cli.anatomy import command as anatomy
from striate.cli.compare import command as compare


def call(command, *arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def run(command, *arguments: str) -> str:
    result = call(command, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_has_the_promised_fields():
    found = json.loads(run(anatomy, "lenet5_dense", "--json"))
    assert (found["model"], found["input"], found["params"], found["macs"]) == (
        "lenet5_dense",
        [1, 32, 32],
        61_706,
        416_520,
    )
    assert found["receptive_field"] == 32
    assert found["activation_bytes"] == sum(row["activation_bytes"] for row in found["layers"])
    assert sum(row["params"] for row in found["layers"]) == 61_706
    first = found["layers"][0]
    assert {"name", "op", "output", "params", "macs", "receptive_field", "stride"} <= first.keys()
    assert (first["op"], first["output"], first["weights"], first["flops"]) == ("conv 5x5", [6, 28, 28], 150, 235_200)
    assert first["centre_field"] == [[14, 18], [14, 18]]
    assert found["published"]["registered_params"] == 61_706


def test_tables_fit_the_terminal_and_show_the_papers_figures():
    for name in ("alexnet_2012", "resnet34", "inception_naive"):
        text = run(anatomy, name)
        assert all(len(line) <= 120 for line in text.splitlines()), name
    assert "the paper says 60 M" in run(anatomy, "alexnet_2012")
    folded, whole = run(anatomy, "resnet34"), run(anatomy, "resnet34", "--all")
    assert "--all shows every one" in folded
    assert "--all" not in whole
    assert "stages.conv2_x.0.conv1" in whole
    assert len(run(anatomy, "resnet34", "--depth", "1").splitlines()) < 20


def test_size_channels_and_classes():
    found = json.loads(run(anatomy, "resnet18", "--input-size", "64x96", "--channels", "1", "--classes", "7", "--json"))
    assert found["input"] == [1, 64, 96]
    assert found["layers"][-1]["output"] == [7]
    assert found["layers"][0]["params"] == 64 * 49
    assert call(anatomy, "resnet18", "--input-size", "big").exit_code == 2


def test_blocks_can_be_counted_on_their_own():
    found = json.loads(run(anatomy, "inception_naive", "--json"))
    assert (found["model"], found["input"], found["macs"]) == ("inception_naive", [256, 28, 28], 854_196_224)
    result = call(anatomy, "inception_naive", "--classes", "10")
    assert result.exit_code == 2
    assert "--classes" in result.stderr


def test_auxiliary_heads_stand_beside():
    found = json.loads(run(anatomy, "googlenet", "--json"))
    assert found["params"] == 6_998_552
    assert found["params_aux"] == sum(row["params"] for row in found["auxiliary_layers"]) > 6e6
    assert found["macs_aux"] == sum(row["macs"] for row in found["auxiliary_layers"])


def test_csv_and_markdown(tmp_path):
    rows = list(csv.DictReader(io.StringIO(run(anatomy, "lenet5", "--format", "csv"))))
    assert sum(int(row["macs"]) for row in rows) == 416_520
    run(anatomy, "lenet5", "--format", "markdown", "-o", str(tmp_path / "table.md"))
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0].startswith("| layer | operation |")
    assert len({line.count("|") for line in lines}) == 1


def test_pictures(tmp_path):
    run(anatomy, "lenet5", "--picture", str(tmp_path / "lenet.png"))
    with Image.open(tmp_path / "lenet.png") as picture:
        assert min(picture.size) > 300
    run(compare, "lenet5", "lenet5_1998", "--chart", str(tmp_path / "chart.svg"))
    ElementTree.parse(tmp_path / "chart.svg")
    wrong = call(anatomy, "lenet5", "--picture", str(tmp_path / "lenet.jpg"))
    assert wrong.exit_code == 2
    assert ".png or .svg" in wrong.stderr


def test_one_layer():
    text = run(anatomy, "--conv", "input 224 kernel 11 stride 4 channels 3 filters 96")
    assert "floor(54.25) = 54" in text
    assert "34,944 with 96 biases" in text
    assert "leaves the last 1 pixel" in text
    found = json.loads(run(anatomy, "--conv", "input 227 kernel 11 stride 4 channels 3 filters 96", "--json"))
    assert (found["output"], found["params"], found["macs"]) == ([96, 55, 55], 34_944, 105_415_200)
    assert call(anatomy, "--conv", "input 224").exit_code == 2
    assert call(anatomy).exit_code == 2
    assert call(anatomy, "lenet5", "--conv", "input 8 kernel 3").exit_code == 2
    bare = run(anatomy, "--conv", "input 227 kernel 11 stride 4 channels 3 filters 96 no bias")
    assert "parameters       34,848 without biases" in bare
    assert "at most 2x2 pixels" in run(anatomy, "--conv", "transposed input 7 kernel 4 stride 2 pad 1")


@pytest.mark.parametrize(
    "options",
    [
        ("--picture", "layer.png"),
        ("--output", "layer.txt"),
        ("--format", "csv"),
        ("--input-size", "9"),
        ("--channels", "3"),
        ("--classes", "3"),
        ("--depth", "1"),
        ("--all",),
        ("--runs", "elsewhere"),
    ],
)
def test_one_layer_takes_no_options_of_networks(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(anatomy, "--conv", "input 8 kernel 3", *options)
    assert result.exit_code == 2
    assert options[0] in result.stderr
    assert not list(tmp_path.iterdir())


def test_unknown_names_are_answered_with_the_nearest():
    for command in (anatomy, compare):
        result = call(command, "lennet5")
        assert result.exit_code == 2
        assert "lenet5" in result.stderr


def test_side_by_side():
    found = json.loads(run(compare, "lenet5", "cifar_resnet2*", "--dataset", "CIFAR-10 test", "--json"))
    assert [row["model"] for row in found["models"]] == ["lenet5_dense", "cifar_resnet20"]
    resnet = found["models"][1]
    assert (resnet["params"], resnet["macs"], resnet["receptive_field"]) == (269_722, 40_551_040, 81)
    assert resnet["top1"] == pytest.approx(0.9125)
    assert found["models"][0]["top1"] is None
    text = run(compare, "resnet18", "vgg16", "googlenet")
    assert all(len(line) <= 120 for line in text.splitlines())
    assert "ImageNet val" in text


def test_a_network_stands_once_in_a_comparison():
    given = ("cifar_resnet20", "lenet5", "resnet20", "cifar_resnet2*", "lenet5_dense")
    found = json.loads(run(compare, *given, "--json"))
    assert [row["model"] for row in found["models"]] == ["cifar_resnet20", "lenet5_dense"]


def test_weights_leave_out_scales_and_missing_fields_are_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert json.loads(run(anatomy, "bn_inception_fig5", "--json"))["weights"] == 11_264_192
    (tmp_path / "gated.py").write_text(
        "import torch\n"
        "class Gated(torch.nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())\n"
        "    def forward(self, maps):\n"
        "        maps = super().forward(maps)\n"
        "        return (maps * maps.mean((2, 3), keepdim=True).sigmoid()).mean((2, 3))\n"
    )
    arguments = ("gated.py:Gated", "--input-size", "32", "--channels", "3", "--classes", "4")
    found = json.loads(run(anatomy, *arguments, "--json"))
    assert found["receptive_field"] is None
    assert "squeeze-and-excitation" in found["receptive_field_note"]
    assert "squeeze-and-excitation" in run(anatomy, *arguments)


def test_compare_knows_the_data_sets():
    from striate.cli.compare import command as compare

    result = CliRunner().invoke(compare, ["resnet18", "--dataset", "ImageNet vaal"])
    assert result.exit_code == 2
    assert "ImageNet val" in result.stderr
