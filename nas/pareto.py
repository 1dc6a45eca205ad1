"""Pareto functions over `moocore`. All objectives are minimised; losses are `float64[n, m]`.

A row with a value that is not finite (a failed or missing measurement) is dominated by all
finite rows: it has the last rank, is never in the front and adds no hypervolume.
"""

from __future__ import annotations

from collections.abc import Iterable

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

Losses = NDArray[np.float64]


def _as_losses(losses: ArrayLike) -> Losses:
    array = np.asarray(losses, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"losses must have shape [n, m], but got shape {array.shape}")
    return array


def ranks(losses: ArrayLike) -> NDArray[np.int64]:
    """Non-dominated rank of each row, 0 for the front (`int64[n]`); rows not finite come last, never at 0."""
    array = _as_losses(losses)
    finite = np.isfinite(array).all(axis=1)
    result = np.zeros(len(array), dtype=np.int64)
    if finite.any():
        result[finite] = (
            moocore.pareto_rank(array[finite]) if array.shape[1] > 1 else _ranks_of_one(array[finite])
        )
    result[~finite] = result.max(initial=0) + 1
    return result


def _ranks_of_one(column: Losses) -> NDArray[np.int64]:
    return np.asarray(np.unique(column[:, 0], return_inverse=True)[1], dtype=np.int64)


def front(losses: ArrayLike) -> NDArray[np.int64]:
    """Indices of the non-dominated rows, in order; equal rows are all kept."""
    array = _as_losses(losses)
    finite = np.flatnonzero(np.isfinite(array).all(axis=1))
    if not len(finite):
        return finite
    if array.shape[1] == 1:
        kept = array[finite, 0] == array[finite, 0].min()
    else:
        kept = moocore.is_nondominated(array[finite], keep_weakly=True)
    return np.asarray(finite[kept])


def crowding(losses: ArrayLike) -> NDArray[np.float64]:
    """Crowding distance within one front (`float64[n]`, Deb et al. 2002, section III-B).

    The sum over objectives of (next - previous) / (max - min); infinite at the ends of each
    objective; an objective with one value only adds nothing. Rows not finite get 0.
    """
    array = _as_losses(losses)
    distance = np.zeros(len(array))
    finite = np.flatnonzero(np.isfinite(array).all(axis=1))
    if len(finite) <= 2:
        distance[finite] = np.inf
        return distance
    among = np.zeros(len(finite))
    for column in array[finite].T:
        places = column.argsort(kind="stable")
        ordered = column[places]
        span = ordered[-1] - ordered[0]
        if span > 0:
            among[places[1:-1]] += (ordered[2:] - ordered[:-2]) / span
            among[places[0]] = among[places[-1]] = np.inf
    distance[finite] = among
    return distance


def hypervolume(losses: ArrayLike, reference: ArrayLike) -> float:
    """Volume dominated by the finite rows and bounded by `reference` (`float64[m]`), exact.

    Raises:
        ValueError: the reference is not finite or has another number of objectives.
    """
    array = _as_losses(losses)
    bound = np.asarray(reference, dtype=np.float64)
    if bound.shape != (array.shape[1],) or not np.isfinite(bound).all():
        raise ValueError(f"reference must be {array.shape[1]} finite numbers, but got {bound.tolist()}")
    inside = np.isfinite(array).all(axis=1) & (array < bound).all(axis=1)
    if not inside.any():
        return 0.0
    if array.shape[1] == 1:
        return float(bound[0] - array[inside, 0].min())
    return float(moocore.hypervolume(array[inside], ref=bound))


def reference_point(losses: ArrayLike) -> NDArray[np.float64]:
    """Worst + 0.1 x range of the finite rows for each objective (at least a tiny step beyond the worst)."""
    array = _as_losses(losses)
    array = array[np.isfinite(array).all(axis=1)]
    if not len(array):
        raise ValueError("a reference point needs at least one finite row, but got none")
    worst, best = array.max(axis=0), array.min(axis=0)
    span = worst - best
    return np.asarray(worst + 0.1 * np.where(span > 0, span, np.maximum(np.abs(worst), 1.0)))


def knee(losses: ArrayLike) -> int:
    """Index of the front member farthest below the plane through the front's extreme points.

    Objectives are scaled to [0, 1] over the front; the distance is then 1 - sum(scaled) up to a
    constant (Das 1999, the normal-boundary view of a knee). Of equals the best in the first
    objective is taken, then in the second …

    Raises:
        ValueError: no row is finite.
    """
    array = _as_losses(losses)
    members = front(array)
    if not len(members):
        raise ValueError("a knee needs at least one finite row, but got none")
    values = array[members]
    span = values.max(axis=0) - values.min(axis=0)
    scaled = (values - values.min(axis=0)) / np.where(span > 0, span, 1.0)
    best = np.lexsort((*values.T[::-1], scaled.sum(axis=1).round(12)))[0]
    return int(members[int(best)])


def hypervolume_history(losses: Iterable[ArrayLike], reference: ArrayLike) -> list[float]:
    """Hypervolume after each row of `losses`, in order; rows not finite repeat the last value."""
    members = np.empty((0, len(np.asarray(reference))))
    history: list[float] = []
    for row in losses:
        grown = np.vstack([members, np.asarray(row, dtype=np.float64)])
        kept = front(grown)
        if len(kept) and kept[-1] == len(members):  # the new row is in the front
            members = grown[kept]
            history.append(hypervolume(members, reference))
        else:
            history.append(history[-1] if history else 0.0)
    return history
