"""Neural architecture optimization (Luo et al. 2018, "Neural Architecture Optimization", algorithm 1).

Numbers of NAO_pytorch are those of renqianluo/NAO_pytorch, NAO_V1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture
from nas.protocols import Context, Exhausted, SearchSpace
from nas.searchers.draws import Draw, mutant, widening
from nas.searchers.evidence import Evidence
from nas.searchers.members import Member
from nas.searchers.novelty import first_new
from nas.searchers.scalars import Scalarisation, Setting, bound, scalarisation_of
from nas.searchers.selection import failed, places
from nas.searchers.sentences import Script, Sentence, Vocabulary, script_of
from nas.surrogates.model import Floats, Unfit
from nas.trial import Proposal, Trial

if TYPE_CHECKING:
    from torch import Tensor

    from nas.surrogates.nao_model import Codec

LEAST = 5
"""Successes without which nothing is learnt."""

STEP, STEPS = 0.2, 25
"""Step sizes are STEP x 1, 2, 3 … STEPS. NAO_pytorch steps 1, 2, 3 … 50 along the gradient as it is; ours has
a longest row of length 1, as the code's rows have, so that a step means the same whatever the predictor."""

SAMPLES = 100
"""Random architectures whose words are known beside those of the trials."""

NEIGHBORS, CLIMB = 100, 4
"""Around what was decoded at most so many neighbours are weighed at once, and so many moves made."""


