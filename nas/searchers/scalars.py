"""Scalarisations as settings: the one number that a single-objective searcher minimises.

    [searcher]
    name = "regularized_evolution"
    scalarisation = { kind = "mnasnet", targets = { latency_ms = 2.0 } }

In Python: `RegularizedEvolution(scalarisation=MNasNetReward({"latency_ms": 2.0}))`. One of your own is any
object with `check` and `scores`. The formulas are those of `nas.scalarisation`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from nas import scalarisation as formulas
from nas.protocols import Context, Objective
from nas.searchers.box import Box, Floats

Weights = Mapping[str, float]
"""Importance of each objective by name; what is not named has 1."""


class Scalarisation(Protocol):
    """Several losses as one number."""

    def check(self, objectives: Sequence[Objective]) -> None:
        """Raises `ValueError` unless the settings fit the objectives of the study."""
        ...

    def scores(
        self, losses: Floats, box: Box, objectives: Sequence[Objective], rng: np.random.Generator
    ) -> Floats:
        """One number a row, less is better, infinite for rows that are not finite (`float64[n]`).

        Args:
            losses: `float64[n, m]`, minimised, in the objectives' units.
            box: of the losses seen so far, to scale them with.
            objectives: the m objectives.
            rng: of weights that are drawn; once for all rows.
        """
        ...


Setting = Scalarisation | Mapping[str, Any] | None
"""What a searcher's option may be: a scalarisation, its table in a study file, or None."""


@dataclass(frozen=True)
class WeightedSum:
    """sum_i w_i f_i of losses scaled to [0, 1] over what was seen.

    Attributes:
        weights: by objective; None draws them uniformly on the simplex for each comparison, so that a search
            roams the front.
    """

    weights: Weights | None = None

    def __post_init__(self) -> None:
        _check_weights(self.weights)

    def check(self, objectives: Sequence[Objective]) -> None:
        _check_weighted(self.weights, objectives)

    def scores(
        self, losses: Floats, box: Box, objectives: Sequence[Objective], rng: np.random.Generator
    ) -> Floats:
        return formulas.weighted_sum(box.scaled(losses), _weights(self.weights, objectives, rng))


@dataclass(frozen=True)
class WeightedExponentialSum:
    """sum_i w_i f_i^p of losses scaled to [0, 1] over what was seen.

    Attributes:
        weights: as of `WeightedSum`.
        p: the larger, the more of a front that is not convex can be reached.
    """

    weights: Weights | None = None
    p: float = 2.0

    def __post_init__(self) -> None:
        _check_weights(self.weights)
        if not 0 < self.p < math.inf:
            raise ValueError(f"`0 < p < inf` must hold, but got p={self.p}")

    def check(self, objectives: Sequence[Objective]) -> None:
        _check_weighted(self.weights, objectives)

    def scores(
        self, losses: Floats, box: Box, objectives: Sequence[Objective], rng: np.random.Generator
    ) -> Floats:
        scaled = np.maximum(box.scaled(losses), 0.0)  # what is better than all that was seen
        return formulas.weighted_exponential_sum(scaled, _weights(self.weights, objectives, rng), self.p)


@dataclass(frozen=True)
class WeightedProduct:
    """prod_i f_i^w_i of the losses in their own units, which must be positive: units cancel out.

    A loss of 0 counts as the smallest positive number, so nothing is better than it.

    Attributes:
        weights: as of `WeightedSum`.
    """

    weights: Weights | None = None

    def __post_init__(self) -> None:
        _check_weights(self.weights)

    def check(self, objectives: Sequence[Objective]) -> None:
        _check_weighted(self.weights, objectives)
        maximised = [o.name for o in objectives if o.maximize]
        if maximised:
            raise ValueError(
                f"the weighted product must have losses > 0, but {maximised} are maximised: use another "
                "scalarisation, or minimise their complement"
            )

    def scores(
        self, losses: Floats, box: Box, objectives: Sequence[Objective], rng: np.random.Generator
    ) -> Floats:
        positive = np.where(losses == 0, np.finfo(np.float64).tiny, losses)
        return formulas.weighted_product(positive, _weights(self.weights, objectives, rng))


