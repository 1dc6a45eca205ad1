"""What was found, held against the whole table. All losses are minimised; the first column is the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas import pareto

Floats = NDArray[np.float64]


class Metric(NamedTuple):
    title: str
    sign: int = 1
    """1: less is better; -1: more is."""


METRICS: Mapping[str, Metric] = {
    "gap": Metric("gap = (1 - HV ratio) x 1000"),
    "gap_cut": Metric("gap x 1000 of the part with an error below the table's median"),
    "front_found": Metric("share of the true front's points found", -1),
    "regret": Metric("regret in points: least error found - the table's least"),
}


def main_metric(objectives: int) -> str:
    """What a table is judged by unless another metric is asked for."""
    return "gap" if objectives > 1 else "regret"


def scaled(losses: Floats, low: Floats, high: Floats) -> Floats:
    """`losses` with `low` at 0 and `high` at 1; an objective of one value is 0 throughout."""
    return np.asarray((losses - low) / np.where(high > low, high - low, 1.0))


class Judge:
    """The metrics of a set of rows of a table.

    Args:
        losses: `float64[n, m]`, the whole table.

    Attributes:
        scaled: losses min-max normalised over the whole table.
        front: `float64[f, m]`, the distinct points of the true front.
        volume: the true front's hypervolume, normalised, reference (1, …, 1).
    """

    def __init__(self, losses: Floats) -> None:
        self._losses = losses
        low, high = losses.min(axis=0), losses.max(axis=0)
        cut = high.copy()
        cut[0] = np.median(losses[:, 0])
        self.scaled = scaled(losses, low, high)
        self._cut = scaled(losses, low, cut)
        self.front = np.unique(losses[pareto.front(losses)], axis=0)
        self._points = {tuple(point) for point in self.front.tolist()}
        self.volume = _volume(self.scaled)
        self._cut_volume = _volume(self._cut)

    def of(self, rows: Sequence[int]) -> dict[str, float]:
        """Each metric of `METRICS` for what was found: the given rows of the table.

        gap: hypervolume over that of the true front, min-max normalised over the whole table, reference
            (1, …, 1), as (1 - ratio) x 1000.
        gap_cut: the same where the error is normalised to [least, median] and the reference stands at the
            median, so that what is worse adds nothing.
        front_found: in [0, 1]; architectures with equal losses are one point.
        regret: in percent of error.
        """
        found = self._losses[list(rows)]
        points = {tuple(point) for point in found.tolist()}
        return {
            "gap": _gap(self.scaled[list(rows)], self.volume),
            "gap_cut": _gap(self._cut[list(rows)], self._cut_volume),
            "front_found": len(points & self._points) / len(self._points),
            "regret": float(found[:, 0].min() - self._losses[:, 0].min()),
        }


def _volume(points: Floats) -> float:
    return pareto.hypervolume(points, np.ones(points.shape[1]))


def _gap(found: Floats, whole: float) -> float:
    return 1000 * (1 - _volume(found) / whole) if whole > 0 else 0.0