@dataclass(frozen=True, slots=True)
class Round:
    """When a batch was begun: after so many trials were told and proposed; `seed` of all it draws."""

    told: int
    proposed: int
    seed: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch: what to propose in turn; beyond it mutations of `seeds`, best first, and why."""

    proposals: tuple[Proposal, ...]
    seeds: tuple[Trial, ...]
    beyond: str


@dataclass(slots=True)
class State:
    """
    Attributes:
        keys: identities of all that was proposed, in order.
        round: the latest one.
        memo: the plan of the latest round; remembered, computed anew where missing.
        wording: trial id -> its sentence and its twins', likewise.
    """

    evidence: Evidence
    scalarisation: Scalarisation | None
    keys: list[str] = field(default_factory=list)
    round: Round | None = None
    memo: dict[Round, Plan] = field(default_factory=dict)
    wording: dict[int, list[Sentence]] = field(default_factory=dict)


@dataclass(frozen=True)
class NAO:
    """Climbs the predictor's gradient in the space of codes, and decodes what stands there.

    An encoder, a predictor and a decoder are trained anew on all successes whenever `new` more trials were
    told. The codes of the `seeds` best move along the gradient of the predicted value, in growing steps,
    until they were decoded to `pool` architectures that were not proposed before (what was, is left for its
    likeliest neighbour). Of these `new` are proposed, the best predicted of each seed in turn. Where there
    are fewer, or nothing can be learnt, seeds are mutated, and `Proposal.origin` says why.

    The target is 1 for the best and 0 for the worst, by place: of several objectives by (rank, crowding),
    unless `scalarisation` says otherwise. (The paper's is the accuracy, scaled; places do not depend on
    outliers. The paper proposes all that is decoded, `pool` = `new`.) The paper's numbers are for 1,000
    evaluations on 200 GPUs, ours for some tens.

    Attributes:
        initial: random trials first; the paper's are 600.
        new: size of a batch; the paper's 300.
        pool: how many decoded architectures a batch is chosen from.
        seeds: K, how many of the best are moved; the paper's 100.
        updates: of the network, each on at most 100 sequences; NAO_pytorch makes 1,000 passes.
        hidden: width of encoder and decoder; NAO_pytorch's 96.
        learning_rate: of Adam; NAO_pytorch's .001 with far more updates.
        trade_off: lambda, the predictor's share of the loss; NAO_pytorch's.
        scalarisation: one number of several objectives, see `nas.searchers.scalars`.

    Raises:
        ValueError: a number is out of range, or the scalarisation is wrong.
    """

    initial: int = 20
    new: int = 10
    pool: int = 100
    seeds: int = 40
    updates: int = 60
    hidden: int = 64
    learning_rate: float = 0.01
    trade_off: float = 0.8
    scalarisation: Setting = None

    def __post_init__(self) -> None:
        counts = (self.initial, self.new, self.pool, self.seeds, self.updates, self.hidden)
        if min(counts) < 1:
            raise ValueError(
                f"`1 <= initial, new, pool, seeds, updates, hidden` must hold, but got ({self.initial=}, "
                f"{self.new=}, {self.pool=}, {self.seeds=}, {self.updates=}, {self.hidden=})"
            )
        if not 0 < self.learning_rate < 1 or not 0 < self.trade_off < 1:
            raise ValueError(
                f"`0 < learning_rate, trade_off < 1` must hold, but got ({self.learning_rate=}, "
                f"{self.trade_off=})"
            )
        scalarisation_of(self.scalarisation)

    def init(self, context: Context) -> State:
        return State(Evidence(context), bound(self.scalarisation, context))

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        context = state.evidence.context
        if state.round is None:
            return first_new(context, rng)
        if state.round not in state.memo:
            plan = self._plan(state, state.round)
            state.memo.clear()
            state.memo[state.round] = plan
        plan = state.memo[state.round]
        return first_new(context, rng, chain(plan.proposals, _mutations(context, plan, rng)))

    def proposed(self, state: State, trial: Trial) -> State:
        state.evidence.proposed(trial)
        state.keys.append(state.evidence.context.identify(trial.architecture))
        return state

    def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
        state.evidence.told(trial)
        told = len(state.evidence.members)
        if told >= self.initial and (told - self.initial) % self.new == 0:
            state.round = Round(told, len(state.keys), int(rng.integers(2**63)))
        return state

    def _plan(self, state: State, begun: Round) -> Plan:
        """The batch of a round: a pure function of what was told and proposed before it, and of its seed."""
        rng, context = np.random.default_rng(begun.seed), state.evidence.context
        good = [member for member in state.evidence.members[: begun.told] if not failed(member)]
        if not good:
            return Plan((), (), "no success yet")
        target = _targets(places(good, context.objectives, state.scalarisation, rng))
        best = np.argsort(-target, kind="stable")[: self.seeds]
        seeds = tuple([good[place].trial for place in best.tolist()])
        try:
            model = self._trained(state, good, target, rng)
        except Unfit as unfit:
            return Plan((), seeds, str(unfit))
        known = set(state.keys[: begun.proposed])
        pool = list(islice(_ascents(context, model, seeds, known), self.pool))
        proposals = _most_promising(model, pool)[: self.new]
        return Plan(tuple(proposals), seeds, f"the gradient led to {len(proposals)} new ones")

    def _trained(
        self, state: State, good: Sequence[Member], target: Floats, rng: np.random.Generator
    ) -> Model:
        """A model of the sentences of `good` and their twins, which share its target.

        Raises:
            Unfit: they are too few, equal, or the network diverged.
        """
        if len(good) < LEAST:
            raise Unfit(f"{len(good)} successes are too few")
        if target.min() == target.max():
            raise Unfit("all targets are equal")
        from nas.surrogates.nao_model import Training, fit  # torch

        space = state.evidence.context.space
        script = script_of(space)
        for trial in (member.trial for member in good if member.trial.id not in state.wording):
            arch = trial.architecture
            state.wording[trial.id] = [script.write(arch), *script.twins(arch)]
        wording = [state.wording[member.trial.id] for member in good]
        sentences = [sentence for alike in wording for sentence in alike]
        samples = [script.write(space.sample(rng)) for _ in range(SAMPLES)]
        vocabulary = Vocabulary.of([*sentences, *samples])
        training = Training(self.hidden, self.updates, self.learning_rate, self.trade_off)
        y = np.repeat(target, [len(alike) for alike in wording])
        seed = int(rng.integers(2**63))
        codec = fit(vocabulary.rows(sentences), y, len(vocabulary), training, seed)
        return Model(script, vocabulary, codec)


@dataclass(frozen=True, slots=True)
class Model:
    """A trained network, and the words it knows."""

    script: Script
    vocabulary: Vocabulary
    codec: Codec


def _targets(standing: NDArray[np.int64]) -> Floats:
    """1 for place 0, 0 for the last one (`float64[n]`)."""
    return np.asarray(1 - standing / max(standing.max(initial=0), 1))


def _mutations(context: Context, plan: Plan, rng: np.random.Generator) -> Iterator[Draw]:
    for changes in widening() if plan.seeds else ():
        parent = plan.seeds[int(rng.integers(len(plan.seeds)))]
        yield mutant(context.space, parent, changes, rng, f"mutate: {plan.beyond}")


def _most_promising(model: Model, pool: list[Proposal]) -> list[Proposal]:
    """Each seed's best predicted, then each one's second …; the best predicted first among these.

    So a batch is spread as the seeds are. By prediction alone it is of few seeds, and worse on
    NAS-Bench-Macro, with one objective (5 seeds, 80 evaluations) as with two.
    """
    if not pool:
        return []
    written = [model.script.write(proposal.architecture) for proposal in pool]
    value = model.codec.predict(model.codec.encode(model.vocabulary.rows(written)))
    turns: Counter[int] = Counter()
    order: list[tuple[int, int, int]] = []
    for place in np.argsort(-value, kind="stable").tolist():
        (seed,) = pool[place].parents
        order.append((turns[seed], len(order), place))
        turns[seed] += 1
    return [pool[place] for _, _, place in sorted(order)]


def _ascents(context: Context, model: Model, seeds: Sequence[Trial], known: set[str]) -> Iterator[Proposal]:
    """What the codes of `seeds` decode to on their way up, unless it is `known` or beyond a limit.

    Smaller steps come first, and of one step the better seeds; nothing comes twice.
    """
    codec, vocabulary, script = model.codec, model.vocabulary, model.script
    written = [script.write(seed.architecture) for seed in seeds]
    codes = codec.encode(vocabulary.rows(written))
    slope, known = codec.gradient(codes), set(known)
    read = {(seed.id, sentence) for seed, sentence in zip(seeds, written, strict=True)}
    for step in range(1, STEPS + 1):
        moved = codec.ascended(codes, slope, STEP * step)
        decoded = vocabulary.sentences(codec.decode(moved, vocabulary.allowed))
        for seed, code, sentence in zip(seeds, moved, decoded, strict=True):
            if (seed.id, sentence) in read:
                continue
            read.add((seed.id, sentence))
            arch = script.read(sentence)
            start = [arch] if arch is not None and vocabulary.knows(script.write(arch)) else []
            around = _nearest(context, model, arch or seed.architecture, code)
            for candidate in chain(start, around):
                key = context.identify(candidate)
                if key in known or context.violation(context.exact(candidate)) > 0:
                    continue
                known.add(key)
                yield Proposal(candidate, (seed.id,), "gradient")
                break


def _nearest(context: Context, model: Model, start: Architecture, code: Tensor) -> Iterator[Architecture]:
    """`start` and architectures around it, those first whose sentence is likeliest under the code.

    The likeliest neighbour is moved to while the likelihood grows, `CLIMB` times at most. So also what was
    decoded to something known, or to nothing that can be read, leads to something new.
    """
    here, height = start, -np.inf
    weighed: dict[Sentence, tuple[float, Architecture]] = {}
    for _ in range(CLIMB):
        around = {model.script.write(arch): arch for arch in (here, *_neighbors(context.space, here))}
        fresh = [s for s in around if s not in weighed and model.vocabulary.knows(s)]
        if not fresh:
            break
        likelihoods = model.codec.log_likelihood(code, model.vocabulary.rows(fresh)).tolist()
        weighed |= {s: (value, around[s]) for s, value in zip(fresh, likelihoods, strict=True)}
        if max(likelihoods) <= height:
            break
        height = max(likelihoods)
        here = around[fresh[likelihoods.index(height)]]
    yield from [arch for _, arch in sorted(weighed.values(), key=lambda pair: -pair[0])]


def _neighbors(space: SearchSpace, arch: Architecture) -> Sequence[Architecture]:
    """At most `NEIGHBORS`, evenly spread over all; a space of a user's own may do without any."""
    neighbors = space.neighbors(arch) if hasattr(space, "neighbors") else ()
    return neighbors[:: -(-len(neighbors) // NEIGHBORS) or 1]
