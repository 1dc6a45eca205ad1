"""Local search, annealing, large-scale evolution and Genetic CNN's algorithm: what is their own."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from nas import pareto
from nas.searchers.genetic_cnn import GeneticCNN, fitnesses
from nas.searchers.large_scale_evolution import LargeScaleEvolution
from nas.searchers.local_search import LocalSearch, promise
from nas.searchers.members import Member
from nas.searchers.random_search import RandomSearch
from nas.searchers.scalars import WeightedSum
from nas.searchers.simulated_annealing import SimulatedAnnealing
from nas.trial import Proposal, Result, Trial
from tests.searching import MACRO, OBJECTIVES, make, run, tell


@pytest.mark.parametrize("objectives", [1, 2])
def test_searching_beats_sampling(objectives: int) -> None:
    """Mean hypervolume of 150 trials over four seeds, on a smooth landscape."""
    found = {}
    for searcher in (
        RandomSearch(), LocalSearch(), SimulatedAnnealing(), LargeScaleEvolution(20), GeneticCNN()
    ):  # fmt: skip
        volumes = []
        for seed in range(4):
            search = make(searcher, OBJECTIVES[objectives], seed=seed)
            run(search, 150)
            volumes.append(pareto.hypervolume(search.losses(search.trials), [101.0, 3e6][:objectives]))
        found[type(searcher).__name__] = np.mean(volumes)
    baseline = found.pop("RandomSearch")
    assert {name for name, volume in found.items() if volume <= baseline} == set()


# --- local search ------------------------------------------------------------------------------------


def test_neighbors_of_the_front_come_before_anything_else() -> None:
    search = make(LocalSearch(starts=3))
    for n in range(100):
        proposal = search.ask()
        assert isinstance(proposal, Proposal)
        if n >= 3:
            front = {trial.id: trial.architecture for trial in search.front()}
            assert proposal.origin == "neighbor"
            assert proposal.architecture in MACRO.neighbors(front[proposal.parents[0]])
        tell(search, search.propose(proposal))


@pytest.mark.parametrize("in_flight", [1, 3])
def test_hill_climbing_restarts_from_a_local_optimum(in_flight: int) -> None:
    """A restart comes exactly when the best of the climb has no neighbour that was not evaluated."""
    search = make(LocalSearch(starts=1), OBJECTIVES[1], in_flight=in_flight)
    rugged = np.random.default_rng(0).permutation(3**8)
    assert run(search, 150, lambda t: {"error": float(rugged[int(MACRO.code(t.architecture), 3)])}) is None
    restarts = [trial.id for trial in search.trials if trial.proposal.origin == "restart"]
    assert len(restarts) >= 3
    known = {MACRO.canonical(trial.architecture).key for trial in search.trials[: restarts[0]]}
    top = min(search.trials[: restarts[0]], key=lambda trial: trial.values["error"])
    assert {MACRO.canonical(arch).key for arch in MACRO.neighbors(top.architecture)} <= known
    climb = search.trials[restarts[0] : restarts[1]]
    assert all(trial.proposal.origin == "neighbor" for trial in climb[in_flight:-in_flight])
    assert all(p >= restarts[0] - in_flight for t in climb[in_flight:] for p in t.proposal.parents)


def test_gaps_along_the_exact_axis_are_promising() -> None:
    """Closed form: below members of cost 0, .2, 1 in the middle between the best dearer and the cheaper.

    At cost .1 it is hoped at 1/2, .1 below the next member too, which it then dominates.
    """
    front = np.array([[1.0, 0.0], [0.6, 0.2], [0.0, 1.0]])
    exact = np.array([False, True])
    candidates = np.array([[np.nan, 0.1], [np.nan, 0.4], [np.nan, 0.9]])
    base = pareto.hypervolume(front, [1.1, 1.1])
    gains = np.array(promise(front, candidates, exact)) - base
    assert gains == pytest.approx([0.1 * 0.5 + 0.8 * 0.1, 0.6 * 0.3, 0.1 * 0.3])
    ends = promise(front, np.array([[np.nan, 1.05], [np.nan, -0.1]]), exact)
    assert np.array(ends) - base == pytest.approx([0.05 * 0.05, 0.1 * 0.6 + 0.2 * 0.5 + 0.8 * 0.1])


# --- simulated annealing -----------------------------------------------------------------------------


def test_temperatures_fall_geometrically() -> None:
    searcher = SimulatedAnnealing(initial=5, hottest=0.4, coldest=0.1, steps=10)
    assert [searcher.temperature(i) for i in (0, 5, 10, 15, 99)] == pytest.approx([0.4, 0.4, 0.2, 0.1, 0.1])


def trial_of(i: int, error: float) -> Trial:
    return Trial(i, Proposal(MACRO.decode("0" * 8)), Result({"error": error}))


@pytest.mark.parametrize("worse", [0.05, 0.2])
def test_the_law_of_metropolis(worse: float) -> None:
    """Worse by d of the range seen: accepted with exp(-d / T)."""
    searcher = SimulatedAnnealing(initial=2, hottest=0.1, coldest=0.1, scalarisation=WeightedSum())
    context = make(searcher, OBJECTIVES[1]).context
    rng = np.random.default_rng(0)
    accepted = 0
    for _ in range(3000):
        state = searcher.init(context)
        for trial in (trial_of(0, 0.0), trial_of(1, 10.0), trial_of(2, 10 * worse)):
            state = searcher.told(state, trial, rng)
        assert state.current is not None
        accepted += state.current.trial.id == 2
    assert stats.binomtest(accepted, 3000, math.exp(-worse / 0.1)).pvalue > 0.01


# --- large-scale evolution ---------------------------------------------------------------------------


def test_pairs_the_worse_dies_and_the_better_is_the_next_parent() -> None:
    """Of n in order, the r-th is the worse of a pair with 2 r / (n (n - 1)), the better with n - 1 - r."""
    n, searcher = 5, LargeScaleEvolution(5)
    context = make(searcher, OBJECTIVES[1]).context
    rng = np.random.default_rng(0)
    died: Counter[int] = Counter()
    won: Counter[int] = Counter()
    for _ in range(3000):
        state = searcher.init(context)
        for i in range(n):
            state = searcher.told(searcher.proposed(state, trial_of(i, 1.0 * i)), trial_of(i, 1.0 * i), rng)
        (winner,) = state.parents
        (dead,) = set(range(n)) - {m.trial.id for m in state.alive}
        assert winner.trial.id < dead
        died[dead] += 1
        won[winner.trial.id] += 1
    law = [3000 * 2 * r / (n * (n - 1)) for r in range(1, n)]
    assert stats.chisquare([died[r] for r in range(1, n)], law).pvalue > 0.01
    assert stats.chisquare([won[n - 1 - r] for r in range(1, n)], law).pvalue > 0.01


def test_the_population_keeps_its_size() -> None:
    for in_flight in (1, 4):
        search = make(LargeScaleEvolution(10), in_flight=in_flight)
        run(search, 80)
        assert len(search._state.alive) == 9  # the tenth is the child in training
        assert len(search._state.parents) <= in_flight


# --- Genetic CNN -------------------------------------------------------------------------------------


def test_generations_have_the_papers_shares() -> None:
    """Each is of N; pairs cross with p_C unless both are one, of the others p_M mutate, the rest stays."""
    searcher = GeneticCNN(population=20)
    search = make(searcher, OBJECTIVES[1])
    run(search, 20)
    search.ask()
    state = search._state
    crossed = mutated = stayed = 0
    rng = np.random.default_rng(0)
    for _ in range(300):
        kept, slots = searcher._selected(state, rng)
        assert len(kept) + len(slots) == 20
        pairs = [slot for slot in slots if slot.second is not None]
        assert all(a.first is b.second for a, b in zip(pairs[::2], pairs[1::2], strict=True))
        crossed, mutated, stayed = crossed + len(pairs), mutated + len(slots) - len(pairs), stayed + len(kept)
    fitness = fitnesses(state, state.generation, rng)
    share = fitness.max() - fitness
    twins = ((share / share.sum()) ** 2).sum()  # both of a pair are one individual
    assert crossed / 6000 == pytest.approx(0.2 * (1 - twins), abs=0.02)
    assert mutated / (mutated + stayed) == pytest.approx(0.8, abs=0.02)


def test_what_stays_is_not_evaluated_again_and_counts_for_the_next_generation() -> None:
    search = make(GeneticCNN(population=6, crossover=0.3, mutation=0.4), OBJECTIVES[1])
    seen = set()
    while len(search.trials) < 80:
        proposal = search.ask()
        assert isinstance(proposal, Proposal)
        tell(search, search.propose(proposal))
        if len(search.trials) > 6:
            state = search._state
            assert len(state.generation) == 6
            assert len(state.kept) + state.awaited == 6
            assert {m.trial.id for m in state.kept} <= {m.trial.id for m in state.generation}
            seen.add(len(state.kept))
    assert len(seen) > 2


def test_the_worst_and_the_infeasible_have_no_children() -> None:
    members = [Member(trial_of(i, e), np.array([e]), v) for i, (e, v) in enumerate(((3, 0), (1, 0), (0, 2)))]
    state = make(GeneticCNN(), OBJECTIVES[1])._state
    fitness = fitnesses(state, members, np.random.default_rng(0))
    assert fitness[:2].tolist() == [3, 1]
    assert np.isnan(fitness[2])
