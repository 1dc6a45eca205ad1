"""Where candidates are evaluated: `concurrent.futures.Executor`s whose tasks end as data.

`ProcessExecutor` runs every task in a fresh process of a fork server that has torch loaded. A task that
runs out of time or memory, crashes or is killed ends as a `Failure`; the driver and its neighbours go on.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from nas.device import WAITING
from nas.trial import Failure

P = ParamSpec("P")
T = TypeVar("T")

PRELOAD = (
    "nas.trainer",
    "nas.evaluator",
    "torch._dynamo",  # which every torch optimizer imports: more than a second
    "torch.fx",
    "safetensors.torch",
    "onnx",
    "onnxruntime",
)
"""Modules that the fork server imports once, so that a candidate does not pay for them."""

RETRIES = 2
"""How often a task whose process was killed from outside is started again."""

POLL_S = 0.1


class SerialExecutor(Executor):
    """Runs each task at once, in the driver's process: no time-out, no memory limit."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except (Exception, SystemExit) as error:
            future.set_exception(error)
        return future


class _Clock:
    """Seconds that a task has run, without those it waited for the machine; shared by two processes.

    There is no lock, which a killed task could leave locked: a torn read lasts one poll.
    """

    def __init__(self, context: multiprocessing.context.ForkServerContext) -> None:
        self._waited = context.RawArray("d", 2)  # seconds waited before, start of the present wait or 0
        self._start = 0.0

    def start(self) -> None:
        self._start = time.monotonic()

    def waiting(self, begins: bool) -> None:
        if begins:
            self._waited[1] = time.monotonic()
        else:
            self._waited[0] += time.monotonic() - self._waited[1]
            self._waited[1] = 0.0

    def seconds(self) -> float:
        before, began = float(self._waited[0]), float(self._waited[1])
        return time.monotonic() - self._start - before - (time.monotonic() - began if began else 0.0)


class ProcessExecutor(Executor):
    """Up to `workers` processes at a time, one a task. Tasks are functions of modules that can be imported.

    Args:
        workers: number of processes.
        timeout_s: seconds a task may run, waiting for a quiet machine not counted; None for no bound.
        memory_bytes: what a task may allocate beyond what its process starts with (Linux); None for no bound.
    """

    def __init__(self, workers: int, timeout_s: float | None = None, memory_bytes: int | None = None) -> None:
        if workers < 1:
            raise ValueError(f"`workers >= 1` must hold, but got {workers=}")
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="worker")
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._stopped = threading.Event()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOAD))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[Any] = self._threads.submit(self._run, fn, args, kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the executor; without `wait`, running tasks are killed (they continue when run again)."""
        if not wait:
            self._stopped.set()
        self._threads.shutdown(wait=True, cancel_futures=cancel_futures or not wait)

    def _run(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for _ in range(RETRIES + 1):
            outcome = self._attempt(fn, args, kwargs)
            if not (isinstance(outcome, Failure) and outcome.kind == "lost") or self._stopped.is_set():
                break
        return outcome

    def _attempt(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        clock = _Clock(self._context)
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_child, args=(theirs, clock, self._memory_bytes, fn, args, kwargs), daemon=True
        )
        with _without_main():
            process.start()  # the first one waits for the fork server to load torch
        clock.start()
        theirs.close()
        try:
            return self._watched(process, ours, clock)
        finally:
            if process.is_alive():
                process.kill()
            process.join()
            process.close()
            ours.close()

    def _watched(self, process: Any, pipe: Connection, clock: _Clock) -> Any:
        """The task's result, or how its process ended."""
        while not pipe.poll(POLL_S):
            if self._stopped.is_set():
                return Failure("lost", "the run was stopped")
            if self._timeout_s is not None and clock.seconds() > self._timeout_s:
                return Failure("timeout", f"it took more than {self._timeout_s:g} s")
        try:
            return pipe.recv()
        except (EOFError, OSError):  # it ended before, or in the middle of its answer
            process.join()
        code = process.exitcode
        if code in (-signal.SIGKILL, -signal.SIGTERM):
            return Failure(
                "lost",
                f"its process was killed from outside (signal {-code}) {RETRIES + 1} times, perhaps by the "
                "system for want of memory: set run.memory_gb",
            )
        ended = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit status {code}"
        return Failure("crash", f"its process ended with {ended}")


_STARTING = threading.Lock()


@contextmanager
def _without_main() -> Iterator[None]:
    """Keeps new processes from importing the user's script again: tasks name all they need.

    So a script needs no `if __name__ == "__main__"`. `multiprocessing` finds the script by these two names.
    """
    with _STARTING:
        main = sys.modules["__main__"]
        kept = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
        try:
            for name in kept:
                setattr(main, name, None)
            yield
        finally:
            for name, value in kept.items():
                setattr(main, name, value)


def _child(
    pipe: Connection,
    clock: _Clock,
    memory_bytes: int | None,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Body of a worker process. It ends with its driver, however that one ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    threading.Thread(target=_end_with_driver, args=(pipe,), daemon=True).start()
    WAITING.set(clock.waiting)
    if memory_bytes is not None:
        _limit_memory(memory_bytes)
    try:
        outcome = fn(*args, **kwargs)
    except (Exception, SystemExit) as error:
        outcome = Failure.of(error)
    pipe.send(outcome)


def _end_with_driver(pipe: Connection) -> None:
    """The driver never sends anything, so the pipe becomes readable when the driver is gone."""
    pipe.poll(None)
    os._exit(1)


def _limit_memory(extra: int) -> None:
    """Bounds private writable memory to what is used now and `extra` bytes; allocations beyond it fail."""
    if sys.platform != "linux":
        return
    with open("/proc/self/statm") as file:  # noqa: PTH123 - no path object for /proc
        pages = int(file.read().split()[5])  # data + stack
    limit = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
