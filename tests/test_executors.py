"""Workers that run out of time or memory, crash, hang or are killed end as data."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from types import ModuleType

import pytest

from nas.executors import RETRIES, ProcessExecutor, SerialExecutor
from nas.trial import Failure

WORK = '''
import os, sys, time
from pathlib import Path
from nas.device import WAITING

def killed_until(folder, times):
    """Ends by SIGKILL until it was called so often."""
    count = len(os.listdir(folder))
    Path(folder, str(count)).touch()
    if count < times:
        os.kill(os.getpid(), 9)
    return count

def waits(seconds):
    WAITING.get()(True)
    time.sleep(seconds)
    WAITING.get()(False)
    return "waited"

def torch_is_loaded():
    return "torch" in sys.modules, os.getpid()

def torch_allocates(megabytes):
    import torch
    return torch.ones(megabytes, 2**18).sum().item()

def writes_its_pid_and_sleeps(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(100)
'''


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A module that workers can import."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "executor_work.py").write_text(WORK)
    sys.path.insert(0, str(folder))
    import executor_work

    yield executor_work
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor(2, timeout_s=20)
    yield executor
    executor.shutdown()


@pytest.mark.parametrize("make", [SerialExecutor, lambda: ProcessExecutor(2)])
def test_results_come_back(make: type[Executor]) -> None:
    with make() as executor:
        futures = [executor.submit(pow, base, 2) for base in range(3)]
        assert [future.result() for future in futures] == [0, 1, 4]


def test_a_serial_task_that_raises_keeps_its_exception() -> None:
    assert isinstance(SerialExecutor().submit(int, "x").exception(), ValueError)


def test_every_task_has_a_fresh_process_with_torch_loaded(pool: ProcessExecutor, work: ModuleType) -> None:
    (loaded, first), (_, second) = (pool.submit(work.torch_is_loaded).result() for _ in range(2))
    assert loaded and first != second != os.getpid()


@pytest.mark.parametrize(
    ("task", "kind", "says"),
    [
        ((int, "x"), "crash", "ValueError: invalid literal"),
        ((os._exit, 3), "crash", "exit status 3"),
        ((signal.raise_signal, signal.SIGSEGV), "crash", "SIGSEGV"),
        ((signal.raise_signal, signal.SIGKILL), "lost", f"killed from outside .* {RETRIES + 1} times"),
    ],
)
def test_how_a_task_ends(pool: ProcessExecutor, task: tuple, kind: str, says: str) -> None:
    outcome = pool.submit(*task).result()
    assert isinstance(outcome, Failure) and outcome.kind == kind
    import re

    assert re.search(says, outcome.message)


def test_a_hanging_task_is_killed_and_its_neighbour_goes_on() -> None:
    with ProcessExecutor(2, timeout_s=1.0) as executor:
        hanging = executor.submit(time.sleep, 60)
        assert executor.submit(pow, 3, 2).result() == 9
        outcome = hanging.result()
    assert outcome == Failure("timeout", "it took more than 1 s")


def test_waiting_for_the_machine_is_no_time(work: ModuleType) -> None:
    with ProcessExecutor(1, timeout_s=2.0) as executor:
        assert executor.submit(work.waits, 4.0).result() == "waited"


def test_a_killed_task_is_tried_again(pool: ProcessExecutor, work: ModuleType, tmp_path: Path) -> None:
    assert pool.submit(work.killed_until, str(tmp_path), RETRIES).result() == RETRIES


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds memory on Linux only")
def test_memory_is_bounded(work: ModuleType) -> None:
    with ProcessExecutor(1, memory_bytes=300 * 2**20) as executor:
        assert executor.submit(work.torch_allocates, 64).result() == 64 * 2**18
        for task in ((bytearray, 2**30), (work.torch_allocates, 1024)):
            outcome = executor.submit(*task).result()
            assert isinstance(outcome, Failure) and outcome.kind == "oom", outcome


def test_shutdown_without_waiting_kills_what_runs(work: ModuleType, tmp_path: Path) -> None:
    executor = ProcessExecutor(1)
    running = executor.submit(work.writes_its_pid_and_sleeps, str(tmp_path / "pid"))
    queued = executor.submit(time.sleep, 100)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    executor.shutdown(wait=False)
    assert queued.cancelled()
    assert running.result() == Failure("lost", "the run was stopped")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_at_least_one_worker() -> None:
    with pytest.raises(ValueError, match="`workers >= 1` must hold"):
        ProcessExecutor(0)
