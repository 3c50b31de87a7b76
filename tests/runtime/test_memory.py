"""How much memory there is for this process: the machine's, or less by the limit of its control group."""

import os

import pytest

from striate.runtime import facts, usable_memory

WHOLE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


@pytest.mark.skipif(WHOLE is None, reason="the system does not tell how much memory there is")
@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_limit_counts_as_less_memory(tmp_path, monkeypatch, name):
    monkeypatch.setattr(facts, "_CONTROL", tmp_path)
    assert usable_memory() == WHOLE
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    for text, expected in (("max\n", WHOLE), (f"{2**28}\n", 2**28), (f"{2**63 - 4096}\n", WHOLE)):
        file.write_text(text)
        assert usable_memory() == expected, text
