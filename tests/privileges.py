"""Take from root what lets it into every folder, so that permissions can be tested as root."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_VERSION = 0x20080522
_OVERRIDE, _SEARCH = 1 << 1, 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Make a folder that this thread, and those it starts, can neither search nor read."""
    mode = folder.stat().st_mode
    with _ordinary():
        folder.chmod(0)
        try:
            yield
        finally:
            folder.chmod(mode)


@contextmanager
def _ordinary() -> Iterator[None]:
    if not hasattr(os, "geteuid"):
        pytest.skip("permissions of POSIX")
    if os.geteuid() != 0:
        yield
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("root may do everything")
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = _Header(_VERSION, 0), (_Data * 2)()
    if libc.capget(ctypes.byref(header), data):
        pytest.skip("the system tells no capabilities")
    before = data[0].effective
    data[0].effective = before & ~(_OVERRIDE | _SEARCH)
    if libc.capset(ctypes.byref(header), data):
        pytest.skip("the system lets no capabilities go")
    try:
        yield
    finally:
        data[0].effective = before
        libc.capset(ctypes.byref(header), data)
