"""Parent selection and survival as small functions that combine.

Parents are chosen by `tournament` and `roulette` over numbers, by `crowded_tournament` and
`dominance_tournament` over members; `youngest`, `best`, `survivors` and `archived` say who survives. So
`tournament(standing(youngest(members, 100)), rng)` is an aging tournament with a pressure.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from operator import le

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas import pareto
from nas.protocols import Objective
from nas.searchers.box import Box, Floats
from nas.searchers.members import Member, losses_of
from nas.searchers.scalars import Scalarisation
from nas.seeding import below

# --- who is better ---------------------------------------------------------------------------------


def failed(member: Member) -> bool:
    """Whether a value is missing or not finite."""
    return not all(map(isfinite, member.losses.tolist()))


def handicap(member: Member) -> tuple[bool, float]:
    """(failed, violation): the less comes first, whatever the losses (Deb et al. 2002, section VI)."""
    return failed(member), member.violation


def dominates(a: Member, b: Member) -> bool:
    """Constraint-domination (Deb et al. 2002, definition 1): a less handicap, or else dominance."""
    mine, others = handicap(a), handicap(b)
    if mine != others:
        return mine < others
    if mine[0] or mine[1] > 0:
        return False
    x, y = a.losses.tolist(), b.losses.tolist()
    return x != y and all(map(le, x, y))


def standing(members: Sequence[Member], fitness: ArrayLike | None = None) -> NDArray[np.int64]:
    """Place of each member, 0 for the best; equals share a place (`int64[n]`).

    By handicap, then by `fitness` (`float64[n]`, less is better), or by (rank, crowding) if none is given.
    """
    if not members:
        return np.zeros(0, dtype=np.int64)
    if fitness is None:
        numbers = np.array([float(member.rank) for member in members])
        ties = np.array([-member.crowding for member in members])
    else:
        numbers = np.nan_to_num(
            np.asarray(fitness, dtype=np.float64), nan=np.inf, posinf=np.inf, neginf=-np.inf
        )
        ties = np.zeros(len(members))
    failures = ~np.isfinite(losses_of(members)).all(axis=1)
    violation = np.array([member.violation for member in members])
    keys = np.array([ties, numbers, violation, failures], dtype=np.float64)
    order = np.lexsort(keys)
    new = (keys[:, order[1:]] != keys[:, order[:-1]]).any(axis=0)
    result = np.zeros(len(members), dtype=np.int64)
    result[order[1:]] = np.cumsum(new)
    return result


def ranked(members: Sequence[Member]) -> list[Member]:
    """All members, in their order, with the rank and the crowding distance they have among themselves.

    Feasible members are ranked by dominance, infeasible ones behind them by violation (Deb et al. 2002,
    section VI), failed ones last, by violation too. Crowding is within each rank.
    """
    losses = losses_of(members)
    violation = np.array([member.violation for member in members])
    succeeded = np.isfinite(losses).all(axis=1)
    feasible = succeeded & ~(violation > 0)
    if feasible.all():
        ranks = pareto.ranks(losses)
    else:
        ranks = np.zeros(len(members), dtype=np.int64)
        ranks[feasible] = pareto.ranks(losses[feasible])
        for others in (succeeded & ~feasible, ~succeeded):
            behind = ranks.max(initial=-1) + 1
            ranks[others] = behind + np.unique(violation[others], return_inverse=True)[1]
    crowding = np.zeros(len(members))
    for rank in set(ranks.tolist()):
        alike = np.flatnonzero(ranks == rank)
        crowding[alike] = pareto.crowding(losses[alike])
    return [
        Member(m.trial, m.losses, m.violation, rank, distance)
        for m, rank, distance in zip(members, ranks.tolist(), crowding.tolist(), strict=True)
    ]


def places(
    members: Sequence[Member],
    objectives: Sequence[Objective],
    scalarisation: Scalarisation | None,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """The `standing` of members by what a searcher minimises (`int64[n]`).

    That is the scalarisation, scaled over the members; without one the loss of a single objective, or of
    several (rank, crowding).
    """
    losses = losses_of(members)
    if scalarisation is not None:
        scores = scalarisation.scores(losses, Box.of(losses), objectives, rng)
        return standing(members, scores)
    return standing(members, losses[:, 0]) if losses.shape[1] == 1 else standing(ranked(members))


# --- parents ---------------------------------------------------------------------------------------


def tournament_law(size: int, pressure: float) -> Floats:
    """`float64[size]`: the i-th fittest of those drawn wins with p (1 - p)^(i - 1), the last with the rest.

    Raises:
        ValueError: `1 <= size` or `0 < pressure <= 1` does not hold.

    Example:
        >>> tournament_law(5, 0.9).round(4).tolist()
        [0.9, 0.09, 0.009, 0.0009, 0.0001]
    """
    if size < 1 or not 0 < pressure <= 1:
        raise ValueError(f"`1 <= size` and `0 < pressure <= 1` must hold, but got ({size=}, {pressure=})")
    left = (1 - pressure) ** np.arange(size)
    law = pressure * left
    law[-1] = left[-1]
    return np.asarray(law)


def tournament(
    places: ArrayLike,
    rng: np.random.Generator,
    size: int = 2,
    pressure: float = 1.0,
    replace: bool = False,
) -> int:
    """Index of the winner among `size` drawn, all if there are fewer; equal places go to the first drawn.

    Args:
        places: `[n]`, less is better, see `standing`.
        size: k, how many are drawn.
        pressure: p, see `tournament_law`; 1 lets the best of those drawn win.
        replace: whether one can be drawn twice.

    Raises:
        ValueError: nobody to choose from, or a setting is out of range.
    """
    standings = np.asarray(places)
    if not len(standings):
        raise ValueError("a tournament must have a member to choose, but got none")
    count = size if replace else min(size, len(standings))
    law = None if pressure == 1 and size > 0 else tournament_law(count, pressure)
    drawn = rng.choice(len(standings), size=count, replace=replace)
    order = np.argsort(standings[drawn], kind="stable")
    winner = 0 if law is None else rng.choice(count, p=law)
    return int(drawn[order[winner]])


def binary_tournaments(places: ArrayLike, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The winners of so many `tournament`s of two, drawn at once (`int64[count]`)."""
    standings = np.asarray(places)
    if not len(standings):
        raise ValueError("a tournament must have a member to choose, but got none")
    if len(standings) == 1:
        return np.zeros(count, dtype=np.int64)
    first, second = rng.integers(len(standings), size=count), rng.integers(len(standings) - 1, size=count)
    second += second >= first
    return np.where(standings[second] < standings[first], second, first)


