"""Threads: all cores on a quiet machine, fewer beside a busy process. The busy processes are real."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from striate.runtime import free_cores, look_at_load, process, set_threads, thread_limit, threads, usable_cores

linux = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux tells what others use")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.fixture
def control(tmp_path, monkeypatch):
    """The folder of a control group, empty at first."""
    monkeypatch.setattr(threads, "_CONTROL", tmp_path)
    return tmp_path


def test_a_quota_counts_as_fewer_cores(control):
    assert usable_cores() == CORES
    for text, expected in (("max 100000\n", CORES), ("100000 100000\n", 1), ("50000 100000\n", 1), ("0 0\n", CORES)):
        (control / "cpu.max").write_text(text)
        assert usable_cores() == expected, text


def test_a_quota_of_the_first_version_counts_too(control):
    (control / "cpu").mkdir()
    (control / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for text, expected in (("-1\n", CORES), ("70000\n", 1)):
        (control / "cpu" / "cpu.cfs_quota_us").write_text(text)
        assert usable_cores() == expected, text


def test_what_others_use_comes_off_all_cores_and_not_off_the_quota(control, monkeypatch):
    (control / "cpu.max").write_text("400000 100000\n")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "allowed_cores", lambda: 16)
    for busy, free in ((0.0, 4), (3.0, 4), (14.2, 2), (16.0, 1)):
        monkeypatch.setattr(threads, "_busy_since", lambda _, busy=busy: busy)
        assert free_cores() == (free, busy)


@pytest.mark.parametrize(("asked", "expected"), [("1", 1), ("1,4", 1), ("9999", CORES), ("", CORES), ("0", CORES)])
def test_fewer_threads_by_the_environment(control, monkeypatch, asked, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    before = torch.get_num_threads()
    try:
        assert thread_limit() == set_threads(None) == expected
    finally:
        torch.set_num_threads(before)


@linux
def test_a_start_that_no_clock_can_have_seen_is_left_out(tmp_path, monkeypatch):
    uptime = tmp_path / "uptime"
    monkeypatch.setattr(process, "_UPTIME", uptime)
    real = float(Path("/proc/uptime").read_text().split()[0])
    for seconds, sound in ((real, True), (0.0, False), (real + 1e9, False)):
        uptime.write_text(f"{seconds} 0.0\n")
        process.mark_command()
        assert (process.seconds_of_start() is not None) is sound, seconds


@linux
def test_a_busy_process_beside_this_one_is_noticed():
    core = min(os.sched_getaffinity(0))
    spin = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    before = os.sched_getaffinity(0)
    busy = subprocess.Popen([sys.executable, "-c", spin])
    try:
        os.sched_setaffinity(0, {core})  # on one core: what else the machine does is another test's business
        time.sleep(0.3)
        look_at_load()
        time.sleep(0.3)
        free, others = free_cores()
    finally:
        busy.kill()
        busy.wait()
        os.sched_setaffinity(0, before)
    assert free == 1, "one always stays"
    assert 0.3 < others <= 1.2


@linux
def test_ones_own_work_is_not_others():
    look = threads._look()
    until = time.perf_counter() + 0.3
    while time.perf_counter() < until:
        sum(range(1000))
    own = threads._look()
    assert look is not None
    assert own is not None
    assert own.own - look.own > 0.02
    assert own.everybody - look.everybody >= own.own - look.own - 0.05, "what this process used is in the total"


@linux
def test_where_the_system_does_not_tell_nobody_else_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "_PROCESSOR", tmp_path / "stat")
    look_at_load()
    assert free_cores() == (thread_limit(), 0.0)
