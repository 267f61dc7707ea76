"""`python -m tests.prove.skewed_clock MODULE ARG…`: run a module with a wall clock that can be set from outside.

The file named by PROVE_CLOCK_FILE holds one double: how many seconds the clock is ahead. It is read at every look at
the clock, so that the clock jumps while the process runs. Monotonic time is left alone, as by the kernel.
Limits: Python's clocks only. `datetime.now` is written in C and looks at the kernel's clock itself, so it is replaced
inside its class: a subclass would not be the `datetime` that msgspec and pydantic know.
"""

import ctypes
import gc
import mmap
import os
import runpy
import struct
import sys
import time
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

ON_TIME = struct.pack("d", 0.0)


def set_clock(file: Path, ahead_s: float) -> None:
    with file.open("r+b") as clock:
        clock.write(struct.pack("d", ahead_s))


def skew(file: Path) -> None:
    """From now on this process tells the time of the file."""
    with file.open("r+b") as clock:
        ahead_s = memoryview(mmap.mmap(clock.fileno(), len(ON_TIME))).cast("d")
    kernel_time, kernel_time_ns = time.time, time.time_ns

    def now(cls: type[datetime], tz: tzinfo | None = None) -> datetime:
        return cls.fromtimestamp(time.time(), tz)

    time.time = lambda: kernel_time() + ahead_s[0]
    time.time_ns = lambda: kernel_time_ns() + int(ahead_s[0] * 1e9)
    attributes: dict[str, Any] = gc.get_referents(datetime.__dict__)[0]  # behind the read-only view
    attributes["now"] = classmethod(now)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))


if __name__ == "__main__":
    skew(Path(os.environ["PROVE_CLOCK_FILE"]))
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
