"""What candidates promise: the acquisition, times the probability to be within the limits and not to fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.searchers.acquisitions import Acquisition, Outlook
from nas.searchers.belief import Chance
from nas.searchers.box import Floats
from nas.searchers.candidates import Candidate

TIED = 1e-6
"""Scores that differ relatively by less are equal, and the first is taken: so the order in which sums were
made does not show."""


@dataclass(frozen=True)
class Promise:
    """
    Attributes:
        limits: of modelled objectives, by their place, as losses.
        chance: of a trial to succeed; None while there is no doubt.
    """

    acquisition: Acquisition
    outlook: Outlook
    limits: Mapping[int, float]
    chance: Chance | None

    def scores(self, candidates: Sequence[Candidate]) -> Floats:
        """`float64[n]`, the more the better."""
        within = np.ones(len(candidates)) if self.chance is None else self.chance.of(candidates)
        if self.limits:
            outlook = self.outlook
            predictions = outlook.belief.predictions(candidates, outlook.pending)
            for place, limit in self.limits.items():
                warp, prediction = predictions[place]
                within = within * warp.chances_below(np.array([limit]), prediction)[:, 0]
        return self.acquisition.weighted(self.acquisition.score(self.outlook, candidates), within)

    def most(self, candidates: Sequence[Candidate]) -> tuple[Candidate, float]:
        """The first of the largest score, and it."""
        scores = self.scores(candidates)
        largest = float(scores.max())
        return candidates[int(np.argmax(scores >= largest - TIED * abs(largest)))], largest