@dataclass(frozen=True)
class Chebyshev:
    """max_i w_i f_i + rho sum_i w_i f_i of losses scaled to [0, 1] over what was seen (Knowles 2006, eq. 2).

    Attributes:
        weights: as of `WeightedSum`.
        rho: of the sum, which tells weak optima from others; 0 for the plain maximum.
    """

    weights: Weights | None = None
    rho: float = 0.05

    def __post_init__(self) -> None:
        _check_weights(self.weights)
        if not 0 <= self.rho < math.inf:
            raise ValueError(f"`0 <= rho < inf` must hold, but got rho={self.rho}")

    def check(self, objectives: Sequence[Objective]) -> None:
        _check_weighted(self.weights, objectives)

    def scores(
        self, losses: Floats, box: Box, objectives: Sequence[Objective], rng: np.random.Generator
    ) -> Floats:
        weights = _weights(self.weights, objectives, rng)
        ideal = np.minimum(0.0, _least(scaled := box.scaled(losses)))
        return formulas.augmented_chebyshev(scaled, weights, ideal, self.rho)


@dataclass(frozen=True)
class EpsilonConstraint:
    """One objective alone; the others only have to stay within their bounds.

    Scaled to [0, 1] over what was seen; rows beyond a bound have more than 2, the less the nearer they are.

    Attributes:
        objective: what is minimised (maximised, if it is to be maximised).
        bounds: of other objectives, in their own units.
    """

    objective: str
    bounds: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.bounds or any(not _number(bound) for bound in self.bounds.values()):
            raise ValueError(f"bounds must be finite numbers by objective, but got {self.bounds!r}")
        if self.objective in self.bounds:
            raise ValueError(f"the objective {self.objective!r} must have no bound, it is what is minimised")

    def check(self, objectives: Sequence[Objective]) -> None:
        _check_named([self.objective, *self.bounds], objectives)

    def scores(
        self, losses: Floats, box: Box, objectives: Sequence[Objective], rng: np.random.Generator
    ) -> Floats:
        place = [o.name for o in objectives].index(self.objective)
        limits = np.array(
            [o.loss(self.bounds[o.name]) if o.name in self.bounds else np.inf for o in objectives]
        )
        excess = (np.maximum(losses - limits, 0.0) / np.maximum(np.abs(limits), 1e-12)).sum(axis=1)
        found = formulas.epsilon_constraint(losses, place, limits)
        within = (found - np.where(np.isfinite(box.low), box.low, 0.0)[place]) / box.span[place]
        beyond = np.isinf(found) & np.isfinite(losses).all(axis=1)
        return np.asarray(np.where(beyond, 2.0 + excess / (1 + excess), within))


@dataclass(frozen=True)
class MNasNetReward:
    """Minus accuracy x prod_i (f_i / T_i)^w (Tan et al. 2019, eq. 2 and 3): platform-aware search.

    An accuracy that is minimised, as the error in percent is, counts as 1 - value / perfect.

    Attributes:
        targets: T_i by objective, in its own unit, for example {"latency_ms": 2.0}.
        limit: "soft", w = -.07 on both sides of the target: twice the latency must buy 5 % of accuracy;
            "hard", w = 0 within it and -1 beyond.
        accuracy: the objective that says how good a network is.
        perfect: see above; 100 for percent.
    """

    targets: Mapping[str, float]
    limit: Literal["soft", "hard"] = "soft"
    accuracy: str = "error"
    perfect: float = 100.0

    def __post_init__(self) -> None:
        if not self.targets or any(not _number(t) or t <= 0 for t in self.targets.values()):
            raise ValueError(f"targets must be numbers > 0 by objective, but got {self.targets!r}")
        if self.limit not in ("soft", "hard"):
            raise ValueError(f"limit must be 'soft' or 'hard', but got {self.limit!r}")
        if self.accuracy in self.targets:
            raise ValueError(f"the accuracy {self.accuracy!r} must have no target")

    def check(self, objectives: Sequence[Objective]) -> None:
        _check_named([self.accuracy, *self.targets], objectives)
        wrong = [o.name for o in objectives if o.maximize and o.name in self.targets]
        if wrong:
            raise ValueError(f"targets must be of what is minimised, but {wrong} are maximised")

    def scores(
        self, losses: Floats, box: Box, objectives: Sequence[Objective], rng: np.random.Generator
    ) -> Floats:
        exponents = formulas.SOFT if self.limit == "soft" else formulas.HARD
        column = {o.name: np.array([o.loss(loss) for loss in losses[:, i]]) for i, o in enumerate(objectives)}
        maximised = {o.name: o.maximize for o in objectives}
        good = column[self.accuracy]
        reward = np.maximum(good if maximised[self.accuracy] else self.perfect - good, 0.0)
        for name, target in self.targets.items():
            reward = formulas.mnasnet_reward(reward, column[name], target, exponents)
        unit = 1.0 if maximised[self.accuracy] else self.perfect
        return np.where(np.isfinite(losses).all(axis=1), -reward / unit, np.inf)


