"""The real process: what is loaded, exit codes, streams."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "numpy", "pyarrow", "PIL", "sklearn", "rich", "jinja2", "safetensors")
LOOK = "\nprint([name for name in {heavy} if name in sys.modules], file=sys.stderr)"


def python(code: str, *words: str) -> subprocess.CompletedProcess:
    code += LOOK.format(heavy=HEAVY)
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)


def test_help_of_all_commands_loads_nothing_heavy():
    result = python(
        "import sys\n"
        "from striate.cli.main import COMMANDS, striate\n"
        "striate.main(['--help'], standalone_mode=False)\n"
        "assert not any(name.startswith('striate.cli.t') for name in sys.modules), 'listing imports no command'\n"
        "for name in COMMANDS:\n"
        "    striate.main([name, '--help'], standalone_mode=False)\n"
    )
    assert result.stderr.splitlines() == ["[]"], result.stderr
    assert result.stdout.count("Usage: ") >= 2


def test_importing_the_library_loads_nothing_heavy():
    result = python(
        "import sys, striate\nassert 'train' in dir(striate)\nstriate.Scores, striate.train, striate.DataError\n"
    )
    assert result.stderr.splitlines() == ["[]"], result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["trian"], 2, "error: unknown command 'trian'\nhint: did you mean train?\n"),
        (["train", "--epochs", "0"], 2, "error: --epochs = 0: must be at least 1\n"),
    ],
)
def test_wrong_usage_ends_with_code_two_and_no_traceback(words, code, message):
    result = subprocess.run([sys.executable, "-m", "striate", *words], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.stderr


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m striate train --help | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert result.stdout.startswith("Usage: striate train")
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("words", "code", "stderr"), [("--version >&-", 0, ""), ("models >&-", 0, ""), ("trian >&- 2>&-", 2, "")]
)
def test_closed_streams_are_no_error(words, code, stderr):
    result = subprocess.run(["bash", "-c", f"{sys.executable} -m striate {words}"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (code, stderr)


def test_a_command_with_torch_ends_with_its_code_where_streams_are_closed():
    code = "import sys\nfrom striate.runtime import end_process\nsys.modules['torch'] = sys\nend_process(3)"
    result = subprocess.run(["bash", "-c", f'{sys.executable} -c "$0" >&- 2>&-', code], capture_output=True)
    assert result.returncode == 3
