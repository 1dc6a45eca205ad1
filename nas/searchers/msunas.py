"""MSuNAS (Lu et al. 2020, "NSGANetV2: Evolutionary Multi-Objective Surrogate-Assisted Neural Architecture
Search", algorithm 1), for any space and number of objectives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nas.protocols import Context, Exhausted
from nas.searchers import batches
from nas.searchers.batches import Past, State
from nas.searchers.box import Box, Floats
from nas.searchers.evidence import front_of
from nas.searchers.members import Member, losses_of
from nas.searchers.offspring import by_rank, children
from nas.searchers.selection import survivors
from nas.surrogates import Model, model_of
from nas.trial import Proposal


@dataclass(frozen=True)
class MSuNAS:
    """NSGA-II on what is predicted; of what it finds, those that even out the gaps of the front are trained.

    An inner search starts from the best of all trials, told or open; exact objectives are not predicted.
    What is new among its best fronts is the pool of which a batch is chosen, with the least standard
    deviation of the gaps between neighbours along each objective (the paper looks at the complexity alone),
    by exchange instead of a genetic algorithm. With one objective the best are taken.

    Attributes:
        initial: random architectures before the first batch; the paper's are 100.
        batch: K, proposals of one inner search.
        population, generations: of the inner search.
        crossover, mutation: of the inner search, as of `NSGA2`.
        model: a name (see `nas.surrogates.MODELS`), or a model. "best" is the paper's adaptive switching.

    Raises:
        ValueError: a number is out of range, or there is no such model.
    """

    initial: int = 10
    batch: int = 8
    population: int = 40
    generations: int = 20
    crossover: float = 0.25
    mutation: float = 1.0
    model: str | Model = "rbf"

    def __post_init__(self) -> None:
        if min(self.initial, self.batch, self.population, self.generations) < 1:
            raise ValueError(
                "`1 <= initial, batch, population, generations` must hold, but got "
                f"({self.initial=}, {self.batch=}, {self.population=}, {self.generations=})"
            )
        if not (0 <= self.crossover <= 1 and 0 <= self.mutation <= 1):
            raise ValueError(
                f"`0 <= crossover, mutation <= 1` must hold, but got ({self.crossover=}, {self.mutation=})"
            )
        model_of(self.model)

    def init(self, context: Context) -> State:
        return State.of(context, self.initial, self.batch)

    def ask(self, state: State, rng: np.random.Generator) -> Proposal | Exhausted:
        return batches.ask(state, model_of(self.model), self._chosen, rng)

    proposed = staticmethod(batches.proposed)
    told = staticmethod(batches.told)

    def _chosen(self, past: Past, count: int, rng: np.random.Generator) -> list[Proposal]:
        found = by_rank(past.members, self._evolved(past, rng))
        if len(found) <= count:
            return [member.trial.proposal for member in found]
        pool = [member for member in found if member.rank <= found[count - 1].rank]
        box = Box.of(losses_of([*past.members, *pool]))
        front = box.scaled(losses_of(front_of(past.members)))
        places = evenly(front, box.scaled(losses_of(pool)), count)
        return [pool[place].trial.proposal for place in places]

    def _evolved(self, past: Past, rng: np.random.Generator) -> list[Member]:
        """All new members that the inner search came upon."""
        found: dict[str, Member] = {}
        identify, seen = past.context.identify, past.context.seen
        context = replace(past.context, seen=lambda key: key in found or seen(key))
        population = survivors(past.members, self.population)
        for _ in range(self.generations):
            born = children(context, population, self.population, self.crossover, self.mutation, rng)
            predicted = past.predictor.members(born, before=len(past.believed) + len(found))
            found.update({identify(member.trial.architecture): member for member in predicted})
            population = survivors([*population, *predicted], self.population)
        return list(found.values())


def evenly(front: Floats, pool: Floats, count: int) -> list[int]:
    """Places of `count` rows of the pool that make the gaps along each objective most even with the front.

    What extends the front farthest in an objective is taken first: the paper has both ends from the start.
    Others are added one by one, then each of them is exchanged for the best other, twice.

    Args:
        front, pool: `float64[f, m]` and `float64[p, m]`, scaled alike.
    """
    if pool.shape[1] == 1:
        best: list[int] = np.argsort(pool[:, 0], kind="stable")[:count].tolist()
        return best
    reach = front.min(axis=0, initial=np.inf)
    ends = [int(np.argmin(column)) for column, end in zip(pool.T, reach, strict=True) if column.min() < end]
    chosen = list(dict.fromkeys(ends))[:count]
    fixed = len(chosen)
    while len(chosen) < count:
        left = [place for place in range(len(pool)) if place not in chosen]
        chosen.append(min(left, key=lambda place: unevenness(np.vstack([front, pool[[*chosen, place]]]))))
    for turn in [*range(fixed, count)] * 2:
        others = [chosen[i] for i in range(count) if i != turn]
        left = [place for place in range(len(pool)) if place not in others]
        chosen[turn] = min(left, key=lambda place: unevenness(np.vstack([front, pool[[*others, place]]])))
    return chosen


def unevenness(losses: Floats) -> float:
    """Standard deviation of the gaps between neighbours along each objective, summed (`float64[n, m]`)."""
    return float(np.diff(np.sort(losses, axis=0), axis=0).std(axis=0).sum()) if len(losses) > 1 else 0.0
