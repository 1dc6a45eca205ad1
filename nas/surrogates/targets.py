"""What a model learns in the place of losses: standardised, of their logarithms where all are positive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.surrogates.model import Floats


@dataclass(frozen=True, slots=True)
class Target:
    """z = (f(loss) - centre) / scale; f is the logarithm or nothing.

    Attributes:
        log: whether f is the logarithm.
        centre, scale: mean and standard deviation of f(loss) over the losses it is made of; scale > 0.
    """

    log: bool
    centre: float
    scale: float

    @classmethod
    def of(cls, losses: Floats) -> Target:
        """That of `float64[n]`, finite, n > 0."""
        log = bool((losses > 0).all())
        values = np.log(losses) if log else losses
        spread = float(values.std())
        return cls(log, float(values.mean()), spread if spread > 0 else 1.0)

    def forward(self, losses: Floats) -> Floats:
        return np.asarray(((np.log(losses) if self.log else losses) - self.centre) / self.scale)

    def back(self, z: Floats) -> Floats:
        """Losses of `z`, of any shape; finite for all that is."""
        values = z * self.scale + self.centre
        return np.asarray(np.exp(np.clip(values, -700.0, 700.0)) if self.log else values)
