"""One machine, shared: trainings run side by side, a measurement runs alone.

Two lock files make a readers-writer lock between processes that lets writers in: whoever measures
first takes the gate, so that no training starts its next epoch, and then the device, once the running
epochs have ended. The kernel drops the locks of a process that dies.
"""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

WAITING: ContextVar[Callable[[bool], None]] = ContextVar("WAITING", default=lambda _: None)
"""Called with True before and False after each wait for the machine, so that no time-out ticks meanwhile."""


class Device:
    """The lock of one machine for one study.

    Args:
        folder: where the lock files live (made if missing), on a local disk.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._gate = folder / "gate.lock"
        self._device = folder / "device.lock"

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Held by a training for one epoch; waits while a measurement runs or is about to."""
        with self._held(self._device, fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Held by a measurement; waits for the running epochs to end."""
        with self._held(self._device, fcntl.LOCK_EX):
            yield

    @contextmanager
    def _held(self, path: Path, kind: int) -> Iterator[None]:
        with path.open("a") as device:
            waiting = WAITING.get()
            waiting(True)
            try:
                with self._gate.open("a") as gate:  # closing the file drops its lock
                    fcntl.flock(gate, kind)
                    fcntl.flock(device, kind)
            finally:
                waiting(False)
            yield


def machine_name() -> str:
    """Processor and number of cores, to tell whether a study moved to another machine."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores"


@contextmanager
def unshared() -> Iterator[None]:
    """The stand-in for a lock where nothing else runs."""
    yield