def roulette(losses: ArrayLike, rng: np.random.Generator) -> int:
    """Index drawn with probability proportional to r_n - r_min, r = -loss (Xie & Yuille 2017, section 3.2.2).

    So the worst has no chance, nor has what is not finite, unless nothing else is left: equals are
    drawn uniformly.

    Raises:
        ValueError: nobody to choose from.
    """
    numbers = np.asarray(losses, dtype=np.float64)
    if not len(numbers):
        raise ValueError("a roulette must have a member to choose, but got none")
    good = np.isfinite(numbers)
    if not good.any():
        return int(rng.integers(len(numbers)))
    worst, best = numbers[good].max(), numbers[good].min()
    if worst == best:
        return int(rng.choice(np.flatnonzero(good)))
    slots = np.zeros(len(numbers))
    half = worst / 2 - best / 2  # halves: the range of two finite numbers may not be finite
    slots[good] = (worst / 2 - numbers[good] / 2) / half
    return int(rng.choice(len(numbers), p=slots / slots.sum()))


def _pair(members: Sequence[Member], rng: np.random.Generator) -> tuple[Member, Member]:
    """Two different members, uniformly; one twice where it is alone."""
    if not members:
        raise ValueError("a tournament must have a member to choose, but got none")
    if len(members) == 1:
        return members[0], members[0]
    i, j = below(len(members), rng), below(len(members) - 1, rng)
    return members[i], members[j + (j >= i)]


def crowded_tournament(members: Sequence[Member], rng: np.random.Generator) -> Member:
    """The better of two by (rank, crowding): Deb et al. 2002, section III-B. A tie goes to the first."""
    a, b = _pair(members, rng)
    return b if (b.rank, -b.crowding) < (a.rank, -a.crowding) else a


def dominance_tournament(members: Sequence[Member], rng: np.random.Generator) -> Member:
    """The better of two by (constraint-)dominance, then crowding: NSGA-Net. A tie goes to the first."""
    a, b = _pair(members, rng)
    if dominates(a, b):
        return a
    if dominates(b, a):
        return b
    return b if b.crowding > a.crowding else a


# --- survival --------------------------------------------------------------------------------------


def youngest(members: Sequence[Member], count: int) -> list[Member]:
    """Aging: the `count` latest trials, in id order, however good (Real et al. 2019, algorithm 1)."""
    return sorted(members, key=lambda member: member.trial.id)[max(len(members) - count, 0) :]


def best(members: Sequence[Member], count: int, places: ArrayLike | None = None) -> list[Member]:
    """(mu + lambda): the `count` best of parents and children by `places` (default: their `standing`).

    Of equals the younger survive, so that a plateau can be crossed.
    """
    standings = standing(members) if places is None else np.asarray(places)
    age = np.array([-member.trial.id for member in members])
    return [members[i] for i in np.lexsort((age, standings))[:count].tolist()]


def survivors(members: Sequence[Member], count: int) -> list[Member]:
    """NSGA-II: the `count` best by (rank, crowding), best first, `ranked`; crowding is of whole fronts.

    Of equals the first listed survive.
    """
    everyone = ranked(members)
    order = np.lexsort(([-m.crowding for m in everyone], [m.rank for m in everyone]))[:count]
    return [everyone[i] for i in order.tolist()]


def archived(archive: list[Member], member: Member) -> list[Member]:
    """The Pareto archive once `member` came: what nothing (constraint-)dominates; equals are all kept.

    Failed members never enter. While nothing is feasible it holds those of the least violation.
    """
    if failed(member):
        return archive
    if not archive:
        return [member]
    if member.violation != archive[0].violation:  # all members of an archive have the same
        return [member] if member.violation < archive[0].violation else archive
    if member.violation > 0:
        return [*archive, member]
    rows = np.array([other.losses for other in archive])
    no_worse, better = rows <= member.losses, rows < member.losses
    if (no_worse.all(axis=1) & better.any(axis=1)).any():
        return archive
    kept = np.flatnonzero(better.any(axis=1) | no_worse.all(axis=1))
    return [*(archive[i] for i in kept.tolist()), member]
