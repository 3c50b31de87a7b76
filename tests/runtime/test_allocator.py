"""The allocator in processes of its own: what was freed stays, in large pages where there are any."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc's allocator only"
)
CHURN = """
import ctypes, resource, sys
{prepare}
from striate.runtime import tune_allocator
{tune}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes, libc.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]
def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [libc.malloc(16 * 2**20) for _ in range(4)]
    for block in blocks:
        assert block
        libc.memset(block, 1, 16 * 2**20)
    for block in blocks:
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 2**20
idle = resident()
step()
print(idle, *[step() for _ in range(3)], resident())
"""


def churn(tune: str, prepare: str = "") -> list[int]:
    """MiB before, page faults of three steps of 64 MiB, MiB after, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", CHURN.format(tune=tune, prepare=prepare)], capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


def test_freed_memory_is_used_again_without_page_faults():
    idle, *faults, after = churn("assert tune_allocator() and tune_allocator()")
    assert max(faults) < 50, "64 MiB are 16384 small pages"
    assert idle < 100, "what is reserved takes no memory"
    assert after < idle + 80
    untuned = churn("")
    assert min(untuned[1:4]) > 10_000, "or the test measures nothing"


def test_limits_on_memory_do_no_harm():
    limit = "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))"
    _, *faults, _ = churn("tune_allocator()", prepare=limit)
    assert max(faults) < 50
    late = "resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))"
    _, *faults, _ = churn("tune_allocator()", prepare=late)
    assert max(faults) < 50


def test_programs_that_are_started_are_as_always():
    show = "import os; print(sorted(os.environ.items()))"
    tuned = f"from striate.runtime import tune_allocator; tune_allocator(); {show}"
    environments = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for code in (show, tuned)
    ]
    assert environments[0] == environments[1]
