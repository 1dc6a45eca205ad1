"""What a model-based searcher may propose next, and what is known of it without training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import nan

import numpy as np

from nas.architecture import Architecture
from nas.protocols import Context
from nas.searchers.box import Floats
from nas.surrogates.features import DEFAULT, Features
from nas.trial import Trial

NEIGHBORS = 100
"""At most so many neighbours of one architecture are candidates, evenly spread over all."""

REMEMBERED = 20_000
"""Architectures that are remembered before all are forgotten, and looked at anew where they are met again."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture that may be proposed.

    Attributes:
        row: of the features.
        key: what makes it the same as another, by the study's identity.
        losses: of each objective, NaN where training alone tells.
        violation: of the limits on exact objectives.
    """

    row: int
    architecture: Architecture
    key: str
    losses: tuple[float, ...]
    violation: float


@dataclass(slots=True)
class Candidates:
    """A memory of candidates: what it says depends on the architectures only, so it may be lost."""

    context: Context
    blocks: tuple[str, ...] = DEFAULT
    features: Features = field(init=False)
    known: dict[Architecture, Candidate] = field(default_factory=dict)
    around: dict[Architecture, list[Candidate]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.features = Features(self.context.space, self.blocks)

    def forget(self) -> bool:
        """Drops everything if it has become too much; whether it did."""
        if len(self.known) <= REMEMBERED:
            return False
        self.features, self.known, self.around = Features(self.context.space, self.blocks), {}, {}
        return True

    def of(self, arch: Architecture) -> Candidate:
        found = self.known.get(arch)
        if found is None:
            context = self.context
            values = context.exact(arch)
            losses = tuple([o.loss(values[o.name]) if o.name in values else nan for o in context.objectives])
            (row,) = self.features.rows([arch])
            found = self.known[arch] = Candidate(
                row, arch, context.identify(arch), losses, context.violation(values)
            )
        return found

    def row(self, trial: Trial) -> int:
        return self.of(trial.architecture).row

    def neighbors(self, arch: Architecture) -> list[Candidate]:
        """Architectures one change away; none where a space of a user's own does not list them."""
        found = self.around.get(arch)
        if found is None:
            listed = self.context.space.neighbors(arch) if hasattr(self.context.space, "neighbors") else ()
            step = -(-len(listed) // NEIGHBORS) or 1
            found = self.around[arch] = [self.of(neighbor) for neighbor in listed[::step]]
        return found

    def open(self, candidates: Iterable[Candidate]) -> dict[str, Candidate]:
        """Those that were not proposed before and meet the limits, the first of each key."""
        found: dict[str, Candidate] = {}
        seen = self.context.seen
        for candidate in candidates:
            key = candidate.key
            if key not in found and not candidate.violation > 0 and not seen(key):
                found[key] = candidate
        return found


def exact_losses(candidates: Sequence[Candidate]) -> Floats:
    """`float64[n, m]`, NaN where training alone tells."""
    return np.array([candidate.losses for candidate in candidates])
