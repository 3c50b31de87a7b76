"""Threads: all cores on a quiet machine, fewer beside a busy process. The busy processes are real."""

import os
import subprocess
import sys
import time

import pytest

from striate.runtime import free_cores, look_at_load, threads, usable_cores

linux = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux tells what others use")


def test_a_quota_counts_as_fewer_cores(tmp_path, monkeypatch):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(threads, "_QUOTA", quota)
    assert usable_cores() == cores
    for text, expected in (("max 100000\n", cores), ("100000 100000\n", 1), ("50000 100000\n", 1), ("0 0\n", cores)):
        quota.write_text(text)
        assert usable_cores() == expected, text


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
    assert free_cores() == (usable_cores(), 0.0)
