"""One CSV file a benchmark: a row for each table, method, seed and budget."""

from __future__ import annotations

import csv
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

Key = tuple[str, str, int, int]


class RecordError(ValueError):
    """A file is not a record of this version."""


class Row(NamedTuple):
    """
    Attributes:
        evaluated: different candidates; fewer than the budget if the method ended early.
        gap, gap_cut, front_found, regret: of all evaluated, see `bench.metrics`.
        since: evaluations before the window of `cpu_ms`.
        cpu_ms: own CPU time a candidate in milliseconds, from `since` to `budget`; NaN if it ended before.
    """

    table: str
    method: str
    seed: int
    budget: int
    evaluated: int
    gap: float
    gap_cut: float
    front_found: float
    regret: float
    since: int
    cpu_ms: float

    @property
    def key(self) -> Key:
        return self.table, self.method, self.seed, self.budget


KINDS: tuple[Callable[[str], Any], ...] = (str, str, int, int, int, float, float, float, float, int, float)
"""Of the columns."""


def read(path: Path) -> dict[Key, Row]:
    """The rows of a file, none if it is not there.

    Raises:
        RecordError: the file has other columns.
    """
    if not path.exists():
        return {}
    header, *lines = list(csv.reader(path.read_text().splitlines())) or [[]]
    if tuple(header) != Row._fields:
        raise RecordError(
            f"{path} must have the columns {', '.join(Row._fields)}, but has {', '.join(header)}: "
            "it is of another version; choose another --out"
        )
    rows = [Row(*(kind(text) for kind, text in zip(KINDS, line, strict=True))) for line in lines]
    return {row.key: row for row in rows}


def add(path: Path, rows: Iterable[Row]) -> None:
    """Adds rows to a file. A killed run leaves a whole file, and several runs may fill one together."""
    with _alone(path.parent):
        known = read(path) | {row.key: row for row in rows}
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([Row._fields, *known.values()])
        partial.replace(path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # goes with the process
        yield
    finally:
        os.close(handle)
