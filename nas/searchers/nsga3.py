"""NSGA-III (Deb & Jain 2014, "An Evolutionary Many-Objective Optimization Algorithm Using Reference-
Point-Based Nondominated Sorting Approach, Part I"). Directions, normalisation and niching are pymoo's."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from math import comb

import numpy as np
from numpy.typing import NDArray

from nas.protocols import Context, Exhausted
from nas.searchers import nsga2, selection
from nas.searchers.members import Member
from nas.searchers.nsga2 import NSGA2
from nas.trial import Proposal, Trial

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the normalisation remembers of all that was told (section IV-C).

    Attributes:
        ideal, worst: of each objective (`float64[m]`), infinite before anything feasible was told.
        extremes: the row nearest to each axis (`float64[m, m]`); None before.
    """

    ideal: Floats
    worst: Floats
    extremes: Floats | None = None


@dataclass(slots=True)
class State(nsga2.State):
    directions: Floats = field(default_factory=lambda: np.ones((1, 1)))
    bounds: Bounds = field(default_factory=lambda: Bounds(np.full(1, np.inf), np.full(1, -np.inf)))


@dataclass(frozen=True)
class NSGA3:
    """Survivors spread over reference directions.

    Children are made as by `NSGA2`. A tournament is won by rank, which has feasibility in it, and equal ranks
    toss; the paper tosses among all feasible parents, which fits a population that is one front.

    Attributes:
        population: survivors.
        offspring: trials told between two renewals of the survivors; None for `population`, the paper's.
        crossover, mutation: as of `NSGA2`.
        partitions: of each axis, for Das and Dennis's directions; None for as many as give at most one
            direction a survivor.

    Raises:
        ValueError: a number is out of range.
    """

    population: int = 20
    offspring: int | None = 1
    crossover: float = 0.25
    mutation: float = 1.0
    partitions: int | None = None

    def __post_init__(self) -> None:
        self._variation()
        if self.partitions is not None and self.partitions < 1:
            raise ValueError(f"`1 <= partitions` must hold, but got ({self.partitions=})")

    def _variation(self) -> NSGA2:
        return NSGA2(self.population, self.offspring, self.crossover, self.mutation)

    def init(self, context: Context) -> State:
        m = len(context.objectives)
        partitions = self.partitions or fitting_partitions(m, self.population)
        bounds = Bounds(np.full(m, np.inf), np.full(m, -np.inf))
        return State(context, directions=reference_directions(m, partitions), bounds=bounds)

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        return self._variation().ask(state, rng)

    def proposed(self, state: State, trial: Trial) -> State:
        state.proposals += 1
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        state.offspring.append(Member.of(state.context, trial))
        first = not state.population
        due = self.population if first or self.offspring is None else self.offspring
        if len(state.offspring) >= due:
            members = [*state.population, *state.offspring]
            state.population, state.bounds = spread(
                members, self.population, state.directions, state.bounds, rng
            )
            state.offspring = []
        return state


def fitting_partitions(objectives: int, population: int) -> int:
    """The most partitions, at least 1, that give no more directions than survivors."""
    partitions = 1
    while objectives > 1 and comb(partitions + objectives, objectives - 1) <= population:
        partitions += 1
    return partitions


def reference_directions(objectives: int, partitions: int) -> Floats:
    """Das and Dennis's points on the simplex, `float64[comb(partitions + m - 1, m - 1), m]`."""
    from pymoo.util.ref_dirs import get_reference_directions  # a sixth of a second, for this searcher only

    if objectives == 1:
        return np.ones((1, 1))
    return np.asarray(get_reference_directions("das-dennis", objectives, n_partitions=partitions))


def spread(
    members: list[Member], count: int, directions: Floats, bounds: Bounds, rng: np.random.Generator
) -> tuple[list[Member], Bounds]:
    """The `count` members that survive (algorithms 1 to 4), and the bounds with theirs.

    Whole fronts survive as long as there is room; the next one fills it niche by niche. Ranks of infeasible
    and failed members are those of `selection.ranked`; of them the least violation goes first. The
    `crowding` of a survivor is 0: a tournament within a rank is a toss.
    """
    ranked = selection.survivors(members, len(members))
    feasible = [m for m in ranked if not m.violation > 0 and not selection.failed(m)]
    others = ranked[len(feasible) :]
    kept: list[Member] = feasible
    if feasible:
        losses = np.array([m.losses for m in feasible])
        ranks = np.array([m.rank for m in feasible])
        rows, bounds = _niched(losses, ranks, count, directions, bounds, rng)
        kept = [feasible[i] for i in rows]
    left = [*kept, *others][:count]
    return [Member(m.trial, m.losses, m.violation, m.rank) for m in left], bounds


def _niched(
    losses: Floats, ranks: NDArray[np.int64], count: int, directions: Floats, bounds: Bounds,
    rng: np.random.Generator,
) -> tuple[list[int], Bounds]:  # fmt: skip
    """Rows that survive of the feasible `losses`, whose `ranks` are ascending."""
    from pymoo.algorithms.moo import nsga3 as pymoo_nsga3

    last = int(ranks[min(count, len(ranks)) - 1])
    considered = losses[ranks <= last]
    bounds, nadir = _normalised(losses, np.flatnonzero(ranks == 0), bounds)
    certain = int((ranks < last).sum())
    candidates = len(considered) - certain
    if certain + candidates <= count:
        return list(range(len(considered))), bounds
    scale = _range(bounds)
    niche, distance, _ = pymoo_nsga3.associate_to_niches(
        (considered - bounds.ideal) / scale, directions, np.zeros(len(scale)), nadir
    )
    chosen = pymoo_nsga3.niching(
        range(candidates),
        count - certain,
        pymoo_nsga3.calc_niche_count(len(directions), niche[:certain]),
        niche[certain:],
        distance[certain:],
        random_state=rng,
    )
    return [*range(certain), *(certain + i for i in chosen)], bounds


def _range(bounds: Bounds) -> Floats:
    span = bounds.worst - bounds.ideal
    return np.where(span > 0, span, 1.0)


def _normalised(losses: Floats, front: NDArray[np.int64], bounds: Bounds) -> tuple[Bounds, Floats]:
    """The bounds with `losses`, and the nadir point in units of their range above the ideal (`float64[m]`).

    pymoo's constants (1e-3, 1e-6) are absolute, so it is shown losses that are scaled to [0, 1].
    """
    from pymoo.algorithms.moo.nsga3 import HyperplaneNormalization

    ideal = np.minimum(bounds.ideal, losses.min(axis=0))
    worst = np.maximum(bounds.worst, losses.max(axis=0))
    scale = _range(Bounds(ideal, worst))
    plane = HyperplaneNormalization(len(ideal))
    plane.ideal_point, plane.worst_point = np.zeros(len(ideal)), (worst - ideal) / scale
    if bounds.extremes is not None:
        plane.extreme_points = (bounds.extremes - ideal) / scale
    with warnings.catch_warnings():  # pymoo silences all warnings of the process, and may divide by 0 first
        warnings.simplefilter("ignore")
        plane.update((losses - ideal) / scale, nds=front)
    return Bounds(ideal, worst, plane.extreme_points * scale + ideal), np.asarray(plane.nadir_point)
