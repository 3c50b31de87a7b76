"""`striate bench`: what is measured, in which order, and the arithmetic of what is reported."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import striate as front_door
from striate.anatomy import anatomy_of
from striate.bench.limits import limit_of, memory_needed, operations
from striate.bench.peaks import MATRIX_SIDES, Peaks
from striate.bench.result import Row
from striate.bench.run import _Measured, measure_in_turn
from striate.bench.runners import Machine, TrainingRunner, training_session
from striate.bench.settings import Setting, settings_of
from striate.checkpoint import SavedModel
from striate.cli.main import striate
from striate.errors import UsageError
from striate.inference.engines import installed
from striate.models import create_model
from striate.options.bench import BenchOptions
from striate.progress import Task
from striate.runtime import processor_has_bf16
from striate.spec import InputSpec, Labels

CPU = torch.device("cpu")


def setting(work: str = "train", precision: str = "fp32", batch_size: int = 4, backend: str = "torch") -> Setting:
    return Setting(work, backend, "nhwc", precision, batch_size)


@pytest.fixture(scope="module")
def saved() -> SavedModel:
    model = create_model("compact_s", in_channels=1, input_size=8, classes=10).eval()
    spec = InputSpec(size=(8, 8), channels=1, mean=(0.5,), std=(0.5,))
    return SavedModel(model=model, spec=spec, labels=Labels(tuple("0123456789")))


@pytest.fixture(scope="module")
def peaks() -> Peaks:
    measured = Peaks(["fp32"], CPU, 0.001)
    measured.measure()
    measured.measure()
    return measured


@pytest.fixture(scope="module")
def small_net() -> nn.Module:
    """Convolution 3 -> 8, 3x3, padded, on 6x6: 7,776 MACs; linear 288 -> 5: 1,440."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))


def test_operations_by_hand(small_net):
    anatomy = anatomy_of(small_net, 6, 3)
    assert operations(anatomy, "infer") == 2 * (7776 + 1440)
    assert operations(anatomy, "train") == 2 * (3 * (7776 + 1440) - 7776)


def test_figures_of_a_row_by_hand():
    row = Row(setting("train", batch_size=50), (100.0, 400.0, 200.0), 3_000_000_000, 1000.0, None)
    assert row.images_per_second == 200
    assert row.gflops == pytest.approx(600)
    assert row.share_of_peak == pytest.approx(0.6)
    shown = row.to_dict()
    assert shown["ms_per_batch"] == pytest.approx(250)
    assert (shown["least"], shown["greatest"], shown["repeats"]) == (100, 400, 3)
    assert shown["sd"] == pytest.approx(152.7525, rel=1e-5)


def test_the_limit_of_one_layer_by_hand(small_net, peaks):
    """The longer of computing and moving, layer by layer; here summed up again from the layers written out."""
    one = setting("train", batch_size=10)
    flops, bandwidth = (peaks.gflops("fp32") or 0) * 1e9, peaks.copy_bandwidth
    conv = (2 * 2 * 7776 * 10 / flops, 5 * 4 * 288 * 10 / bandwidth(11520) + 8 * 4 * 216 / bandwidth(8 * 4 * 216))
    relu = (0, 5 * 4 * 288 * 10 / bandwidth(11520))
    linear = (2 * 3 * 1440 * 10 / flops, 5 * 4 * 5 * 10 / bandwidth(200) + 8 * 4 * 1445 / bandwidth(8 * 4 * 1445))
    limit = limit_of(anatomy_of(small_net, 6, 3), one, peaks)
    assert limit.images_per_second == pytest.approx(10 / sum(map(max, (conv, relu, linear))))
    assert limit.arithmetic == pytest.approx(10 / (conv[0] + linear[0]))
    assert limit.memory == pytest.approx(10 / (conv[1] + relu[1] + linear[1]))
    assert limit.arithmetic is not None
    assert limit.images_per_second <= min(limit.arithmetic, limit.memory)


def test_half_the_bytes_in_bf16_and_no_passes_for_what_is_folded(small_net, peaks):
    anatomy = anatomy_of(small_net, 6, 3)
    both = [limit_of(anatomy, setting("infer", precision), peaks).bytes_per_image for precision in ("fp32", "bf16")]
    assert both[0] == 2 * 4 * (288 + 5) + 4 * (216 + 1445) / 4
    assert both[1] == both[0] / 2


