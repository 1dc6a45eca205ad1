"""Multi-objective local search: the neighbours of the front are evaluated until all were.

With one objective this is hill climbing with restarts; with several Pareto local search (Paquete et al. 2004,
"Pareto Local Optimum Sets in the Biobjective Traveling Salesman Problem") that takes neighbours in the
order of what they promise, exact objectives being known before training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nas import pareto
from nas.architecture import Architecture
from nas.protocols import Context, Exhausted
from nas.searchers.box import Box, Floats
from nas.searchers.members import Member
from nas.searchers.novelty import first_new
from nas.searchers.selection import archived, failed
from nas.trial import Proposal, Trial

NEIGHBORS = 1000
"""At most so many neighbours of one architecture are looked at, evenly spread over all."""

OPTIMISM = 0.1
"""How far below the front's best a measured objective is hoped to go beyond the front's end, of its range."""

Candidate = tuple[Member, Architecture]
"""A member of the front and an unexplored neighbour of it."""


@dataclass(slots=True)
class State:
    """
    Attributes:
        front: of the trials told since the last restart.
        samples: proposed since the last restart.
        open: neighbours proposed, not told.
        around: trial id -> neighbours with their identity keys; remembered, computed anew where missing.
    """

    context: Context
    box: Box
    front: list[Member] = field(default_factory=list)
    samples: int = 0
    open: set[int] = field(default_factory=set)
    around: dict[int, list[tuple[Architecture, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class LocalSearch:
    """Evaluates unexplored neighbours of the front; restarts from random ones when there are none left.

    `draws` unexplored neighbours within the limits are drawn uniformly, and the quarter with the least
    crowded parents stays. Where no objective is exact the first of these is taken; else the one that would
    add most hypervolume if each measured objective fell in the middle of what can be hoped for (see
    `promise`), so that gaps along the exact objectives are filled first.

    Attributes:
        starts: random trials a search starts and restarts with.
        draws: how many neighbours are weighed for one proposal.

    Raises:
        ValueError: `1 <= starts` or `1 <= draws` does not hold.
    """

    starts: int = 5
    draws: int = 8

    def __post_init__(self) -> None:
        if self.starts < 1 or self.draws < 1:
            raise ValueError(
                f"`1 <= starts` and `1 <= draws` must hold, but got ({self.starts=}, {self.draws=})"
            )

    def init(self, context: Context) -> State:
        return State(context, Box.empty(len(context.objectives)))

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        context = state.context
        if state.samples < self.starts or not state.front:
            return first_new(context, rng)
        drawn = self._drawn(state, rng)
        if drawn:
            parent, neighbor = drawn[0] if len(drawn) == 1 else _most_promising(state, drawn)
            proposal = Proposal(neighbor, (parent.trial.id,), "neighbor")
            return first_new(context, rng, [proposal])
        sample = first_new(context, rng)
        if isinstance(sample, Exhausted) or state.open:
            return sample
        return replace(sample, origin="restart")

    def _drawn(self, state: State, rng: np.random.Generator) -> list[Candidate]:
        """`draws` unexplored neighbours of the front that meet the limits on exact objectives, or all."""
        context = state.context
        candidates = [
            (member, neighbor)
            for member in state.front
            for neighbor, key in _neighbors(state, member.trial)
            if not context.seen(key)
        ]
        drawn: list[Candidate] = []
        for place in rng.permutation(len(candidates)).tolist():
            if not context.violation(context.exact(candidates[place][1])) > 0:
                drawn.append(candidates[place])
                if len(drawn) == self.draws:
                    break
        return drawn

    def proposed(self, state: State, trial: Trial) -> State:
        if trial.proposal.origin == "neighbor":
            state.open.add(trial.id)
            return state
        if trial.proposal.origin == "restart":
            state.front, state.around, state.samples = [], {}, 0
        state.samples += 1
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        state.open.discard(trial.id)
        member = Member.of(state.context, trial)
        if not failed(member):
            state.box = state.box.including(member.losses)
            state.front = archived(state.front, member)
            if len(state.around) > 2 * len(state.front):
                around = {m.trial.id: state.around.get(m.trial.id) for m in state.front}
                state.around = {i: known for i, known in around.items() if known is not None}
        return state


def _neighbors(state: State, trial: Trial) -> list[tuple[Architecture, str]]:
    """The neighbours of a trial's architecture, at most `NEIGHBORS`, with their identity keys."""
    if trial.id not in state.around:
        neighbors = state.context.space.neighbors(trial.architecture)
        step = -(-len(neighbors) // NEIGHBORS) or 1
        state.around[trial.id] = [(a, state.context.identify(a)) for a in neighbors[::step]]
    return state.around[trial.id]


def _most_promising(state: State, drawn: list[Candidate]) -> Candidate:
    losses = np.array([member.losses for member in state.front])
    crowding = pareto.crowding(losses)
    spread = {m.trial.id: distance for m, distance in zip(state.front, crowding.tolist(), strict=True)}
    drawn = sorted(drawn, key=lambda candidate: -spread[candidate[0].trial.id])
    objectives = state.context.objectives
    exact = np.array([o.exact is not None for o in objectives])
    if not exact.any():
        return drawn[0]
    drawn = drawn[: -(-len(drawn) // 4)]
    hoped = np.full((len(drawn), len(objectives)), np.nan)
    for row, (_, neighbor) in zip(hoped, drawn, strict=True):
        values = state.context.exact(neighbor)
        row[exact] = [o.loss(values[o.name]) for o in objectives if o.exact is not None]
    gains = promise(state.box.scaled(losses), state.box.scaled(hoped), exact)
    return drawn[int(np.argmax(gains))]


def promise(front: Floats, candidates: Floats, exact: NDArray[np.bool_]) -> Sequence[float]:
    """Hypervolume of the front, bounded by 1.1, with each candidate where it can be hoped to fall.

    A measured objective is hoped to lie in the middle between the best of the members that cost no more in
    any exact objective, and the best of those that cost no less. Where none costs no less, the latter is
    `OPTIMISM` below the front's best; where none costs no more, the former is 1, the worst seen.

    Args:
        front: `float64[f, m]`, losses scaled to [0, 1] over what was seen.
        candidates: `float64[c, m]`, scaled alike; only the exact columns are read.
        exact: `bool[m]`, which objectives are.
    """
    cost, measured = front[:, exact], front[:, ~exact]
    bound = np.full(front.shape[1], 1.1)
    found = []
    for candidate in candidates:
        dearer = (cost >= candidate[exact]).all(axis=1)
        cheaper = (cost <= candidate[exact]).all(axis=1)
        low = measured[dearer].min(axis=0) if dearer.any() else measured.min(axis=0) - OPTIMISM
        high = measured[cheaper].min(axis=0) if cheaper.any() else np.ones(measured.shape[1])
        hoped = candidate.copy()
        hoped[~exact] = (low + high) / 2
        found.append(pareto.hypervolume(np.vstack([front, hoped]), bound))
    return found
