"""From draws to a proposal: the first one that nobody proposed before and that meets the limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import numpy as np

from nas.architecture import Architecture
from nas.protocols import Context, Exhausted, NothingToChange
from nas.trial import Proposal

SAMPLES = 10_000
"""Random architectures that are tried before a search gives up."""

TRIES = 16
"""Mutations of one width that are tried before the next larger width."""

WIDEST = 4
"""Changes in the widest mutation, before it is tried from scratch."""


def sampled(context: Context, rng: np.random.Generator) -> Iterator[Proposal]:
    """Random architectures, `SAMPLES` of them."""
    for _ in range(SAMPLES):
        yield Proposal(context.space.sample(rng), origin="sample")


def mutated(
    context: Context, start: Architecture, parents: tuple[int, ...], origin: str, rng: np.random.Generator
) -> Iterator[Proposal]:
    """Mutations of `start` by one change, then by two … then random architectures: the capped way out."""
    with suppress(NothingToChange):
        for changes in range(1, WIDEST + 1):
            for _ in range(TRIES):
                child = start
                for _ in range(changes):
                    child = context.space.mutate(child, rng)
                yield Proposal(child, parents, origin if changes == 1 else f"{origin}x{changes}")
    yield from sampled(context, rng)


def first_new(context: Context, draws: Iterable[Proposal]) -> Proposal | Exhausted:
    """The first draw that is not seen yet and within the limits; `Exhausted` says what stood in the way."""
    drawn = seen = 0
    closest = float("inf")
    closest_values = ""
    for proposal in draws:
        drawn += 1
        if context.seen(context.identify(proposal.architecture)):
            seen += 1
            continue
        values = context.exact(proposal.architecture)
        violation = context.violation(values)
        if not violation > 0:
            return proposal
        if violation < closest:
            closest = violation
            closest_values = ", ".join(
                f"{o.name} = {values[o.name]:.10g}"
                for o in context.objectives
                if o.limit is not None and o.name in values
            )
    if closest_values:
        limits = " and ".join(
            o.limit_text() for o in context.objectives if o.limit is not None and o.exact is not None
        )
        fresh = "new " if seen else ""
        return Exhausted(
            f"no {fresh}architecture meets {limits}: of {drawn} drawn the closest had {closest_values}"
        )
    return Exhausted(f"all of {drawn} architectures drawn were proposed before: the space is used up")