def test_memory_needed_grows_with_the_batch_by_what_training_keeps(small_net):
    anatomy = anatomy_of(small_net, 6, 3)
    one, two = (memory_needed(anatomy, setting(batch_size=size)) for size in (1, 2))
    assert two - one == anatomy.training_bytes
    assert one == anatomy.training_bytes + 3 * 4 * anatomy.params


def test_peaks_are_medians_of_what_was_measured(peaks):
    shown = peaks.to_dict()
    low, high = shown["fp32_gflops_range"]
    assert 0 < low <= shown["fp32_gflops"] <= high
    assert shown["bf16_gflops"] > 0
    assert shown["fp16_gflops"] is None
    assert shown["fp32_matrix"] in MATRIX_SIDES
    assert shown["copy_gb_per_second"] > 0
    assert peaks.gflops("int8") is None


class Clock:
    """A runner that does nothing and says what it is told to; `log` is shared by all."""

    def __init__(self, name: str, log: list[tuple[str, int]], seconds: float = 0.5, fails: type | None = None) -> None:
        self.name, self.log, self.seconds, self.fails = name, log, seconds, fails

    def run(self, steps: int) -> float:
        self.log.append((self.name, steps))
        if self.fails is not None and len(self.log) > 6:
            raise self.fails("of all things")
        first = len([one for one in self.log if one[0] == self.name]) == 1
        return 100.0 if first else self.seconds * steps  # the first step is slow: it warms up


def clocked(log: list[tuple[str, int]], *, kept: bool = True, fails: type | None = None) -> list[_Measured]:
    def row(name: str, seconds: float, fails: type | None = None) -> _Measured:
        return _Measured(setting(batch_size=8), opener=lambda: Clock(name, log, seconds, fails), kept=kept)

    return [row("a", 0.5), row("b", 0.25, fails), row("c", 2.0)]


def turns(log: list[tuple[str, int]]) -> str:
    """Who ran, in order, each turn once."""
    names = [name for name, _ in log]
    return "".join(name for place, name in enumerate(names) if place == 0 or names[place - 1] != name)


def test_rows_take_turns_and_another_is_first_each_time(peaks):
    log: list[tuple[str, int]] = []
    rows = clocked(log)
    assert not measure_in_turn(rows, peaks, BenchOptions(seconds=1.0, repeats=3), Task())
    assert turns(log) == "abcbcacab".replace("cc", "c").replace("bb", "b")
    assert [row.figures for row in rows] == [[16.0] * 3, [32.0] * 3, [4.0] * 3]  # batch / seconds: nothing of 100


def test_a_turn_is_as_long_as_asked_after_a_step_that_warms_up(peaks):
    log: list[tuple[str, int]] = []
    measure_in_turn(clocked(log), peaks, BenchOptions(seconds=1.0, repeats=2), Task())
    assert [steps for name, steps in log if name == "b"] == [1, 1, 4, 1, 4]
    assert [steps for name, steps in log if name == "c"] == [1, 1, 1, 1, 1]  # at least one step, however long


def test_rows_that_are_not_kept_open_warm_up_again(peaks):
    log: list[tuple[str, int]] = []
    measure_in_turn(clocked(log, kept=False), peaks, BenchOptions(seconds=1.0, repeats=2), Task())
    assert [steps for name, steps in log if name == "b"] == [1, 1, 4, 1, 1, 4]


def test_a_row_that_fails_says_so_and_the_others_go_on(peaks):
    rows = clocked([], fails=MemoryError)
    assert not measure_in_turn(rows, peaks, BenchOptions(repeats=3), Task())
    assert rows[1].error == "not enough memory"
    assert [len(row.figures) for row in rows] == [3, 1, 3]


def test_ctrl_c_leaves_what_there_is(peaks):
    rows = clocked([], fails=KeyboardInterrupt)
    assert measure_in_turn(rows, peaks, BenchOptions(repeats=3), Task())
    assert [len(row.figures) for row in rows] == [1, 1, 1]


def test_a_batch_beyond_the_memory_is_not_tried(small_net):
    row = _Measured(setting(batch_size=10**6), opener=lambda: pytest.fail("opened"), kept=True)
    row.check_memory(anatomy_of(small_net, 6, 3), 2**30)
    row.measure(1.0)
    assert row.error is not None
    assert row.error.endswith("GiB at least, 1.0 GiB are free")


