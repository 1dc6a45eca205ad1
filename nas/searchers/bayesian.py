"""Bayesian optimisation: trained next is what is expected to add most hypervolume, or what else is asked for.

The objectives that training tells are modelled by Gaussian processes, on a log scale where that is likelier;
exact ones are known. Expected hypervolume improvement is exact in any number of objectives
(`nas.surrogates.ehvi`). What else a candidate may be chosen by is in `acquisitions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose

import numpy as np

from nas import pareto
from nas.architecture import Architecture
from nas.protocols import Context, Exhausted
from nas.searchers.acquisitions import ACQUISITIONS, Acquisition, Outlook
from nas.searchers.belief import Belief, Chance, quality, updated, updated_chance
from nas.searchers.candidates import Candidate, Candidates
from nas.searchers.draws import Draw, child_of, widening
from nas.searchers.evidence import Evidence
from nas.searchers.members import Member
from nas.searchers.novelty import first_new
from nas.searchers.offspring import fresh
from nas.searchers.promise import TIED, Promise
from nas.surrogates.features import BLOCKS, DEFAULT, squared_distances
from nas.surrogates.model import Unfit
from nas.surrogates.threads import one_thread
from nas.trial import Proposal, Trial

POOL = 800
"""Candidates at a time: random ones, children of the front, and neighbours of the best."""

NEAR = 10
"""So many neighbours of the best trials become candidates with each trial, the latest trial's first."""

NEIGHBORS = 100
"""At most so many neighbours of a trial wait."""

WAITING = 600
"""At most so many neighbours wait altogether."""

FIRST = 200
"""Random candidates that the first trial adds."""

SPREAD = 50
"""So many of the pool, neighbours left out, of which the one least like all trials may be proposed."""

CLIMB, LATE = 10, 400
"""So many mutations of the best candidate are candidates while the pool is not full, in doubtful turns, where
the pool promises nothing, and from so many told trials on in all turns.

They cost more time than all else in a turn. Early they help where spaces are large: of a made-up error of
DARTS cells the log of the least one after 50 trials was -2.44 with them and -1.99 without, +- .16 (8 seeds).
Later, on NAS-Bench-Macro with nothing known, the gap after 200 / 400 trials was .19 / .12 with them in all
turns, .22 / .18 in none, and .10 / .07 in doubtful ones, +- .03 / .02 (20 seeds from 700). Late, when the
neighbours of the front are known, they are needed: on (error, pixel3) of NAS-Bench-201 the gap after 1,000
trials was .26 with them in doubtful turns, and .09 if in all from 400 on, +- .04 (4 seeds from 700)."""

CENTRES = 12
"""Neighbours of at least so many of the best trials are candidates; of the whole front if it is larger."""

MARGIN = 0.1
"""How far beyond the worst losses the reference stands, in units of their range."""

DOUBTFUL = 3
"""Each such turn doubts the model. Of several objectives the reference stands `FAR` off, and deviations are
`DOUBT` times as large, or `GREATER`; one objective is chosen for by its expected improvement."""

FAR, DOUBT = 0.5, 2.0
"""Without doubt some searches never look where a front ends that the first trials missed: of latencies
that nobody knows (NAS-Bench-201, a Pixel 3) one of eight was still at a gap of 22 after 200 trials."""

EARLY, GREATER = 60, 3.0
"""Up to so many trials deviations are `GREATER` times as large instead: a process of latencies that saw slow
networks only was eight deviations off fast ones. Gaps at 50 / 100 trials were 15.5 / 6.1 without, 13.6 / 5.7
so, +- .9 / .4, and 13.6 / 5.6 with greater doubts throughout (120 seeds from 500), which made gaps after 200
trials of NAS-Bench-Macro larger, 1.02 to 1.35 times."""

