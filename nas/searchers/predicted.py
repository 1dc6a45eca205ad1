"""Losses of architectures that were not trained: exact where they are known, else what models say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nas.architecture import Architecture
from nas.protocols import Context
from nas.searchers.box import Floats
from nas.searchers.evidence import Evidence
from nas.searchers.members import Member, losses_of
from nas.surrogates.acquisition import independent_thompson_sampling
from nas.surrogates.model import Fitted, Model, Unfit
from nas.surrogates.rows import LEAST
from nas.surrogates.targets import Target
from nas.trial import Proposal, Trial

Encode = Callable[[Architecture], Floats]
"""An architecture in its written form -> `float64[d]`."""

REMEMBERED = 4096
"""Encodings that are kept at hand."""


def encoding(context: Context, paths_alone: bool = False) -> Encode:
    """The space's own encoding followed by its paths, where it has them (`encodings()["path"]`), memoised.

    Paths tell accuracy well, but not how often an op is there, which costs depend on; `paths_alone` leaves
    out the former where there are paths.
    """
    space = context.space
    paths = space.encodings().get("path") if hasattr(space, "encodings") else None
    if paths is None:
        return lru_cache(REMEMBERED)(space.encode)
    if paths_alone:
        return lru_cache(REMEMBERED)(paths)

    @lru_cache(REMEMBERED)
    def both(arch: Architecture) -> Floats:
        return np.concatenate([space.encode(arch), paths(arch)])

    return both


@dataclass(frozen=True)
class Predictor:
    """
    Attributes:
        models: of each objective that training tells, by its place, with its target; None: all trials agree.
        low, span: of the columns of the encoding, `float64[d]`, which scale them to [0, 1].
    """

    context: Context
    encode: Encode
    models: dict[int, tuple[Fitted | None, Target]]
    low: Floats
    span: Floats

    def losses(self, architectures: Sequence[Architecture], rng: np.random.Generator | None = None) -> Floats:
        """`float64[n, m]`: the median of each; with `rng` a draw of each alone (independent Thompson)."""
        objectives = self.context.objectives
        found = np.empty((len(architectures), len(objectives)))
        if not len(architectures):
            return found
        for row, arch in zip(found, architectures, strict=True):
            values = self.context.exact(arch)
            row[:] = [o.loss(values[o.name]) if o.name in values else np.nan for o in objectives]
        x = (np.array([self.encode(arch) for arch in architectures]) - self.low) / self.span
        for place, (fitted, target) in self.models.items():
            z = np.zeros(len(x))
            if fitted is not None:
                predicted = fitted.predict(x)
                z = predicted.mean if rng is None else independent_thompson_sampling(predicted, rng)
            found[:, place] = target.back(z)
        return found

    def members(
        self, proposals: Sequence[Proposal], rng: np.random.Generator | None = None, before: int = 0
    ) -> list[Member]:
        """The proposals as if they had been told what is predicted (or drawn, with `rng`).

        They are trials of negative ids, below those of `before` others.
        """
        rows = self.losses([proposal.architecture for proposal in proposals], rng)
        names = self.context.objectives
        return [
            Member(
                Trial(-1 - before - place, proposal),
                row,
                self.context.violation({o.name: o.loss(float(v)) for o, v in zip(names, row, strict=True)}),
            )
            for place, (proposal, row) in enumerate(zip(proposals, rows, strict=True))
        ]


def fitted_to(evidence: Evidence, encode: Encode, model: Model, seed: int) -> Predictor:
    """A model of each objective that training tells, fitted to the trials that succeeded.

    Args:
        seed: of what the models draw.

    Raises:
        Unfit: no trial succeeded, or there is nothing to learn from those that did.
    """
    members = evidence.succeeded
    if not members:
        raise Unfit("a model must have a trial that succeeded, but none did")
    x = np.array([encode(member.trial.architecture) for member in members])
    low, high = x.min(axis=0), x.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    losses = losses_of(members)
    models: dict[int, tuple[Fitted | None, Target]] = {}
    for place in np.flatnonzero(evidence.modelled).tolist():
        target = Target.of(losses[:, place], squeeze=losses.shape[1] == 1)
        if len(members) >= LEAST and np.ptp(losses[:, place]) == 0:  # of others there may be more to learn
            models[place] = None, target
            continue
        rng = np.random.default_rng([seed, place])
        models[place] = model.fit((x - low) / span, target.forward(losses[:, place]), rng), target
    if models and all(fitted is None for fitted, _ in models.values()):
        raise Unfit(f"a model must have different targets, but all of {len(members)} are equal")
    return Predictor(evidence.context, encode, models, low, span)
