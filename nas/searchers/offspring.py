"""Candidates for a model to choose from: new mutations, and new children of trials told or only predicted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from nas.protocols import Context
from nas.searchers.draws import WIDEST, Draw, changed, child_of
from nas.searchers.members import Member
from nas.searchers.novelty import Hunt
from nas.searchers.selection import crowded_tournament, survivors
from nas.trial import Proposal, Trial

DRAWS = 2
"""Draws for each candidate wanted, before there are fewer candidates."""


def fresh(context: Context, draws: Iterable[Draw | Proposal], count: int) -> list[Proposal]:
    """The first `count` draws that differ, were not proposed before and meet the limits that are exact."""
    hunt, found = Hunt(context), dict[str, Proposal]()
    for draw in draws:
        if (proposal := hunt.allowed(draw)) is not None:
            found.setdefault(context.identify(proposal.architecture), proposal)
            if len(found) == count:
                break
    return list(found.values())


def mutations(
    context: Context, parents: Sequence[Member], count: int, rng: np.random.Generator
) -> list[Proposal]:
    """`count` new mutations of the parents in turn: half of one change, a quarter of two, and so on."""

    def draws() -> Iterator[Draw]:
        for n in range(DRAWS * count):
            parent = parents[n % len(parents)].trial
            child = changed(context.space, parent.architecture, _changes(rng), rng)
            yield Draw(child, ancestors(parent), "mutate, predicted")

    return fresh(context, draws(), count) if parents else []


def one_change(context: Context, member: Member, count: int, rng: np.random.Generator) -> Iterator[Draw]:
    """`count` draws of a neighbour."""
    for _ in range(count):
        child = changed(context.space, member.trial.architecture, 1, rng)
        yield Draw(child, ancestors(member.trial), "neighbor, predicted")


def children(
    context: Context,
    parents: Sequence[Member],
    count: int,
    crossover: float,
    mutation: float,
    rng: np.random.Generator,
) -> list[Proposal]:
    """`count` new children of parents with rank and crowding, by binary tournaments as in `NSGA2`."""

    def draws() -> Iterator[Draw]:
        for _ in range(DRAWS * count):
            first, second = (crowded_tournament(parents, rng).trial for _ in range(2))
            child = child_of(context.space, first, second, _changes(rng), crossover, mutation, rng)
            both = (first, second) if len(child.parents) == 2 else (first,)
            lineage = tuple(dict.fromkeys(ancestor for trial in both for ancestor in ancestors(trial)))
            yield child._replace(parents=lineage, origin=f"{child.origin}, predicted")

    return fresh(context, draws(), count) if parents else []


def _changes(rng: np.random.Generator) -> int:
    return min(int(rng.geometric(0.5)), WIDEST)


def ancestors(trial: Trial) -> tuple[int, ...]:
    """The trial as a parent; of one that is only predicted, the one that lends it weights."""
    return (trial.id,) if trial.id >= 0 else trial.proposal.parents[:1]


def by_rank(known: Sequence[Member], candidates: Sequence[Member]) -> list[Member]:
    """The candidates by (rank, crowding) among all that is known and themselves, best first, `ranked`."""
    own = {id(candidate.trial) for candidate in candidates}
    everyone = [*known, *candidates]
    return [member for member in survivors(everyone, len(everyone)) if id(member.trial) in own]