STRAYS = frozenset(round(12 * 1.65**k) for k in range(30))
"""Where there are several objectives, trial 12, 20, 33, 54, 89, 147 … is the one least like all before.

A process that saw networks of one kind is as sure of all others. Without strays one of twenty searches of
(error, MACs) on NAS-Bench-201 never saw the networks without convolutions that learn: the front's end."""


@dataclass(slots=True)
class Drawn:
    """An architecture of the pool, the trial whose neighbour it is (or -1), and what is remembered of it."""

    architecture: Architecture
    parent: int = -1
    key: str = ""
    candidate: Candidate | None = None


@dataclass(slots=True)
class State:
    """
    Attributes:
        sample: the first random candidates; they say what makes features comparable.
        pool: what may be proposed, the latest last.
        waiting: neighbours of good trials, the latest last, that are not in the pool yet.
        candidates, belief, chance: remembered; computed anew where missing.
    """

    context: Context
    evidence: Evidence
    candidates: Candidates
    sample: list[Architecture] = field(default_factory=list)
    pool: list[Drawn] = field(default_factory=list)
    waiting: list[Drawn] = field(default_factory=list)
    belief: Belief | None = None
    chance: Chance | None = None

    def open(self) -> dict[str, Candidate]:
        """What of the pool was not proposed before and meets the limits, the first of each key.

        No candidate is made of the others.
        """
        found: dict[str, Candidate] = {}
        context = self.context
        for drawn in self.pool:
            if not drawn.key:
                drawn.key = context.identify(drawn.architecture)
            if drawn.key in found or context.seen(drawn.key):
                continue
            if drawn.candidate is None:
                drawn.candidate = self.candidates.allowed(drawn.architecture)
            if drawn.candidate is not None:
                found[drawn.key] = drawn.candidate
        return found

    def sampled(self) -> list[Architecture]:
        """Those of `open` that are random or children of the front, nobody's neighbours; the latest last."""
        found = self.open()
        near = {drawn.key for drawn in self.pool if drawn.parent >= 0}
        return [candidate.architecture for key, candidate in found.items() if key not in near]

    def parent_of(self, key: str) -> int | None:
        """The trial whose neighbour a candidate of the pool is, the latest where there are several."""
        for drawn in reversed(self.pool):
            if drawn.parent >= 0 and drawn.key == key:
                return drawn.parent
        return None

    def forget(self) -> None:
        """Drops what is remembered where that has become too much."""
        if self.candidates.forget():
            self.belief = self.chance = None
            for drawn in self.pool:
                drawn.candidate = None


