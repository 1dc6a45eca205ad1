"""Targets on a scale on which they are closer to normal, chosen by what makes the data likelier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtr

from nas.surrogates.model import Floats, Normal

CERTAIN = 38.5
"""Phi(-z) is 0 and Phi(z) is 1 in float64 from this z on."""


@dataclass(frozen=True)
class Warp:
    """loss = shift + exp(centre + scale z) with `log`, else centre + scale z; z has mean 0 and variance 1.

    Attributes:
        jacobian: log |dz / d loss| summed over the data, to compare likelihoods of different warps.
    """

    log: bool
    centre: float
    scale: float
    jacobian: float
    shift: float = 0.0
    TINY: ClassVar[float] = 1e-12

    @classmethod
    def to(cls, losses: Floats, log: bool, shift: float = 0.0) -> Warp:
        """That of these finite losses (`float64[n]`, > shift if `log`)."""
        values = np.log(losses - shift) if log else losses
        scale = float(values.std())
        scale = scale if scale > cls.TINY * max(1.0, float(np.abs(values).max())) else 1.0
        jacobian = -len(losses) * np.log(scale) - (float(values.sum()) if log else 0.0)
        return cls(log, float(values.mean()), scale, float(jacobian), shift)

    def targets(self, losses: Floats) -> Floats:
        """The losses as z; those at or below `shift` as if a little above it."""
        if self.log:
            losses = np.log(np.maximum(losses - self.shift, self.TINY))
        return np.asarray((losses - self.centre) / self.scale)

    def losses(self, targets: Floats) -> Floats:
        """z as losses: the median of what is predicted, not its mean."""
        values = self.centre + self.scale * np.asarray(targets)
        return np.asarray(self.shift + np.exp(np.minimum(values, 700.0)) if self.log else values)

    def expected_below(self, levels: Floats, prediction: Normal) -> Floats:
        """E[max(level - loss, 0)], `float64[n, k]` for `float64[k]` levels, 0 at -inf.

        For a normal loss it is expected improvement (Jones et al. 1998, equation 15), for a lognormal one its
        like: Black and Scholes' price of a put.
        """
        known = np.isfinite(levels) & (levels > self.shift if self.log else True)
        if not known.all():
            found = np.zeros((len(prediction.mean), len(levels)))
            found[:, known] = self.expected_below(levels[known], prediction)
            return found
        mean = self.centre + self.scale * prediction.mean[:, None]
        std = np.maximum(self.scale * prediction.std, self.TINY)[:, None]
        if self.log:
            above = levels - self.shift
            z = (np.log(above) - mean) / std
            found = above * _cdf(z) - np.exp(np.minimum(mean + std**2 / 2, 700.0)) * _cdf(z - std)
        else:
            z = (levels - mean) / std
            found = std * (z * _cdf(z) + np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))
        return np.asarray(np.maximum(found, 0.0))

    def chances_below(self, levels: Floats, prediction: Normal) -> Floats:
        """P(loss <= level), `float64[n, k]` for `float64[k]` levels, 0 at -inf."""
        found = np.zeros((len(prediction.mean), len(levels)))
        known = levels > (self.shift if self.log else -np.inf)
        std = np.maximum(prediction.std, self.TINY)[:, None]
        found[:, known] = _cdf((self.targets(levels[known]) - prediction.mean[:, None]) / std)
        return found


def _cdf(z: Floats) -> Floats:
    """Phi(z), of any shape; computed where it is open only, if that is little, as of a cost modelled well."""
    open_ = ~(np.abs(z) >= CERTAIN)  # NaN stays NaN
    if 3 * np.count_nonzero(open_) > z.size:
        return np.asarray(ndtr(z))
    found = (z > 0).astype(np.float64)
    found[open_] = ndtr(z[open_])
    return found


def warps(losses: Floats) -> list[Warp]:
    """Those to choose from: as it is, and on a log scale from 0 on, or from below the least of the losses."""
    found = [Warp.to(losses, log=False)]
    least, spread = float(losses.min()), float(np.median(losses) - losses.min())
    if least > 0:
        found.append(Warp.to(losses, log=True))
    elif spread > 0:
        found.append(Warp.to(losses, log=True, shift=least - 0.1 * spread))
    return found
