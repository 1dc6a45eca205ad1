"""The machine's lock, between real processes: trainings side by side, a measurement alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nas.device import WAITING, Device, unshared

TRAINER = """
import sys, time
from pathlib import Path
from nas.device import Device
folder = Path(sys.argv[1])
machine = Device(folder)
log = open(folder / f"{sys.argv[2]}.log", "a", buffering=1)
while not (folder / "stop").exists():
    with machine.shared():
        log.write(f"{time.monotonic()} begin\\n")
        time.sleep(0.02)
        log.write(f"{time.monotonic()} end\\n")
"""
HOLDER = """
import sys, time
from pathlib import Path
from nas.device import Device
machine = Device(Path(sys.argv[1]))
with getattr(machine, sys.argv[2])():
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def process(code: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def until(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def epochs(path: Path) -> list[tuple[float, float]]:
    """(begin, end) of every finished epoch."""
    times = [float(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []
    return list(zip(times[::2], times[1::2], strict=False))


def test_a_measurement_gets_in_between_two_trainers_and_runs_alone(tmp_path: Path) -> None:
    """Two trainers leave no moment without one of them; the gate lets the measurement in all the same."""
    logs = [tmp_path / f"{name}.log" for name in "ab"]
    machine = Device(tmp_path)
    waited: list[bool] = []
    token = WAITING.set(waited.append)
    held = []
    try:
        with process(TRAINER, tmp_path, "a"), process(TRAINER, tmp_path, "b"):
            until(lambda: all(len(epochs(log)) > 3 for log in logs))
            for _ in range(5):
                with machine.alone():
                    start = time.monotonic()
                    time.sleep(0.05)
                    held.append((start, time.monotonic()))
            seen = [len(epochs(log)) for log in logs]
            until(lambda: all(len(epochs(log)) > n + 2 for log, n in zip(logs, seen, strict=True)))
            (tmp_path / "stop").touch()
    finally:
        WAITING.reset(token)
    assert waited == [True, False] * 5
    a, b = (epochs(log) for log in logs)
    for begin, end in a + b:
        assert all(end <= start or begin >= stop for start, stop in held)
    assert any(x < t and s < y for x, y in a for s, t in b), "trainings run side by side"


@pytest.mark.parametrize("how", ["shared", "alone"])
def test_the_lock_of_a_killed_process_is_dropped(tmp_path: Path, how: str) -> None:
    with process(HOLDER, tmp_path, how) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        os.kill(child.pid, signal.SIGKILL)
        with Device(tmp_path).alone():
            pass


def test_a_measurement_waits_for_a_training_and_trainings_wait_for_it(tmp_path: Path) -> None:
    for held, wanted in (("shared", "alone"), ("alone", "shared"), ("alone", "alone")):
        with process(HOLDER, tmp_path, held) as first:
            assert first.stdout is not None
            assert first.stdout.readline() == "held\n"
            with process(HOLDER, tmp_path, wanted) as second:
                time.sleep(0.3)
                assert second.poll() is None
                first.kill()
                assert second.stdout is not None
                assert second.stdout.readline() == "held\n"


def test_a_failure_inside_frees_the_machine_and_ends_the_wait(tmp_path: Path) -> None:
    waited: list[bool] = []
    token = WAITING.set(waited.append)
    try:
        with pytest.raises(RuntimeError, match="inside"), Device(tmp_path / "new" / "folder").alone():
            raise RuntimeError("inside")
        with Device(tmp_path / "new" / "folder").alone():
            assert waited == [True, False, True, False]
    finally:
        WAITING.reset(token)
    with unshared():
        pass
