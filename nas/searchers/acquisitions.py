"""What a candidate promises, given what is believed: the larger the number, the sooner it is trained.

With several objectives improvement is hypervolume: what is expected, or what a bound or a draw would add if
it came true. The formulas are those of `nas.surrogates.acquisition` and `nas.surrogates.ehvi`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nas.scalarisation import achievement
from nas.searchers.belief import Belief
from nas.searchers.box import Box, Floats
from nas.searchers.candidates import Candidate, exact_losses
from nas.surrogates.acquisition import (
    confidence_bound,
    independent_thompson_sampling,
    knowledge_gradient,
    log_expected_improvement,
    thompson,
)
from nas.surrogates.ehvi import Below, boxes, exactly, expected_hypervolume_improvement
from nas.surrogates.model import Normal
from nas.surrogates.warp import Warp

KAPPA = 1.0
"""Deviations of a bound below the mean."""

DRAWS = 128
"""Of a Monte Carlo estimate; the same for all candidates."""

AHEAD = 100
"""A look ahead weighs so many candidates, those of the largest expected improvement."""

RHO = 0.05
"""Of ParEGO's augmented Chebyshev norm (Knowles 2006)."""


@dataclass(frozen=True)
class Outlook:
    """What the next proposal goes by.

    Attributes:
        belief: of the modelled objectives.
        within: losses of the trials within the limits, `float64[n, m]`; open ones as they are expected to be.
        losses: of all that succeeded, `float64[n, m]`.
        reference: of the hypervolume, `float64[m]`.
        rng: of what is drawn.
        pending: open trials.
        widened: by how much deviations are taken to be larger.
        doubtful: whether this is a turn that doubts the model.
    """

    belief: Belief
    within: Floats
    losses: Floats
    reference: Floats
    rng: np.random.Generator
    pending: Sequence[Candidate] = field(default=())
    widened: float = 1.0
    doubtful: bool = False

    @cached_property
    def cut(self) -> tuple[Floats, Floats]:
        """The region that nothing dominates, in boxes."""
        return boxes(self.within, self.reference)

    @cached_property
    def weights(self) -> Floats:
        """Of the objectives, uniform on the simplex (`float64[m]`)."""
        return self.rng.dirichlet(np.ones(len(self.reference)))

    @cached_property
    def normals(self) -> Floats:
        """`float64[m, DRAWS]`."""
        return self.rng.standard_normal((len(self.reference), DRAWS))

    @property
    def given(self) -> list[int]:
        """Rows of the open trials."""
        return [candidate.row for candidate in self.pending]

    def predictions(self, candidates: Sequence[Candidate]) -> dict[int, tuple[Warp, Normal]]:
        """Of each modelled objective, deviations widened."""
        found = self.belief.predictions(candidates, self.pending)
        return {
            place: (warp, Normal(predicted.mean, self.widened * predicted.std))
            for place, (warp, predicted) in found.items()
        }

    def growth(self, below: Sequence[Below]) -> Floats:
        """`float64[n]`: the sum over the boxes of the product of differences between their corners."""
        return expected_hypervolume_improvement(below, *self.cut)


# --- one by one ----------------------------------------------------------------------------------------


def improvement(outlook: Outlook, candidates: Sequence[Candidate]) -> Floats:
    """Expected hypervolume improvement; of one objective that is modelled the probability to improve, but in
    doubtful turns and while trials are open: beside an open one it is likely, and next to nothing.

    So, or by the probability alone, the regret on the error of NAS-Bench-Macro after 50 trials was .009, by
    the expectation alone .013, each +- .001 (seeds 700-899, before labels were doubted).
    """
    one = len(outlook.reference) == 1 and bool(outlook.belief.objectives)
    likely = one and not outlook.doubtful and not outlook.pending
    return (chance_of_growth if likely else expected_growth)(outlook, candidates)


def expected_growth(outlook: Outlook, candidates: Sequence[Candidate]) -> Floats:
    """Expected hypervolume improvement; of one objective expected improvement."""
    return outlook.growth(_of_each(outlook, candidates, _expected, exactly))


def chance_of_growth(outlook: Outlook, candidates: Sequence[Candidate]) -> Floats:
    """Probability that nothing told dominates it; of one objective probability of improvement."""
    return outlook.growth(_of_each(outlook, candidates, _probable, _surely))


def log_expected(outlook: Outlook, candidates: Sequence[Candidate]) -> Floats:
    """Log of the expected improvement on the model's scale, also where that is next to 0; one objective."""
    predictions = outlook.predictions(candidates)
    if not predictions:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(expected_growth(outlook, candidates)))
    ((warp, predicted),) = predictions.values()
    return log_expected_improvement(predicted, _least(outlook, warp))


def bound_growth(outlook: Outlook, candidates: Sequence[Candidate]) -> Floats:
    """What the confidence bounds would add (GP-UCB, Srinivas et al. 2010, turned to losses)."""
    return _if_true(outlook, candidates, lambda place, predicted: confidence_bound(predicted, KAPPA))


def scalar_growth(outlook: Outlook, candidates: Sequence[Candidate]) -> Floats:
    """Expected improvement of one augmented Chebyshev norm, its weights drawn for each proposal (ParEGO).

    The losses are modelled one by one and the norm's expectation is that over draws, as in qParEGO (Daulton
    et al. 2020): so exact objectives stay exact.
    """
    box = Box.of(outlook.losses)
    draws = np.repeat(exact_losses(candidates)[:, None], DRAWS, axis=1)
    for place, (warp, predicted) in outlook.predictions(candidates).items():
        z = predicted.mean[:, None] + predicted.std[:, None] * outlook.normals[place]
        draws[:, :, place] = warp.losses(z)
    shape = draws.shape[:2]
    norms = _norm(outlook, box.scaled(draws.reshape(-1, draws.shape[2]))).reshape(shape)
    best = _norm(outlook, box.scaled(np.vstack([outlook.within, outlook.reference]))).min()
    return np.asarray(np.maximum(best - norms, 0.0).mean(axis=1))