KINDS: Mapping[str, Callable[..., Scalarisation]] = {
    "weighted_sum": WeightedSum,
    "weighted_exponential_sum": WeightedExponentialSum,
    "weighted_product": WeightedProduct,
    "chebyshev": Chebyshev,
    "epsilon_constraint": EpsilonConstraint,
    "mnasnet": MNasNetReward,
}
"""Scalarisations by the `kind` of their table."""


def scalarisation_of(setting: Setting) -> Scalarisation | None:
    """What a searcher's option means: a table is read, anything else is taken as it is.

    Raises:
        ValueError: the table has no known `kind`, or options that this kind does not take.

    Example:
        >>> scalarisation_of({"kind": "chebyshev", "weights": {"error": 2}})
        Chebyshev(weights={'error': 2}, rho=0.05)
    """
    if not isinstance(setting, Mapping):
        if setting is not None and not (hasattr(setting, "scores") and hasattr(setting, "check")):
            raise ValueError(f"scalarisation must be a table with a kind, but got {setting!r}")
        return setting
    options = {name: value for name, value in setting.items() if name != "kind"}
    kind = str(setting.get("kind"))
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"scalarisation.kind must be one of {', '.join(KINDS)}, but got {kind!r}{hint}")
    try:
        return KINDS[kind](**options)
    except TypeError as error:
        raise ValueError(f"scalarisation {kind!r}: {error}") from error
    except ValueError as error:
        raise ValueError(f"scalarisation {kind!r}: {error}") from None


def bound(setting: Setting, context: Context) -> Scalarisation | None:
    """The scalarisation of a searcher's option, checked against the study's objectives; None for none.

    Raises:
        ValueError: it does not fit them.
    """
    scalarisation = scalarisation_of(setting)
    if scalarisation is not None:
        scalarisation.check(context.objectives)
    return scalarisation


def _check_weighted(weights: Weights | None, objectives: Sequence[Objective]) -> None:
    """Raises `ValueError` unless the weights name objectives and leave one of them some weight."""
    _check_named(weights or (), objectives)
    if weights is not None and not any(weights.get(o.name, 1.0) for o in objectives):
        raise ValueError(f"weights must not all be 0, but got {dict(weights)}")


def _check_named(names: Iterable[str], objectives: Sequence[Objective]) -> None:
    known = [o.name for o in objectives]
    for name in names:
        if name not in known:
            raise ValueError(f"a scalarisation must name objectives of the study ({known}), but got {name!r}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_weights(weights: Weights | None) -> None:
    if weights is None:
        return
    if not isinstance(weights, Mapping) or any(not _number(w) or w < 0 for w in weights.values()):
        raise ValueError(f"weights must be numbers >= 0 by objective, but got {weights!r}")


def _weights(weights: Weights | None, objectives: Sequence[Objective], rng: np.random.Generator) -> Floats:
    """`float64[m]`: those of the settings, or drawn uniformly on the simplex."""
    if weights is None:
        return rng.dirichlet(np.ones(len(objectives)))
    return np.array([weights.get(o.name, 1.0) for o in objectives])


def _least(scaled: Floats) -> Floats:
    rows = scaled[np.isfinite(scaled).all(axis=1)]
    return rows.min(axis=0) if len(rows) else np.zeros(scaled.shape[1])
