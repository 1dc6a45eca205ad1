"""Hyperband (Li et al. 2018): a table of brackets, and a walk over it.

Calling the walk again after a crash *is* resuming it: `fit` continues a configuration from its
checkpoint and returns at once if the rung is already there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nas.settings import HyperbandTable, SettingsError


@dataclass(frozen=True, slots=True)
class Rung:
    """So many configurations, each trained to so many epochs in all."""

    configs: int
    epochs: int


@dataclass(frozen=True, slots=True)
class Bracket:
    """Successive halving with aggressiveness `s`: it has s + 1 rungs."""

    s: int
    rungs: tuple[Rung, ...]


def brackets(
    max_epochs: int, eta: int = 3, table: HyperbandTable = "printed", count: int | None = None
) -> tuple[Bracket, ...]:
    """The table of algorithm 1, s = s_max … 0.

    Bracket s starts with n configurations at R / eta^s epochs. The two tables in circulation differ in n:
    "printed" is the paper's table, n = floor((s_max + 1) / (s + 1)) * eta^s, which for R = 81 gives
    81, 27, 9, 6, 5; "formula" is its algorithm, n = ceil((s_max + 1) / (s + 1) * eta^s): 81, 34, 15, 8, 5.

    Args:
        max_epochs: R. Where it is no power of eta, rungs below it are rounded down.
        count: only the first `count` brackets, None for all.

    Raises:
        SettingsError: R < 1 or eta < 2.

    Example:
        >>> [bracket.rungs[0].configs for bracket in brackets(81)]
        [81, 27, 9, 6, 5]
    """
    if max_epochs < 1 or eta < 2:
        raise SettingsError(f"`max_epochs >= 1` and `eta >= 2` must hold, but got ({max_epochs=}, {eta=})")
    s_max = 0  # floor(log_eta R) in integers: in floating point log(243, 3) is 4.999
    while eta ** (s_max + 1) <= max_epochs:
        s_max += 1
    found = []
    for s in range(s_max, -1, -1):
        if table == "printed":
            n = (s_max + 1) // (s + 1) * eta**s
        else:
            n = -(-((s_max + 1) * eta**s) // (s + 1))
        rungs = tuple(Rung(n // eta**i, max_epochs // eta ** (s - i)) for i in range(s + 1))
        found.append(Bracket(s, rungs))
    return tuple(found[:count])


@dataclass(frozen=True, slots=True)
class Tuned:
    """The winner of a walk.

    Attributes:
        bracket, index: which configuration it is.
        loss: what `fit` gave for it at full budget.
    """

    bracket: int
    index: int
    loss: float


def hyperband(schedule: Sequence[Bracket], fit: Callable[[int, int, int], float]) -> Tuned | None:
    """Walks the schedule and returns the best fully trained configuration, the first one among equals.

    Args:
        fit: (bracket s, index, epochs) -> loss of that configuration, trained to `epochs` in all. A loss
            that is not finite is never promoted and never wins, also when its whole rung is lost.

    Returns:
        None if no configuration reached the end of its bracket with a finite loss.
    """
    best: tuple[float, int, int] | None = None
    for bracket in schedule:
        alive = list(range(bracket.rungs[0].configs))
        losses: dict[int, float] = {}
        for rung in bracket.rungs:
            alive = sorted(alive, key=lambda index: (losses.get(index, 0.0), index))[: rung.configs]
            losses = {index: fit(bracket.s, index, rung.epochs) for index in sorted(alive)}
            alive = [index for index in losses if math.isfinite(losses[index])]
        for index in alive:
            if best is None or losses[index] < best[0]:
                best = (losses[index], bracket.s, index)
    return None if best is None else Tuned(best[1], best[2], best[0])