def test_training_is_the_step_of_training(saved):
    runner = TrainingRunner(setting(batch_size=16), Machine(saved, CPU, 1))
    before = {name: value.clone() for name, value in runner.session.model.state_dict().items()}
    untouched = {name: value.clone() for name, value in saved.model.state_dict().items()}
    assert runner.run(3) > 0
    assert runner.run(2) > 0
    assert runner.session.position.step == 5
    after = runner.session.model.state_dict()
    assert any(not torch.equal(after[name], before[name]) for name in before)
    assert all(torch.equal(saved.model.state_dict()[name], untouched[name]) for name in untouched)  # a copy trains


def test_a_session_is_what_train_would_open_but_for_the_setting(saved):
    session = training_session(Setting("train", "torch", "nchw", "bf16", 12), Machine(saved, CPU, 1))
    options = session.options
    assert (options.runtime.precision, options.runtime.channels_last, options.runtime.threads) == ("bf16", False, 1)
    assert options.optimizer.batch_size == session.batches.batch_size == 12
    assert (options.optimizer.optimizer, options.optimizer.momentum, options.optimizer.nesterov) == ("sgd", 0.9, True)
    batch = next(iter(session.batches.epoch(0)))
    assert batch.images.shape == (12, 1, 8, 8)
    assert batch.images.dtype == torch.float32


def test_defaults_come_first():
    best = "bf16" if processor_has_bf16() else "fp32"
    rows = settings_of(BenchOptions(train=True), CPU, 64)
    assert rows[0] == Setting("train", "torch", "nhwc", best, 64)
    assert Setting("train", "torch", "nchw", "fp32", 64) in rows
    assert len(set(rows)) == len(rows)
    both = settings_of(BenchOptions(), CPU, 64)
    assert {row.work for row in both} == {"train", "infer"}
    first = next(row for row in both if row.work == "infer")
    assert (first.backend, first.precision) == ("torch", "fp32")


def test_every_combination_that_was_asked_for_and_no_other():
    options = BenchOptions(train=True, batch_size=(2, 1), precision=("fp32", "bf16"), layout=("nchw",))
    rows = settings_of(options, CPU, 64)
    assert rows == [
        Setting("train", "torch", "nchw", precision, size) for size in (2, 1) for precision in ("fp32", "bf16")
    ]


def test_only_the_default():
    best = "bf16" if processor_has_bf16() else "fp32"
    rows = settings_of(BenchOptions(default=True, batch_size=(8, 1)), CPU, 64)
    assert [(row.work, row.backend, row.precision, row.batch_size) for row in rows] == [
        (work, "torch", precision, size) for work, precision in (("train", best), ("infer", "fp32")) for size in (8, 1)
    ]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"precision": ("fp16",)}, "fp16 needs a GPU"),
        ({"train": True, "precision": ("int8",)}, "--precision int8 goes with nothing"),
        ({"train": True, "backend": ("eager",)}, "--backend eager goes with nothing"),
        ({"infer": True, "backend": ("torch",), "layout": ("nchw",)}, "--layout nchw goes with nothing"),
    ],
)
def test_what_cannot_be_is_an_error(asked, message):
    with pytest.raises(UsageError, match=message) as caught:
        settings_of(BenchOptions(**asked), CPU, 64)
    assert caught.value.hint


QUICK = ("--seconds", "0.02", "--repeats", "1", "--threads", "1", "--device", "cpu", "--precision", "fp32")


