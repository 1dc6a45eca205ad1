"""What a model learns in the place of losses: logarithms, perhaps the bad half squeezed, standardised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.surrogates.model import Floats


@dataclass(frozen=True, slots=True)
class Target:
    """z = (g((f(loss) - median) / good) - centre) / scale.

    f is the logarithm where all losses are positive, else nothing; `good` is how far the best is below the
    median; g(u) = u for u <= 0 and log(1 + u) beyond, so that networks that do not learn at all do not
    drown the differences between good ones.

    Attributes:
        log: whether f is the logarithm.
        squeeze: whether g squeezes.
        median, good: of f(loss), over the losses it is made of.
        centre, scale: mean and standard deviation of g; scale > 0.
    """

    log: bool
    squeeze: bool
    median: float
    good: float
    centre: float
    scale: float

    @classmethod
    def of(cls, losses: Floats, squeeze: bool = False) -> Target:
        """That of `float64[n]`, finite, n > 0; without `squeeze` g(u) = u throughout."""
        log = bool((losses > 0).all())
        values = np.log(losses) if log else losses
        median = float(np.median(values))
        good = median - float(values.min())
        good = good if good > 0 else float(values.std()) or 1.0
        squeezed = _squeezed((values - median) / good, squeeze)
        spread = float(squeezed.std())
        return cls(log, squeeze, median, good, float(squeezed.mean()), spread if spread > 0 else 1.0)

    def forward(self, losses: Floats) -> Floats:
        values = np.log(losses) if self.log else losses
        return np.asarray(
            (_squeezed((values - self.median) / self.good, self.squeeze) - self.centre) / self.scale
        )

    def back(self, z: Floats) -> Floats:
        """Losses of `z`, of any shape; finite for all that is."""
        u = np.clip(z * self.scale + self.centre, -1e9, 700.0)
        u = np.where(u > 0, np.expm1(np.maximum(u, 0.0)), u) if self.squeeze else u
        values = u * self.good + self.median
        return np.exp(np.clip(values, -700.0, 700.0)) if self.log else np.asarray(values)


def _squeezed(u: Floats, squeeze: bool) -> Floats:
    return np.where(u > 0, np.log1p(np.maximum(u, 0.0)), u) if squeeze else u
