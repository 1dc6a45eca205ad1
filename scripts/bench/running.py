"""Runs what is missing in the record, in one process or several."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from itertools import pairwise
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import numpy as np

from bench import record
from bench.driving import drive
from bench.methods import METHODS
from bench.record import Row
from bench.tables import BENCHMARKS, Table


class Task(NamedTuple):
    """One method on one table from one seed. `windows`: (since, budget) of each row that is to come."""

    benchmark: str
    folder: Path
    table: str
    method: str
    seed: int
    windows: tuple[tuple[int, int], ...]


@lru_cache(maxsize=1)
def load(benchmark: str, folder: Path, name: str) -> Table:
    """The table of this process; `name`, which has the files' hash, makes a changed one another."""
    return Table(BENCHMARKS[benchmark], folder)


def carry_out(task: Task) -> list[Row]:
    """The rows of a task."""
    table = load(task.benchmark, task.folder, task.table)
    method = METHODS[task.method]
    budget = max(budget for _, budget in task.windows)
    run = drive(method.start(table, task.seed), table, budget, method.stall)
    rows = []
    for since, until in task.windows:
        found, window = run.rows[:until], run.seconds[since:until]
        figures = {name: round(value, 6) for name, value in table.judge.of(found).items()}
        cpu_ms = round(1000 * float(np.mean(window)), 6) if window else float("nan")
        evaluated = len(found)
        rows.append(
            Row(table.name, task.method, task.seed, until, evaluated, **figures, since=since, cpu_ms=cpu_ms)
        )
    return rows


def compare(
    table: Table,
    folder: Path,
    methods: Sequence[str],
    seeds: Sequence[int],
    budgets: Sequence[int],
    path: Path,
    jobs: int = 1,
) -> tuple[list[Row], list[str]]:
    """Rows of all methods, seeds and budgets; those that are not in the file yet are run and added to it.

    Args:
        budgets: ascending; a method is not run beyond its cap.
        path: the record, a CSV file.
        jobs: processes, each with a method and a seed at a time.

    Returns:
        The rows, and what failed, a line each: the failure of one method does not end the others.
    """
    known = record.read(path)
    wanted = {
        (seed, method): [b for b in budgets if b <= (METHODS[method].cap or b)]
        for seed in seeds
        for method in methods
    }
    tasks = []
    for (seed, method), its_budgets in wanted.items():
        windows = pairwise([0, *its_budgets])
        missing = tuple(w for w in windows if (table.name, method, seed, w[1]) not in known)
        if missing:
            tasks.append(Task(table.benchmark.name, folder, table.name, method, seed, missing))
    failures = []
    for done, (task, result) in enumerate(_results(tasks, jobs), start=1):
        note = f"{table.benchmark.name}, seed {task.seed}: {task.method}"
        if isinstance(result, str):
            note = f"{note} failed: {result}"
            failures.append(note)
        else:
            record.add(path, result)
        print(f"[{done}/{len(tasks)}] {note}", file=sys.stderr)
    known = record.read(path)
    keys = [(table.name, m, seed, b) for m in methods for seed in seeds for b in wanted[seed, m]]
    return [known[key] for key in keys if key in known], failures


def _results(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, list[Row] | str]]:
    """Each task with its rows or its failure, as they end."""
    if jobs == 1:
        yield from ((task, _attempted(task)) for task in tasks)
        return
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_end_with_parent)
    try:
        futures = {pool.submit(_attempted, task): task for task in tasks}
        yield from ((futures[future], future.result()) for future in as_completed(futures))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _attempted(task: Task) -> list[Row] | str:
    try:
        return carry_out(task)
    except Exception as error:  # whatever a method raises
        return f"{type(error).__name__}: {error}"


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for ever."""

    def watch() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()