def test_json_alone_is_on_standard_output():
    words = ["bench", "compact_s", "--input-size", "8", "--batch-size", "4", "--backend", "torch,eager"]
    result = CliRunner().invoke(striate, [*words, "--layout", "nhwc", *QUICK, "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    anatomy = anatomy_of(create_model("compact_s", in_channels=1, input_size=8))
    first = next(layer.macs for layer in anatomy.layers if layer.macs)
    train, infer = shown["train"], next(row for row in shown["rows"] if row["backend"] == "eager")
    assert train["gflops"] == pytest.approx(train["images_per_second"] * 2 * (3 * anatomy.macs - first) / 1e9)
    assert infer["gflops"] == pytest.approx(infer["images_per_second"] * 2 * anatomy.macs / 1e9)
    assert train["share_of_peak"] == pytest.approx(train["gflops"] / shown["peak"]["fp32_gflops"])
    assert train["limit"]["bound_by"] in ("arithmetic", "memory traffic")
    assert shown["peak"]["bf16_gflops"] > 0
    assert (shown["model"], shown["input"], shown["interrupted"]) == ("compact_s", [1, 8, 8], False)
    assert shown["environment"]["threads"] == 1
    assert shown["rows"][0] == train
    assert (shown["infer"]["work"], shown["infer"]["backend"]) == ("infer", "torch")


def test_the_table_names_what_binds():
    words = ["bench", "compact_s", "--input-size", "8", "--batch-size", "4", "--train", "--layout", "nhwc,nchw"]
    result = CliRunner().invoke(striate, [*words, *QUICK])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("network   compact_s, input 1x8x8")
    assert [line.split()[:3] for line in lines if line.startswith("torch ")] == [
        ["torch", "nhwc", "fp32"],
        ["torch", "nchw", "fp32"],
    ]
    assert lines[-1].startswith("first row bound by ")
    assert max(map(len, lines)) <= 140


def test_a_class_of_one_s_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes=3, in_channels=3):\n"
        "        super().__init__()\n"
        "        self.conv, self.head = nn.Conv2d(in_channels, 4, 3, padding=1), nn.Linear(4, classes)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.conv(x).relu().mean((2, 3)))\n"
    )
    words = ["bench", f"{tmp_path / 'mine.py'}:Net", "--input-size", "16", "--batch-size", "2", "--train", *QUICK]
    result = CliRunner().invoke(striate, [*words, "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["macs"] == 3 * 4 * 9 * 16 * 16 + 4 * 3
    assert all(row["images_per_second"] > 0 for row in shown["rows"])


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--layout", "nhcw"], "unknown value of --layout 'nhcw'", "did you mean nhwc? choose one of nhwc, nchw"),
        (["--precision", "fp16", "--device", "cpu"], "fp16 needs a GPU", "use --precision bf16 or fp32"),
        (["--batch-size", "0"], "--batch-size = 0: must be at least 1", ""),
    ],
)
def test_wrong_usage(words, message, hint):
    result = CliRunner().invoke(striate, ["bench", "compact_s", *words])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {message}")
    assert hint in result.stderr


def test_the_same_in_python():
    result = front_door.benchmark(
        "compact_s", infer=True, input_size=8, batch_size=2, backend="eager", layout="nchw", precision="fp32",
        seconds=0.02, repeats=2, threads=1, device="cpu", progress=False,
    )  # fmt: skip
    (row,) = result.rows
    assert row.setting == Setting("infer", "eager", "nchw", "fp32", 2)
    assert len(row.figures) == 2
    assert result.default("train") is None
    with pytest.raises(UsageError):
        front_door.benchmark("compact_s", batchsize=2)


@pytest.mark.skipif(not installed("openvino", building=True), reason="needs openvino and onnx")
def test_every_row_has_an_engine_that_has_settled_on_its_batch(saved, tmp_path):
    machine = Machine(saved, CPU, 1, cache=tmp_path)
    sizes = (1, 4, 6, 8)
    runners = [machine.open(Setting("infer", "openvino", None, "fp32", size)) for size in sizes]
    engines = [runner._answer for runner in runners]
    assert [set(engine._requests) for engine in engines] == [{0, size} for size in sizes]
    before = [dict(engine._requests) for engine in engines]
    assert all(runner.run(2) > 0 for runner in runners)
    assert [engine._requests for engine in engines] == before  # nothing is compiled while the clock runs
    assert len(list(tmp_path.iterdir())) == 1


def test_no_figure_for_the_default_is_a_failure():
    words = ["bench", "compact_s", "--infer", "--input-size", "8", "--batch-size", "1000000000,2", "--backend", "torch"]
    for more in (["--json"], []):
        result = CliRunner().invoke(striate, [*words, *QUICK, *more])
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-2].startswith("error: no figures for infer torch fp32 batch 1000000000")
        if more:
            rows = json.loads(result.stdout)["rows"]
            assert [row["images_per_second"] is None for row in rows] == [True, False]
