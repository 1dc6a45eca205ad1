"""Proposals chosen some at once, on what a model says: the frame of all searchers that do so.

A batch is a pure function of the trials told when its first proposal was asked for, of those open then, and
of a seed drawn when the last of the former was told. So it is worked out once and remembered, and anew after
a crash. With nothing to learn, proposals are mutations of the front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers.draws import Draw, mutant, widening
from nas.searchers.evidence import Evidence
from nas.searchers.members import Member
from nas.searchers.novelty import first_new
from nas.searchers.predicted import Encode, Predictor, encoding, fitted_to
from nas.searchers.selection import failed
from nas.surrogates.model import Model, Unfit
from nas.trial import Proposal, Trial


@dataclass(frozen=True)
class Start:
    """What a batch is chosen from.

    Attributes:
        first: id of its first trial.
        told: how many trials were told.
        pending: those open, in order.
        seed: of all that is drawn.
    """

    first: int
    told: int
    pending: tuple[Trial, ...]
    seed: int


@dataclass(slots=True)
class State:
    """
    Attributes:
        initial, batch: random proposals before the first batch, and proposals of one.
        encode: what models see of an architecture.
        proposals: how many there were.
        seed: drawn when the last trial was told.
        start: of the batch that the last proposal is of.
        memo: by first trial, the batch, and why there is none; filled by `ask`, for speed only.
    """

    evidence: Evidence
    initial: int
    batch: int
    encode: Encode
    proposals: int = 0
    seed: int = 0
    start: Start | None = None
    memo: dict[int, tuple[list[Proposal], str]] = field(default_factory=dict)

    @classmethod
    def of(cls, context: Context, initial: int, batch: int, paths_alone: bool = False) -> State:
        return cls(Evidence(context), initial, batch, encoding(context, paths_alone))


@dataclass(frozen=True)
class Past:
    """What is known when a batch is chosen: nothing that came later counts as seen.

    Attributes:
        evidence: the trials told then, and those open then.
        predictor: fitted to them.
        believed: the open ones as if told what is predicted.
    """

    evidence: Evidence
    predictor: Predictor
    believed: list[Member]

    @property
    def context(self) -> Context:
        return self.evidence.context

    @property
    def members(self) -> list[Member]:
        """All that succeeded, and what is believed of those open."""
        return [*self.evidence.succeeded, *self.believed]


Choose = Callable[[Past, int, np.random.Generator], list[Proposal]]
"""(past, how many, rng) -> new proposals, best first; fewer where there are no more."""


# --- the three functions of a searcher -----------------------------------------------------------------


def ask(state: State, model: Model, choose: Choose, rng: np.random.Generator) -> Proposal | Exhausted:
    """The next of the batch; a random one first, a mutation where there is no model."""
    context = state.evidence.context
    if state.proposals < state.initial:
        return first_new(context, rng)
    picks, reason = _batch(state, model, choose)
    return first_new(context, rng, chain(picks, _mutations(state.evidence, reason, rng)))


def proposed(state: State, trial: Trial) -> State:
    if state.proposals >= state.initial:
        state.start = _start(state)
    state.evidence.proposed(trial)
    state.proposals += 1
    return state


def told(state: State, trial: Trial, rng: np.random.Generator) -> State:
    state.evidence.told(trial)
    state.seed = int(rng.integers(2**63))
    return state


# --- what a batch is -----------------------------------------------------------------------------------


def _start(state: State) -> Start:
    """Of the batch that the next proposal is of."""
    if state.start is not None and (state.proposals - state.initial) % state.batch:
        return state.start
    evidence = state.evidence
    return Start(state.proposals, len(evidence.members), tuple(evidence.pending.values()), state.seed)


def _batch(state: State, model: Model, choose: Choose) -> tuple[list[Proposal], str]:
    """The batch, and why it is empty if there is nothing to learn from."""
    start = _start(state)
    if start.first not in state.memo:
        state.memo.clear()
        try:
            rng = np.random.default_rng(start.seed)
            state.memo[start.first] = choose(_past(state, model, start), state.batch, rng), ""
        except Unfit as error:
            state.memo[start.first] = [], str(error)
    return state.memo[start.first]


def _past(state: State, model: Model, start: Start) -> Past:
    context = state.evidence.context
    members = state.evidence.members[: start.told]
    trials = [*(member.trial for member in members), *start.pending]
    known = {context.identify(trial.architecture) for trial in trials}
    then = replace(context, seen=known.__contains__)
    succeeded = [member for member in members if not failed(member)]
    evidence = Evidence(then, members, succeeded, {trial.id: trial for trial in start.pending})
    predictor = fitted_to(evidence, state.encode, model, start.seed)
    return Past(evidence, predictor, predictor.members([trial.proposal for trial in start.pending]))


def _mutations(evidence: Evidence, reason: str, rng: np.random.Generator) -> Iterator[Draw]:
    """Mutations of the front; their origin says why they are not of a model."""
    parents = evidence.front
    if parents:
        for changes in widening():
            parent = parents[int(rng.integers(len(parents)))].trial
            origin = f"mutate ({reason})" if reason else "mutate"
            yield mutant(evidence.context.space, parent, changes, rng, origin)
