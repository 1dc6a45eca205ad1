"""What candidates would add to a front, one picked after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas import pareto
from nas.searchers.box import Box, Floats
from nas.searchers.evidence import front_of
from nas.searchers.members import Member, losses_of

BEYOND = 1.1
"""The reference point, in ranges of the front of all that is known and could be: 1 is its worst."""


def gains(front: Floats, candidates: Floats) -> Floats:
    """Hypervolume that each candidate alone would add, `float64[c]`; of those that add none, minus how deep
    they are dominated: the least distance by which all of their losses would have to fall.

    Args:
        front, candidates: `float64[f, m]` and `float64[c, m]`, scaled alike.
    """
    bound = np.full(candidates.shape[1], BEYOND)
    base = np.vstack([front, np.full((1, len(bound)), BEYOND)])
    depth = (candidates[:, None, :] - base[None, :, :]).min(axis=2).max(axis=1)
    found = -np.maximum(depth, 0.0)
    volume = pareto.hypervolume(base, bound)
    for place in np.flatnonzero(depth < 0).tolist():
        added = pareto.hypervolume(np.vstack([base, candidates[place]]), bound) - volume
        found[place] = max(added, 0.0)
    return np.asarray(found)


def greedy(known: list[Member], candidates: list[Member], count: int) -> list[int]:
    """Places of `count` candidates, each of which adds most to what is known and those before it.

    Losses are scaled over the front of all these, so that what would extend the front has its gain. Those
    predicted to be within the limits come first, then those least beyond.
    """
    if not candidates:
        return []
    box = Box.of(losses_of(front_of([*known, *candidates])))
    rows = box.scaled(losses_of(candidates))
    violations = np.array([candidate.violation for candidate in candidates])
    allowed = [member for member in known if not member.violation > 0]
    front = box.scaled(losses_of(front_of(allowed))) if allowed else np.empty((0, rows.shape[1]))
    open_ = np.ones(len(rows), dtype=bool)
    picked: list[int] = []
    while open_.any() and len(picked) < count:
        best = _best(front, rows, violations, open_)
        picked.append(best)
        open_[best] = False
        if not violations[best] > 0:
            front = np.vstack([front, rows[best]])
    return picked


def _best(front: Floats, rows: Floats, violations: Floats, open_: NDArray[np.bool_]) -> int:
    least = violations[open_].min()
    places = np.flatnonzero(open_ & (violations <= max(least, 0.0)))
    return int(places[np.argmax(gains(front, rows[places]))])
