"""What the told trials make one believe of architectures that were not trained: a process an objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas import pareto
from nas.architecture import Architecture
from nas.searchers.box import Floats
from nas.searchers.candidates import Candidate, Candidates, exact_losses
from nas.searchers.evidence import Evidence
from nas.searchers.members import Member, losses_of
from nas.searchers.selection import failed
from nas.surrogates.gp import Kernel, Scaling, fit_kernel
from nas.surrogates.model import Normal, Unfit
from nas.surrogates.posterior import Places, Posterior
from nas.surrogates.quality import judged
from nas.surrogates.warp import Warp, warps

GROWTH = 1.5
"""Hyperparameters are fitted anew when there are so many times more trials."""

FITTED = 100
"""They are fitted to at most so many trials, the best ones."""

JUDGED = 40
"""They say on which scale the targets are likelier, or if there are more, at least half as many of them."""

KEPT = 256
"""A model holds at most so many trials when it is fitted anew: beyond, it is a local one of the best."""

STEP = 64
"""It is fitted anew after at most so many trials."""

LEAST_CHANCE = 0.01
"""What is left to an architecture that is sure to fail."""


@dataclass(slots=True)
class Belief:
    """Processes given the first `told` successful trials.

    Attributes:
        base: number of trials that warps and hyperparameters were chosen by.
        objectives: places of the modelled ones, in the order of warps and posteriors.
    """

    base: int
    told: int
    objectives: list[int]
    warps: list[Warp]
    posteriors: list[Posterior]

    def predictions(
        self, candidates: Sequence[Candidate], pending: Sequence[Candidate] = ()
    ) -> dict[int, tuple[Warp, Normal]]:
        """Of each modelled objective; `pending` ones are taken to come out as they are expected to.

        That is Kriging believer (Ginsbourger et al. 2010, section 4.2): it makes what is around them less
        uncertain, and nothing else.
        """
        rows, given = [c.row for c in candidates], [c.row for c in pending]
        return {
            place: (warp, posterior.predict(rows, given))
            for place, warp, posterior in zip(self.objectives, self.warps, self.posteriors, strict=True)
        }

    def losses(self, candidates: Sequence[Candidate]) -> Floats:
        """`float64[n, m]`: exact values as they are, the others as they are expected."""
        found = exact_losses(candidates)
        for place, (warp, prediction) in self.predictions(candidates).items():
            found[:, place] = warp.losses(prediction.mean)
        return found


@dataclass(slots=True)
class Chance:
    """A process of whether a trial succeeds (1) or fails (-1), given the first `told` trials of all."""

    base: int
    told: int
    posterior: Posterior

    def of(self, candidates: Sequence[Candidate]) -> Floats:
        """Of each to succeed, `float64[n]`, never quite 0."""
        mean = self.posterior.predict([c.row for c in candidates]).mean
        return np.asarray(np.clip(0.5 + mean / 2, LEAST_CHANCE, 1.0))


def updated_chance(
    chance: Chance | None, evidence: Evidence, candidates: Candidates, sample: Sequence[Architecture]
) -> Chance | None:
    """The chance given all told trials; None while all failed, or none did. `chance`: as in `updated`."""
    members = evidence.members
    if len(evidence.succeeded) in (0, len(members)):
        return None
    targets = np.where([failed(member) for member in members], -1.0, 1.0)
    base = schedule(len(members))
    if chance is None or chance.base != base or chance.told > len(members):
        rows = [candidates.row(member.trial) for member in members[max(0, base - KEPT) : base]]
        scaling = _scaling(candidates, sample, rows)
        blocks, fitted = candidates.features.blocks(rows[-FITTED:]), targets[:base][-FITTED:]
        kernel, _ = fit_kernel(blocks, fitted, scaling)
        chance = Chance(base, base, Posterior(kernel, Places(candidates.features, scaling)))
        chance.posterior.begin(rows, targets[:base][-KEPT:])
    for member, target in zip(members[chance.told :], targets[chance.told :].tolist(), strict=True):
        chance.posterior.add(candidates.row(member.trial), target)
        chance.told += 1
    return chance


def quality(posterior: Posterior) -> str:
    """How well each trial is predicted from all others: rank correlation, and calibration."""
    prediction, targets = posterior.leave_one_out()
    if len(targets) < 3 or np.ptp(targets) == 0:
        return f"nothing to tell apart in {len(targets)} trials"
    found = judged(prediction, targets)
    trials = f"{found.rows} trials, each left out in turn"
    return f"tau {found.tau:.2f}, {found.covered:.0%} within 90 % intervals ({trials})"


def schedule(told: int) -> int:
    """How many trials hyperparameters are fitted to while there are `told`: 2, 3, 4, 6, 9, 13, 19, 28 …"""
    size = 2
    while (following := min(max(size + 1, int(size * GROWTH)), size + STEP)) <= told:
        size = following
    return size


def updated(
    belief: Belief | None, evidence: Evidence, candidates: Candidates, sample: Sequence[Architecture]
) -> Belief:
    """The belief given all told trials.

    Args:
        belief: what may be gone on from.
        sample: says what makes blocks of features comparable. It must be the same in all turns: a search
            that is continued fits anew, and must come to the same.

    Raises:
        Unfit: there are too few of them.
    """
    members = evidence.succeeded
    if len(members) < 2:
        raise Unfit(f"a model needs at least 2 trials that succeeded, but there are {len(members)}")
    base = schedule(len(members))
    if belief is None or belief.base != base or belief.told > len(members):
        belief = _fitted(members[:base], np.flatnonzero(evidence.modelled).tolist(), candidates, sample)
    for member in members[belief.told :]:
        row = candidates.row(member.trial)
        for place, warp, posterior in zip(belief.objectives, belief.warps, belief.posteriors, strict=True):
            posterior.add(row, float(warp.targets(member.losses[place : place + 1])[0]))
        belief.told += 1
    return belief


def _fitted(
    members: Sequence[Member], objectives: list[int], candidates: Candidates, sample: Sequence[Architecture]
) -> Belief:
    """The belief given these trials, hyperparameters and all."""
    losses = losses_of(members)
    order = np.argsort(pareto.ranks(losses), kind="stable")
    rows = np.array([candidates.row(member.trial) for member in members])
    kept, best = np.sort(order[:KEPT]), np.sort(order[:FITTED])
    features = candidates.features
    scaling = _scaling(candidates, sample, rows[kept].tolist())
    belief, places = Belief(len(members), len(members), objectives, [], []), Places(features, scaling)
    for place in objectives:
        warp, kernel = _likeliest(features.blocks(rows[best].tolist()), losses[best, place], scaling)
        posterior = Posterior(kernel, places)
        posterior.begin(rows[kept].tolist(), warp.targets(losses[kept, place]))
        belief.warps.append(warp)
        belief.posteriors.append(posterior)
    return belief


def _scaling(candidates: Candidates, sample: Sequence[Architecture], rows: list[int]) -> Scaling:
    """That of the sample and of what was told."""
    features = candidates.features
    return Scaling.of(
        features.blocks([*(candidates.of(arch).row for arch in sample), *rows]), features.doubts
    )


def _likeliest(blocks: Sequence[Floats], losses: Floats, scaling: Scaling) -> tuple[Warp, Kernel]:
    """The warp with which the losses are likeliest, and its kernel; many are judged by some of them."""
    some = slice(None, None, -(-len(losses) // JUDGED))
    few = [block[some] for block in blocks]
    fits: list[tuple[float, Warp, Kernel]] = []
    for warp in warps(losses):
        judged = Warp.to(losses[some], warp.log, warp.shift)
        start = fits[0][2] if fits else None
        kernel, evidence = fit_kernel(few, judged.targets(losses[some]), scaling, start)
        fits.append((evidence + judged.jacobian, warp, kernel))
    _, warp, kernel = max(fits, key=lambda fit: fit[0])
    if some.step > 1:
        kernel, _ = fit_kernel(blocks, warp.targets(losses), scaling)
    return warp, kernel
