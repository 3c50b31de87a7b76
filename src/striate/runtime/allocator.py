"""The C library's allocator, kept from handing memory back to the kernel, in large pages where the kernel has them."""

from __future__ import annotations

import mmap
import os
import platform
import sys
from pathlib import Path

# glibc's mallopt parameters, from malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_SETTINGS = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 256 * 2**20))  # -1: never give any back
_MADV_HUGEPAGE = getattr(mmap, "MADV_HUGEPAGE", 14)
_RESERVED_SHARE = 0.5  # of the memory, as addresses only

_tuned: bool | None = None


def tune_allocator() -> bool:
    """Keep freed memory in the process instead of handing it back to the kernel and faulting it in again each step.

    A training step frees and asks again for the same large activations; by glibc's defaults every one of them is
    unmapped and mapped anew. Must run before torch is imported; a second call does nothing. Returns whether it was
    done (glibc only). What is set holds for this process and its forks; programs it starts are as always.
    """
    global _tuned
    if _tuned is None:
        _tuned = _tune()
    return _tuned


def _tune() -> bool:
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
    accepted = [mallopt(name, value) == 1 for name, value in _SETTINGS]  # a list: every one is tried
    if all(accepted) and _large_pages_by_advice():
        _reserve(int(_RESERVED_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    return all(accepted)


def _large_pages_by_advice() -> bool:
    """Whether advice gets large pages, and reserving addresses takes nothing from anybody.

    With the kernel's strict accounting, or a limit on addresses, a reservation would count as memory in use.
    """
    import resource

    try:
        large = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text(encoding="ascii")
        strict = Path("/proc/sys/vm/overcommit_memory").read_text(encoding="ascii").strip() == "2"
    except OSError:
        return False
    limits = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    limited = any(resource.getrlimit(one)[0] != resource.RLIM_INFINITY for one in limits)
    return "[madvise]" in large and not strict and not limited


def _reserve(size: int) -> None:
    """Grow the heap once by a block that is never touched, and so takes no memory, and ask for large pages in it.

    What the heap grows by later would have to be asked about anew each time; GLIBC_TUNABLES=glibc.malloc.hugetlb=1
    does the same, but must be set before the process starts and is inherited by every program it starts.
    """
    import ctypes

    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = libc.malloc(size)
    if not block:
        return
    page = os.sysconf("SC_PAGE_SIZE")
    first = -(-block // page) * page
    libc.madvise(first, (block + size - first) // page * page, _MADV_HUGEPAGE)
    libc.free(block)
