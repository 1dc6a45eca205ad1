"""Expected hypervolume improvement, exact for independent objectives, in any number of them.

What no member of the front dominates is cut into boxes; the expected share of a box that a candidate would
add is a product of differences of one-dimensional expectations (Yang et al. 2019, "Efficient computation of
expected hypervolume improvement using box decomposition algorithms"). Objectives known exactly, modelled on a
log scale or as they are may be mixed, since all that is needed of each is E[max(level - loss, 0)].
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np

from nas import pareto
from nas.surrogates.model import Floats

Below = Callable[[Floats], Floats]
"""levels `float64[k]` -> E[max(level - loss, 0)] of each candidate, `float64[n, k]`, 0 at -inf."""


def boxes(losses: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Lower and upper corners (`float64[k, m]`) of disjoint boxes that fill what a front leaves.

    That is all points below `reference` (`float64[m]`) which no row of `losses` (`float64[n, m]`) dominates;
    lower corners may be -inf. Of two objectives the boxes are strips, side by side: of the first objective
    each begins where the one before it ends, of the second all begin at -inf.
    """
    front = losses[(losses < reference).all(axis=1)]
    front = _distinct(front[pareto.front(front)])
    objectives = len(reference)
    if objectives == 1:
        return np.full((1, 1), -np.inf), np.minimum(front.min(axis=0, initial=np.inf), reference)[None]
    if objectives == 2:
        ends = np.append(front[:, 0], reference[0])
        tops = np.concatenate([[reference[1]], front[:, 1]])
        lefts = np.concatenate([[-np.inf], front[:, 0]])
        lower = np.column_stack([lefts, np.full(len(lefts), -np.inf)])
        return lower, np.column_stack([ends, tops])
    if objectives == 3:
        return _swept(front, reference)
    bounds = local_upper_bounds(front, reference)[0]
    # The region is all that lies below one of the bounds: seen from -inf, the part that -bounds dominate.
    return _dominated_boxes(bounds)


def _distinct(points: Floats) -> Floats:
    """Without repeats, in the order of the first objective, then of the others."""
    points = points[np.lexsort(points.T[::-1])]
    differ = (points[1:] != points[:-1]).any(axis=1)
    return np.asarray(points[np.append(True, differ)[: len(points)]])


def _swept(front: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """The boxes of three objectives: strips of the first two, while the third grows from point to point.

    What a point cuts off a strip is a box that ends there; of k points there are at most 2 k + 1 (Yang et al.
    2017, "Computing 3-D expected hypervolume improvement and related integrals in asymptotically optimal
    time").
    """
    x, y, z = reference.tolist()
    found: list[tuple[list[float], list[float]]] = []
    rights, strips = [x], [(-np.inf, y, -np.inf)]  # where each ends; its left, its height, where it began
    for px, py, pz in front[np.argsort(front[:, 2], kind="stable")].tolist():
        first = last = bisect_right(rights, px)
        left, height, since = strips[first]
        while last < len(strips) and strips[last][1] > py:
            begin, top, began = strips[last]
            if began < pz:
                found.append(([max(px, begin), -np.inf, began], [rights[last], top, pz]))
            last += 1
        if last > first:
            end = rights[last - 1]
            kept = left < px  # what is left of the strip that the point stands in
            rights[first:last] = [px, end] if kept else [end]
            strips[first:last] = [(left, height, since)] * kept + [(px, py, pz)]
    for right, (left, height, since) in zip(rights, strips, strict=True):
        found.append(([left, -np.inf, since], [right, height, z]))
    lower, upper = np.array(found).transpose(1, 0, 2)
    return lower, upper


def local_upper_bounds(points: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Corners of the region that no point dominates, and the points that define each.

    Lacour, Klamroth and Fonseca 2017, "A box decomposition algorithm to compute the hypervolume indicator",
    algorithm 1 with proposition 2.

    Returns:
        bounds `float64[k, m]`, and `float64[k, m, m]`: [i, j] is the point that defines coordinate j of i.
    """
    m = len(reference)
    bounds = reference[None].astype(np.float64)
    defining = np.full((1, m, m), -np.inf)
    defining[0, np.arange(m), np.arange(m)] = reference
    for point in points:
        hit = (point < bounds).all(axis=1)
        if not hit.any():
            continue
        old, makers = bounds[hit], defining[hit]
        new_bounds, new_makers = [bounds[~hit]], [defining[~hit]]
        for j in range(m):
            others = np.delete(makers, j, axis=1)[:, :, j]  # coordinate j of the other defining points
            kept = point[j] >= others.max(axis=1)
            if kept.any():
                moved, by = old[kept].copy(), makers[kept].copy()
                moved[:, j], by[:, j] = point[j], point
                new_bounds.append(moved)
                new_makers.append(by)
        bounds, defining = np.concatenate(new_bounds), np.concatenate(new_makers)
    return bounds, defining


def _dominated_boxes(bounds: Floats) -> tuple[Floats, Floats]:
    """Disjoint boxes whose union is all that lies below one of the bounds (Lacour et al. 2017, section 4)."""
    m = bounds.shape[1]
    far = np.full(m, np.inf)
    corners, makers = local_upper_bounds(-bounds, far)
    # In the mirrored world a box reaches from the defining points to the local upper bound.
    low = np.empty_like(corners)
    low[:, 0] = makers[:, 0, 0]
    for j in range(1, m):
        low[:, j] = makers[:, :j, j].max(axis=1)
    high = corners.copy()
    high[:, 0] = np.inf
    filled = (low < high).all(axis=1)
    return -high[filled], -low[filled]


def expected_hypervolume_improvement(below: Sequence[Below], lower: Floats, upper: Floats) -> Floats:
    """Expected growth of the hypervolume by each candidate, `float64[n]`.

    Args:
        below: of each objective.
        lower, upper: corners of the boxes that are left, `float64[k, m]`.
    """
    share: Floats | None = None
    for expected, low, high in zip(below, lower.T, upper.T, strict=True):
        part = _between(expected, low, high)
        share = part if share is None else share * part
    if share is None:
        raise ValueError("there must be at least one objective, but got none")
    return np.asarray(share.sum(axis=1))


def _between(expected: Below, low: Floats, high: Floats) -> Floats:
    """`float64[n, k]`: what is expected below `high` less that below `low` (`float64[k]` each)."""
    if np.isneginf(low).all():
        levels, places = np.unique(high, return_inverse=True)
        return np.asarray(expected(levels)[:, places])
    if np.isneginf(low[0]) and (low[1:] == high[:-1]).all():
        return np.diff(expected(high), axis=1, prepend=0.0)
    levels, places = np.unique(np.concatenate([low, high]), return_inverse=True)
    values = expected(levels)
    return values[:, places[len(low) :]] - values[:, places[: len(low)]]


def exactly(losses: Floats) -> Below:
    """Of an objective whose values (`float64[n]`) are known."""

    def below(levels: Floats) -> Floats:
        return np.maximum(np.where(np.isfinite(levels), levels, -np.inf) - losses[:, None], 0.0)

    return below
