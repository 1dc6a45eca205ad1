"""What a model-based searcher may propose next, and what is known of it without training."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from math import nan

import numpy as np

from nas.architecture import Architecture
from nas.protocols import Context
from nas.searchers.box import Floats
from nas.searchers.draws import changed
from nas.surrogates.features import DEFAULT, Features
from nas.trial import Trial

REMEMBERED = 20_000
"""Architectures that are remembered before all are forgotten, and looked at anew where they are met again."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture that may be proposed.

    Attributes:
        row: of the features.
        key: what makes it the same as another, by the study's identity.
        losses: of each objective, NaN where training alone tells.
    """

    row: int
    architecture: Architecture
    key: str
    losses: tuple[float, ...]


@dataclass(slots=True)
class Candidates:
    """A memory of candidates: what it says depends on the architectures only, so it may be lost."""

    context: Context
    blocks: tuple[str, ...] = DEFAULT
    features: Features = field(init=False)
    known: dict[Architecture, Candidate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.features = Features(self.context.space, self.blocks)

    def forget(self) -> bool:
        """Drops everything if it has become too much; whether it did."""
        if len(self.known) <= REMEMBERED:
            return False
        self.features, self.known = Features(self.context.space, self.blocks), {}
        return True

    def of(self, arch: Architecture) -> Candidate:
        found = self.known.get(arch)
        if found is None:
            context = self.context
            values = context.exact(arch)
            losses = tuple([o.loss(values[o.name]) if o.name in values else nan for o in context.objectives])
            (row,) = self.features.rows([arch])
            found = self.known[arch] = Candidate(row, arch, context.identify(arch), losses)
        return found

    def allowed(self, arch: Architecture) -> Candidate | None:
        """That of an architecture that meets the limits; of others nothing is made."""
        return None if self.context.violation(self.context.exact(arch)) > 0 else self.of(arch)

    def row(self, trial: Trial) -> int:
        return self.of(trial.architecture).row

    def around(
        self, arch: Architecture, count: int, known: Container[str], rng: np.random.Generator
    ) -> list[Candidate]:
        """Of `count` mutations those that differ, were not proposed before and meet the limits.

        Args:
            known: keys of others that are left out.
        """
        context, found = self.context, dict[str, Candidate]()
        for _ in range(count):
            draft = changed(context.space, arch, 1, rng)
            key = context.identify(draft.natural())
            if key not in found and key not in known and not context.seen(key):
                candidate = self.allowed(draft.written())
                if candidate is not None:
                    found[key] = candidate
        return list(found.values())


def exact_losses(candidates: Sequence[Candidate]) -> Floats:
    """`float64[n, m]`, NaN where training alone tells."""
    return np.array([candidate.losses for candidate in candidates])