@dataclass(frozen=True)
class BayesianOptimization:
    """Gaussian processes, and the improvement they promise, for any space and number of objectives.

    Attributes:
        initial: trials before the first model, spread over what networks cost.
        samples: random candidates that each trial but the first adds, and as many children of the front.
        blocks: what the model sees of an architecture, of `nas.surrogates.features.BLOCKS`.
        acquisition: what a candidate is chosen by, of `nas.searchers.acquisitions.ACQUISITIONS`.

    Raises:
        ValueError: `2 <= initial` or `1 <= samples` does not hold, a block or the acquisition has no such
            name, or the acquisition is for one objective and there are several.
    """

    initial: int = 5
    samples: int = 1
    blocks: Sequence[str] = DEFAULT
    acquisition: str = "improvement"

    def __post_init__(self) -> None:
        if self.initial < 2 or self.samples < 1:
            raise ValueError(
                f"`2 <= initial` and `1 <= samples` must hold, but got ({self.initial=}, {self.samples=})"
            )
        if not self.blocks or not set(self.blocks) <= set(BLOCKS):
            raise ValueError(f"blocks must be some of {', '.join(BLOCKS)}, but got {self.blocks!r}")
        if self.acquisition not in ACQUISITIONS:
            raise ValueError(
                f"acquisition must be one of {', '.join(ACQUISITIONS)}, but got {self.acquisition!r}"
            )

    def init(self, context: Context) -> State:
        if ACQUISITIONS[self.acquisition].single and len(context.objectives) > 1:
            several = [name for name, acquisition in ACQUISITIONS.items() if not acquisition.single]
            raise ValueError(
                f"acquisition {self.acquisition!r} is for one objective, but there are "
                f"{len(context.objectives)}: use one of {', '.join(several)}"
            )
        return State(context, Evidence(context), Candidates(context, tuple(self.blocks)))

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        with one_thread():
            return self._ask(state, rng)

    def _ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        context, evidence = state.context, state.evidence
        asked = len(evidence.members) + len(evidence.pending)
        stray = asked in STRAYS and len(context.objectives) > 1
        if asked < self.initial or stray:
            return first_new(context, rng, spread(state, rng))
        state.forget()
        pool = state.open()
        try:
            belief = _updated(state)
        except Unfit as reason:
            return first_new(context, rng, evolved(state, rng, str(reason)))
        proposal = _best(state, belief, pool, ACQUISITIONS[self.acquisition], rng)
        if proposal is None:
            return first_new(context, rng, evolved(state, rng, "the model hopes for nothing"))
        return first_new(context, rng, [proposal])

    def describe(self, state: State) -> dict[str, str]:
        """How good the model of each objective is, by leave-one-out (Kendall's tau, calibration)."""
        with one_thread():
            state.forget()
            try:
                belief = _updated(state)
            except Unfit as reason:
                return {"model": str(reason)}
            names = [state.context.objectives[place].name for place in belief.objectives]
            return {
                f"model of {name}": quality(posterior)
                for name, posterior in zip(names, belief.posteriors, strict=True)
            }

    def proposed(self, state: State, trial: Trial) -> State:
        state.evidence.proposed(trial)
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        space, evidence = state.context.space, state.evidence
        member = evidence.told(trial)
        new = [space.sample(rng) for _ in range(self.samples if state.sample else FIRST)]
        if not state.sample:
            state.sample = new
        else:
            new += [child.draft.written() for child in children(state, rng, [1] * self.samples)]
        if any(centre is member for centre in centres(evidence)):
            near = space.neighbors(trial.architecture) if hasattr(space, "neighbors") else ()
            order = rng.permutation(len(near))[:NEIGHBORS].tolist()
            state.waiting = [*state.waiting, *(Drawn(near[place], trial.id) for place in order)][-WAITING:]
        state.waiting, nearest = state.waiting[:-NEAR], state.waiting[-NEAR:]
        state.pool = [*state.pool, *map(Drawn, new), *nearest][-POOL:]
        return state


@dataclass(frozen=True)
class Auto(BayesianOptimization):
    """The recommended searcher: what needed fewest trials in the package's benchmark (`scripts/RESULTS.md`).

    Today that is Bayesian optimisation, for any number of trials and objectives.
    """


# --- without a model -----------------------------------------------------------------------------------


def spread(state: State, rng: np.random.Generator) -> list[Proposal]:
    """Of some of the pool the architecture least like all proposed, in cost and shape; at first the cheapest
    of random ones."""
    evidence, candidates = state.evidence, state.candidates
    trials = [*(member.trial for member in evidence.members), *evidence.pending.values()]
    sampled = state.sampled()
    drawn = [sampled[place] for place in rng.permutation(len(sampled))[:SPREAD].tolist()]
    if len(drawn) < SPREAD:
        samples = (Proposal(state.context.space.sample(rng)) for _ in range(SPREAD))
        drawn += [proposal.architecture for proposal in fresh(state.context, samples, SPREAD - len(drawn))]
    if not drawn:
        return []
    sizes = candidates.features.outlines(drawn)
    if trials:
        others = candidates.features.outlines([trial.architecture for trial in trials])
        scale = np.maximum(np.concatenate([sizes, others]).std(axis=0), 1e-9)
        distances = squared_distances([sizes / scale], [others / scale])[0]
        chosen = int(distances.min(axis=1).argmax())
    else:
        chosen = int(sizes[:, 1].argmin())
    return [Proposal(drawn[chosen], origin="spread")]


