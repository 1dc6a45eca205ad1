"""From draws to a proposal: the first one that nobody proposed before and that meets the limits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import chain

import numpy as np

from nas.architecture import Architecture
from nas.protocols import Context, Exhausted
from nas.searchers.draws import Draw
from nas.trial import Proposal

SAMPLES = 10_000
"""Random architectures that are tried before the space is walked through."""

WALKED = 20_000
"""Written forms that a walk looks at before a search gives up."""


@dataclass
class Hunt:
    """What was looked at for one proposal, and the nearest miss.

    Attributes:
        looked: architectures in all; `seen`: those that were proposed before.
        nearest: what violates the limits least among the others, and by how much.
    """

    context: Context
    looked: int = 0
    seen: int = 0
    nearest: Architecture | None = None
    violation: float = math.inf

    def allowed(self, draw: Draw | Proposal) -> Proposal | None:
        """The draw as a proposal if it was not proposed before and meets the limits on exact objectives."""
        if isinstance(draw, Proposal):
            return draw if self.new(draw.architecture) else None
        if self._seen(self.context.identify(draw.draft.natural())):
            return None
        proposal = draw.proposal()
        return proposal if self._within(proposal.architecture) else None

    def new(self, arch: Architecture) -> bool:
        """Whether `arch` was not proposed before and meets the limits on exact objectives."""
        return not self._seen(self.context.identify(arch)) and self._within(arch)

    def _seen(self, key: str) -> bool:
        self.looked += 1
        seen = self.context.seen(key)
        self.seen += seen
        return seen

    def _within(self, arch: Architecture) -> bool:
        violation = self.context.violation(self.context.exact(arch))
        if not violation > 0:
            return True
        if violation < self.violation:
            self.nearest, self.violation = arch, violation
        return False

    def gave_up(self, everything: bool) -> Exhausted:
        """Why there is nothing to propose; `everything`: all that mutations lead to was looked at."""
        if self.nearest is not None:
            limited = [o for o in self.context.objectives if o.limit is not None and o.exact is not None]
            values = self.context.exact(self.nearest)
            had = ", ".join(f"{o.name} = {values[o.name]:.10g}" for o in limited)
            return Exhausted(
                f"no {'new ' if self.seen else ''}architecture meets "
                f"{' and '.join(o.limit_text() for o in limited)}: of {self.looked} looked at "
                f"{'(all that mutations lead to) ' if everything else ''}the closest had {had}"
            )
        if self.looked > self.seen:
            return Exhausted(f"none of {self.looked} architectures has finite values of the exact objectives")
        if everything:
            return Exhausted("the space is used up: all architectures that mutations lead to were proposed")
        return Exhausted(
            f"all of {self.looked} architectures looked at were proposed before: the space is all but used up"
        )


def first_allowed(context: Context, draws: Iterable[Draw | Proposal]) -> Proposal | None:
    """The first draw that was not proposed before and meets the limits; None if there is none."""
    return _first(Hunt(context), draws)


def first_new(
    context: Context, rng: np.random.Generator, draws: Iterable[Draw | Proposal] = ()
) -> Proposal | Exhausted:
    """The first that was not proposed before and meets the limits: of `draws`, of random architectures, or of
    a walk through the space. `Exhausted` says what stood in the way.
    """
    hunt = Hunt(context)
    samples = (Proposal(context.space.sample(rng), origin="sample") for _ in range(SAMPLES))
    proposal = _first(hunt, chain(draws, samples))
    if proposal is None:
        return _walk(hunt, context.space.sample(rng) if hunt.nearest is None else hunt.nearest)
    return proposal


def _first(hunt: Hunt, draws: Iterable[Draw | Proposal]) -> Proposal | None:
    for draw in draws:
        if (proposal := hunt.allowed(draw)) is not None:
            return proposal
    return None


def _walk(hunt: Hunt, start: Architecture) -> Proposal | Exhausted:
    """Neighbours of neighbours from `start` on, those first that violate the limits least.

    So the last architectures of a space are found, and those that meet limits which random ones never do.
    """
    space, context = hunt.context.space, hunt.context
    if not hasattr(space, "neighbors"):  # a space of a user's own may do without
        return hunt.gave_up(everything=False)
    if start is not hunt.nearest and hunt.new(start):
        return Proposal(start, origin="sample")
    forms, keys = {start}, {start.key}
    heap: list[tuple[float, int, Architecture]] = [(0.0, 0, start)]
    while heap:
        for arch in space.neighbors(heappop(heap)[2]):
            if arch in forms:
                continue
            forms.add(arch)
            if arch.key in keys:  # the same form with other ids
                continue
            keys.add(arch.key)
            if hunt.new(arch):
                return Proposal(arch, origin="walk")
            if len(keys) == WALKED:
                return hunt.gave_up(everything=False)
            heappush(heap, (context.violation(context.exact(arch)), len(keys), arch))
    return hunt.gave_up(everything=True)
