"""Kill a process while it saves states, again and again; every time a whole state must be there.

``between-calls``: the child dies (`_exit`, no clean-up) before its first system call on files, then before its
second, and so on until it gets through. ``at-random``: the child saves without end and gets SIGKILL after a random
time. Prints the number of kills; run by test_resume_state.py, in a process of its own so that forking is safe.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from striate.checkpoint import load_state, save_state

CALLS = ("open", "write", "fsync", "replace", "unlink", "close", "listdir")


def state_at(step: int) -> dict:
    return {"epoch": step, "step": step, "weights": torch.full((20_000,), float(step))}


def check(folder: Path, at_least: int, at_most: int) -> int:
    state, warning = load_state(folder)
    assert warning is None, warning
    assert at_least <= state["step"] <= at_most, f"step {state['step']}, expected {at_least} to {at_most}"
    assert torch.equal(state["weights"], torch.full((20_000,), float(state["step"])))
    return state["step"]


def die_before_call(number: int) -> None:
    """Patch the calls so that the `number`-th one (from 0) is never made."""
    made = 0

    def counted(call):
        def wrapped(*arguments, **settings):
            nonlocal made
            if made == number:
                os._exit(9)
            made += 1
            return call(*arguments, **settings)

        return wrapped

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def between_calls(folder: Path) -> int:
    save_state(folder, state_at(1))
    save_state(folder, state_at(2))
    step = 2
    for number in range(1000):
        child = os.fork()
        if child == 0:
            die_before_call(number)
            save_state(folder, state_at(step + 1))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        step = check(folder, step, step + 1)
        assert len(os.listdir(folder)) <= 6, os.listdir(folder)  # nothing piles up
        if os.waitstatus_to_exitcode(status) == 0:
            return number
    raise AssertionError("the child never got through")


def at_random(folder: Path, kills: int = 40) -> int:
    draw = random.Random(0)
    begun = time.perf_counter()
    for step in (1, 2, 3):
        save_state(folder, state_at(step))
    while_saving = time.perf_counter() - begun  # the machine may be busy: kills must neither all come early nor late
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            while True:
                step += 1
                save_state(folder, state_at(step))
        time.sleep(draw.uniform(0, while_saving))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        step = check(folder, step, 10**9)
    assert step > 3, "no state was ever written: the kills came too early to mean anything"
    return kills


if __name__ == "__main__":
    torch.set_num_threads(1)
    print({"between-calls": between_calls, "at-random": at_random}[sys.argv[1]](Path(sys.argv[2]) / "resume"))