def children(state: State, rng: np.random.Generator, changes: Iterable[int]) -> Iterator[Draw]:
    """Children of members of the front, one for each number of changes."""
    front = state.evidence.front
    if not front:
        return
    for number in changes:
        first, second = (front[int(place)].trial for place in rng.integers(len(front), size=2))
        yield child_of(state.context.space, first, second, number, 0.25, 0.5, rng)


def evolved(state: State, rng: np.random.Generator, reason: str) -> Iterator[Draw]:
    """Children of the front in place of what a model would have proposed; their origin says why."""
    for child in children(state, rng, widening()):
        yield child._replace(origin=f"{child.origin} ({reason})")


def _updated(state: State) -> Belief:
    """What is believed given all told trials; raises `Unfit` where that is nothing."""
    given = state.evidence, state.candidates, state.sample
    belief = state.belief = updated(state.belief, *given)
    state.chance = updated_chance(state.chance, *given)
    return belief


# --- with a model --------------------------------------------------------------------------------------


def _best(
    state: State,
    belief: Belief,
    pool: Mapping[str, Candidate],
    acquisition: Acquisition,
    rng: np.random.Generator,
) -> Proposal | None:
    """The candidate that promises most, or if they are looked at a mutation of it that promises more.

    None if nothing does.
    """
    if not pool:
        return None
    promise = _promise(state, belief, acquisition, rng)
    chosen, gain = promise.most(list(pool.values()))
    parent = state.parent_of(chosen.key)
    early, late = len(state.pool) < POOL, len(state.evidence.members) >= LATE
    hopeless = not gain > acquisition.nothing
    if acquisition.climbs and (early or late or hopeless or promise.outlook.doubtful):
        others = state.candidates.around(chosen.architecture, CLIMB, pool, rng)
        best, better = promise.most(others) if others else (chosen, gain)
        if better > gain and not isclose(better, gain, rel_tol=TIED):
            chosen, gain = best, better
    if not gain > acquisition.nothing:
        return None
    if parent is None:
        return Proposal(chosen.architecture, origin="model: sample")
    return Proposal(chosen.architecture, (parent,), "model: neighbor")


def centres(evidence: Evidence) -> list[Member]:
    """The front, or the `CENTRES` members of the least ranks if it is smaller."""
    members, front = evidence.succeeded, evidence.front
    if len(front) >= CENTRES or len(front) == len(members):
        return front
    violations = np.array([member.violation for member in members])
    order = np.lexsort((pareto.ranks(evidence.losses), violations))
    return [members[place] for place in order[:CENTRES].tolist()]


def _promise(state: State, belief: Belief, acquisition: Acquisition, rng: np.random.Generator) -> Promise:
    limits = {
        place: objective.loss(objective.limit)
        for place, objective in enumerate(state.context.objectives)
        if place in belief.objectives and objective.limit is not None
    }
    return Promise(acquisition, _outlook(state, belief, rng), limits, state.chance)


def _outlook(state: State, belief: Belief, rng: np.random.Generator) -> Outlook:
    """What the told trials leave to be hoped for; each third turn with doubts, see `DOUBTFUL`."""
    evidence = state.evidence
    pending = [state.candidates.of(trial.architecture) for trial in evidence.pending.values()]
    losses = evidence.losses
    within = losses[[member.violation <= 0 for member in evidence.succeeded]]
    if pending:
        within = np.vstack([within, belief.losses(pending)])
    span = np.ptp(losses, axis=0)
    doubtful = (len(evidence.members) + len(pending)) % DOUBTFUL == DOUBTFUL - 1
    margin, widened = MARGIN, 1.0
    if doubtful and losses.shape[1] > 1:
        margin, widened = FAR, GREATER if len(losses) <= EARLY else DOUBT
    reference = losses.max(axis=0) + margin * np.where(span > 0, span, 1.0)
    return Outlook(belief, within, losses, reference, rng, pending, widened, doubtful)