# --- together ------------------------------------------------------------------------------------------


def drawn_growth(outlook: Outlook, candidates: Sequence[Candidate]) -> Floats:
    """What losses drawn for each candidate alone would add (White et al. 2021)."""
    return _if_true(
        outlook, candidates, lambda place, predicted: independent_thompson_sampling(predicted, outlook.rng)
    )


def jointly_drawn_growth(outlook: Outlook, candidates: Sequence[Candidate]) -> Floats:
    """What losses drawn together would add: one draw of the process (Thompson 1933)."""
    rows = [candidate.row for candidate in candidates]
    posteriors = dict(zip(outlook.belief.objectives, outlook.belief.posteriors, strict=True))

    def draw(place: int, predicted: Normal) -> Floats:
        covariance = outlook.widened**2 * posteriors[place].covariance(rows, rows, outlook.given)
        return np.asarray(thompson(predicted.mean, covariance, outlook.rng)[0])

    return _if_true(outlook, candidates, draw)


def look_ahead(outlook: Outlook, candidates: Sequence[Candidate]) -> Floats:
    """Knowledge gradient: how much lower the least mean is expected to be after one more trial.

    It is for one objective, and exact over the `AHEAD` candidates of the largest expected improvement and as
    many told trials of the least means; other candidates have 0.
    """
    predictions = outlook.predictions(candidates)
    if not predictions:
        return expected_growth(outlook, candidates)
    ((warp, predicted),) = predictions.values()
    chosen = np.argsort(-log_expected_improvement(predicted, _least(outlook, warp)), kind="stable")[:AHEAD]
    (posterior,) = outlook.belief.posteriors
    told = posterior.rows
    least = np.argsort(posterior.predict(told).mean, kind="stable")[:AHEAD]
    rows = [candidates[place].row for place in chosen.tolist()] + [told[place] for place in least.tolist()]
    means = posterior.predict(rows).mean
    covariance = posterior.covariance(rows, rows, outlook.given)
    gains = np.zeros(len(candidates))
    gains[chosen] = knowledge_gradient(means, covariance, posterior.kernel.noise)[: len(chosen)]
    return gains


# --- parts ---------------------------------------------------------------------------------------------


def _of_each(
    outlook: Outlook,
    candidates: Sequence[Candidate],
    modelled: Callable[[Warp, Normal], Below],
    known: Callable[[Floats], Below],
) -> list[Below]:
    """One function of levels an objective."""
    predictions, number = outlook.predictions(candidates), len(outlook.reference)
    exact = exact_losses(candidates) if len(predictions) < number else None
    return [
        modelled(*predictions[place]) if exact is None or place in predictions else known(exact[:, place])
        for place in range(number)
    ]


def _expected(warp: Warp, predicted: Normal) -> Below:
    return lambda levels: warp.expected_below(levels, predicted)


def _probable(warp: Warp, predicted: Normal) -> Below:
    return lambda levels: warp.chances_below(levels, predicted)


def _surely(losses: Floats) -> Below:
    return lambda levels: (losses[:, None] < levels).astype(np.float64)


def _if_true(
    outlook: Outlook, candidates: Sequence[Candidate], point: Callable[[int, Normal], Floats]
) -> Floats:
    """What candidates would add to the hypervolume if `point` (on the model's scale) came true."""
    losses = exact_losses(candidates)
    for place, (warp, predicted) in outlook.predictions(candidates).items():
        losses[:, place] = warp.losses(point(place, predicted))
    return outlook.growth([exactly(column) for column in losses.T])


def _least(outlook: Outlook, warp: Warp) -> float:
    """The least loss on the model's scale; where none is within the limits, the reference."""
    least = min(float(outlook.within.min(initial=np.inf)), float(outlook.reference[0]))
    return float(warp.targets(np.array([least]))[0])


def _norm(outlook: Outlook, scaled: Floats) -> Floats:
    return achievement(scaled, outlook.weights, rho=RHO)  # a draw may be better than all that was seen


@dataclass(frozen=True)
class Acquisition:
    """
    Attributes:
        score: (outlook, candidates) -> `float64[n]`, more is better; nothing is hoped for at `nothing`.
        climbs: whether a neighbour, scored later, can be compared.
        single: whether it is for one objective only.
        nothing: the score of what promises nothing.
    """

    score: Callable[[Outlook, Sequence[Candidate]], Floats]
    climbs: bool = True
    single: bool = False
    nothing: float = 0.0

    def weighted(self, scores: Floats, chances: Floats) -> Floats:
        """The scores times these chances, `float64[n]` each."""
        if self.nothing == 0:
            return scores * chances
        with np.errstate(divide="ignore"):
            return np.asarray(scores + np.log(chances))


ACQUISITIONS: Mapping[str, Acquisition] = {
    "improvement": Acquisition(improvement),
    "ehvi": Acquisition(expected_growth),
    "ei": Acquisition(expected_growth, single=True),
    "pi": Acquisition(chance_of_growth),
    "log_ei": Acquisition(log_expected, single=True, nothing=-np.inf),
    "ucb": Acquisition(bound_growth),
    "its": Acquisition(drawn_growth, climbs=False),
    "thompson": Acquisition(jointly_drawn_growth, climbs=False),
    "knowledge_gradient": Acquisition(look_ahead, climbs=False, single=True),
    "parego": Acquisition(scalar_growth),
}
"""By the name of the setting."""
