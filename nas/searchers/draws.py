"""What may be proposed: children of trials, which are written down only if they may be new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np

from nas.architecture import Architecture
from nas.protocols import Draft, NothingToChange, SearchSpace
from nas.trial import Proposal, Trial

SINGLE = 3
"""Draws of one change, before each further draw makes one change more. Two cost quality at 400 evaluations
of NAS-Bench-Macro (60 seeds), four cost time: a converged search draws more often."""

WIDEST = 8
"""Changes of the widest draw, before random architectures are drawn."""


def widening() -> Iterator[int]:
    """How many changes each draw makes: 1, 1, 1, 2, 3 … up to `WIDEST`."""
    return chain(repeat(1, SINGLE), range(2, WIDEST + 1))


@dataclass(frozen=True, slots=True)
class Written:
    """A draft in a space that makes none: an architecture as it is."""

    space: SearchSpace
    arch: Architecture

    def mutated(self, rng: np.random.Generator) -> Written:
        return Written(self.space, self.space.mutate(self.arch, rng))

    def crossed(self, mate: Architecture, rng: np.random.Generator) -> Written:
        return Written(self.space, self.space.crossover(self.arch, mate, rng))

    def natural(self) -> Architecture:
        return self.arch

    def written(self) -> Architecture:
        return self.arch


class Draw(NamedTuple):
    """A proposal before its architecture is written; the fields are those of `Proposal`."""

    draft: Draft
    parents: tuple[int, ...] = ()
    origin: str = ""

    def proposal(self) -> Proposal:
        return Proposal(self.draft.written(), self.parents, self.origin)


def draft_of(space: SearchSpace, arch: Architecture) -> Draft:
    """`arch` as a draft of its space."""
    make = getattr(type(space), "draft", None)  # a wrapper that passes on what it has not makes none
    draft: Draft | None = make(space, arch) if make else None
    return Written(space, arch) if draft is None else draft


def further(draft: Draft, changes: int, rng: np.random.Generator) -> Draft:
    """`draft` after so many mutations; as it is where the space holds nothing else."""
    try:
        for _ in range(changes):
            draft = draft.mutated(rng)
    except NothingToChange:
        pass
    return draft


def changed(space: SearchSpace, arch: Architecture, changes: int, rng: np.random.Generator) -> Draft:
    """`arch` after so many mutations; as it is where the space holds nothing else."""
    return further(draft_of(space, arch), changes, rng)


def mutant(
    space: SearchSpace, parent: Trial, changes: int, rng: np.random.Generator, origin: str = "mutate"
) -> Draw:
    """A child of one trial."""
    return Draw(changed(space, parent.architecture, changes, rng), (parent.id,), origin)


def child_of(
    space: SearchSpace,
    first: Trial,
    second: Trial,
    changes: int,
    crossover: float,
    mutation: float,
    rng: np.random.Generator,
) -> Draw:
    """A child of `first`, with probability `crossover` also of `second`; of one parent it is always mutated.

    Args:
        changes: mutations; of two parents' child also, if more than one, else with probability `mutation`.
    """
    child, origin = draft_of(space, first.architecture), ""
    ids: tuple[int, ...] = (first.id,)
    if first.id != second.id and rng.random() < crossover:
        child = child.crossed(second.architecture, rng)
        ids, origin = (*ids, second.id), "crossover"
    if not origin or changes > 1 or rng.random() < mutation:
        child = further(child, changes, rng)
        origin += "+mutate" if origin else "mutate"
    return Draw(child, ids, origin)
