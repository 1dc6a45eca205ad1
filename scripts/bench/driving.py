"""One loop for all methods: ask, look up, tell; repeats cost nothing, own CPU time is counted."""

from __future__ import annotations

import gc
import time
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.tables import Table

STALL = 2000
"""So many repeats in a row end a method."""


class Optimizer(Protocol):
    """A method at work on one table. It knows the space, and the losses that it was told."""

    def ask(self) -> Any | None:
        """The next candidate, in the method's own form; None: there is nothing left to propose."""
        ...

    def code(self, candidate: Any) -> str:
        """The table's code of a candidate."""
        ...

    def tell(self, candidate: Any, losses: NDArray[np.float64]) -> None:
        """`losses`: `float64[m]`, as they stand in the table."""
        ...


class Run(NamedTuple):
    """
    Attributes:
        rows: of different candidates, in the order of their evaluation, by their index in the table.
        seconds: own CPU time for each of them: its ask and tell, and those of the repeats before it.
    """

    rows: list[int]
    seconds: list[float]


def drive(optimizer: Optimizer, table: Table, budget: int, stall: int = STALL) -> Run:
    """Evaluates `budget` different candidates; fewer if the method ends or meets `stall` known ones in a row.

    A candidate met again has its first value. The look-ups in the table are not counted as own time, nor is
    the time in which the garbage collector would look through what was there before, such as the table.
    """
    gc.collect()
    gc.freeze()
    try:
        return _driven(optimizer, table, budget, stall)
    finally:
        gc.unfreeze()


def _driven(optimizer: Optimizer, table: Table, budget: int, stall: int) -> Run:
    first: dict[str, int] = {}
    run = Run([], [])
    spent, repeats = 0.0, 0
    keys = table.keys
    while len(run.rows) < budget and repeats < stall:
        start = time.process_time()
        candidate = optimizer.ask()
        spent += time.process_time() - start
        if candidate is None:
            break
        code = optimizer.code(candidate)
        known = keys[code] in first
        row = first.setdefault(keys[code], table.index(code))
        start = time.process_time()
        optimizer.tell(candidate, table.losses[row])
        spent += time.process_time() - start
        repeats = repeats + 1 if known else 0
        if not known:
            run.rows.append(row)
            run.seconds.append(spent)
            spent = 0.0
    return run
