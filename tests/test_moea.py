"""SMS-EMOA, NSGA-III and MOEA/D: survival against slow references and pymoo, then the rules of a searcher."""

from __future__ import annotations

import warnings
from math import comb
from typing import Any

import numpy as np
import pytest
from pymoo.algorithms.moo.nsga3 import ReferenceDirectionSurvival
from pymoo.core.population import Population
from pymoo.core.problem import Problem

from nas import pareto
from nas.protocols import Objective
from nas.searchers.box import Box
from nas.searchers.members import Member
from nas.searchers.moead import MOEAD
from nas.searchers.nsga3 import Bounds, fitting_partitions, reference_directions, spread
from nas.searchers.smsemoa import contributions, reduced
from nas.trial import Failure, Proposal, Result, Trial
from tests.searching import MACRO, make, member, run


def members_of(losses: Any) -> list[Member]:
    return [member(i, row) for i, row in enumerate(losses)]


# --- SMS-EMOA -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [2, 3, 4])
def test_contributions_are_differences_of_hypervolume(m: int) -> None:
    rng = np.random.default_rng(m)
    for _ in range(10):
        losses = rng.random((30, m)) * 10 ** rng.uniform(-3, 9, m)
        front = losses[pareto.front(losses)]
        scaled = (front - losses.min(axis=0)) / np.ptp(losses, axis=0)
        reference = scaled.max(axis=0) + 1
        whole = pareto.hypervolume(scaled, reference)
        slow = [
            whole - pareto.hypervolume(np.delete(scaled, i, axis=0), reference) for i in range(len(front))
        ]
        found = contributions(front, Box.of(losses))
        inner = np.isfinite(found)
        assert found[inner] == pytest.approx(np.array(slow)[inner], abs=1e-9)
        ends = {int(i) for i in scaled.argmin(axis=0)} if m == 2 else set()
        assert set(np.flatnonzero(~inner)) == ends


def test_contributions_closed_form_equal_rows_and_failures() -> None:
    losses = np.array([[0, 3], [1, 1], [1, 1], [2.5, 0.5], [3, 0], [np.nan, 0]])
    unit = Box(np.zeros(2), np.ones(2))
    assert contributions(losses, unit).tolist() == [np.inf, 0, 0, 0.25, np.inf, 0]
    assert contributions(np.delete(losses, 1, axis=0), unit).tolist() == [np.inf, 3, 0.25, np.inf, 0]
    assert contributions(np.array([[np.nan, np.nan]]), unit).tolist() == [0]
    assert contributions(np.array([[1.0], [1.0]]), Box(np.zeros(1), np.ones(1))).tolist() == [0, 0]


def slow_reduction(losses: Any, count: int) -> set[int]:
    """Algorithm 2, one removal at a time, with differences of hypervolumes."""
    alive = list(range(len(losses)))
    scaled = (losses - losses.min(axis=0)) / np.ptp(losses, axis=0)
    while len(alive) > count:
        ranks = pareto.ranks(scaled[alive])
        worst = [i for i, rank in zip(alive, ranks, strict=True) if rank == ranks.max()]
        values = scaled[worst]
        reference = values.max(axis=0) + 1
        added = []
        for k, i in enumerate(worst):
            rest = pareto.hypervolume(np.delete(values, k, axis=0), reference)
            at_end = values.shape[1] == 2 and (scaled[i] == values.min(axis=0)).any()
            added.append(np.inf if at_end else pareto.hypervolume(values, reference) - rest)
        alive.remove(worst[int(np.argmin(added))])
    return set(alive)


@pytest.mark.parametrize("m", [2, 3])
def test_reduction_is_algorithm_2(m: int) -> None:
    for seed in range(20):
        losses = np.random.default_rng(seed).random((25, m)) * [1, 1e6, 1e-4][:m]
        for count in (1, 8, 15, 24, 25, 40):
            found = {x.trial.id for x in reduced(members_of(losses), count)}
            assert found == slow_reduction(losses, count)


def test_reduction_goes_by_feasibility_then_rank_then_contribution() -> None:
    members = [
        member(0, [np.nan, 1]),  # failed
        member(1, [9, 9]),  # dominated
        member(2, [0, 0], violation=2.0),  # infeasible, however good
        member(3, [1, 5]),
        member(4, [5, 1]),
        member(5, [3, 3]),
        member(6, [3.1, 2.95]),
        member(7, [0, 0], violation=1.0),
        member(8, [np.nan, np.nan], violation=3.0),
    ]
    removed = []
    alive = members
    while len(alive) > 1:
        left = reduced(alive, len(alive) - 1)
        removed += [m.trial.id for m in alive if m.trial.id not in {x.trial.id for x in left}]
        alive = left
    assert removed[:6] == [8, 0, 2, 7, 1, 6]
    assert removed[6] == 5  # the ends stay
    assert [m.rank for m in reduced(members[3:6], 3)] == [0, 0, 0]


def test_of_equals_the_oldest_goes() -> None:
    assert [m.trial.id for m in reduced(members_of(np.ones((5, 2))), 2)] == [3, 4]
    assert [m.trial.id for m in reduced(members_of([[1.0], [2.0], [1.0], [1.0]]), 2)] == [2, 3]


# --- NSGA-III -----------------------------------------------------------------------------------------


def test_directions_lie_on_the_simplex_and_fit_the_population() -> None:
    for m in range(1, 8):
        for population in (1, 5, 20, 100):
            partitions = fitting_partitions(m, population)
            directions = reference_directions(m, partitions)
            assert directions.shape == (comb(partitions + m - 1, m - 1), m)
            assert directions.sum(axis=1) == pytest.approx(np.ones(len(directions)))
            assert len(directions) <= max(population, m)
            if m > 1:
                assert comb(partitions + m, m - 1) > population
    assert fitting_partitions(2, 20) == 19
    assert fitting_partitions(3, 92) == 12  # 91 directions: table I of the paper


def unbounded(m: int) -> Bounds:
    return Bounds(np.full(m, np.inf), np.full(m, -np.inf))


@pytest.mark.parametrize("m", [2, 3])
def test_survivors_have_pymoos_odds(m: int) -> None:
    """Ties are drawn, so the frequency of each row is compared; scaled to [0, 1] as pymoo's constants ask."""
    draws, undecided = 150, 0
    directions = reference_directions(m, fitting_partitions(m, 10))
    for case in range(4):
        losses = np.random.default_rng(case).random((24, m))
        losses = (losses - losses.min(axis=0)) / np.ptp(losses, axis=0)
        ours, theirs = np.zeros(24), np.zeros(24)
        for seed in range(draws):
            left, _ = spread(members_of(losses), 10, directions, unbounded(m), np.random.default_rng(seed))
            assert len(left) == 10
            ours[[x.trial.id for x in left]] += 1 / draws
            with warnings.catch_warnings():
                pymoo = ReferenceDirectionSurvival(directions).do(
                    Problem(n_obj=m), Population.new(F=losses, index=np.arange(24)), n_survive=10,
                    random_state=np.random.default_rng(10_000 + seed),
                )  # fmt: skip
            theirs[pymoo.get("index").astype(int)] += 1 / draws
        assert np.abs(ours - theirs).max() < 0.2  # 3.5 standard errors of a difference at a half
        undecided += int(((ours > 0) & (ours < 1)).sum())
    assert undecided > 0


def test_survivors_do_not_depend_on_units() -> None:
    directions = reference_directions(3, 4)
    for seed in range(10):
        losses = np.random.default_rng(seed).random((30, 3))
        expected, _ = spread(members_of(losses), 15, directions, unbounded(3), np.random.default_rng(0))
        units = losses * [1e-5, 1.0, 1e9] + [3.0, 0.0, -5e9]
        found, _ = spread(members_of(units), 15, directions, unbounded(3), np.random.default_rng(0))
        assert {m.trial.id for m in found} == {m.trial.id for m in expected}


def test_bounds_remember_the_best_and_the_worst_ever() -> None:
    directions = reference_directions(2, 3)
    rng = np.random.default_rng(0)
    _, bounds = spread(members_of([[0.0, 9.0], [5.0, 4.0]]), 2, directions, unbounded(2), rng)
    _, bounds = spread(members_of([[1.0, 2.0], [20.0, 3.0]]), 1, directions, bounds, rng)
    assert bounds.ideal.tolist() == [0, 2]
    assert bounds.worst.tolist() == [20, 9]
    failed = [member(0, [np.nan, -9.0]), member(1, [-9.0, -9.0], violation=1.0)]
    assert spread(failed, 1, directions, bounds, rng)[1] is bounds


def test_the_nearest_rows_to_the_axes_are_never_forgotten() -> None:
    """Survival of a second generation has pymoo's odds, with extremes that only the first one held."""
    rows = np.array([[0.0, 1.0], [1.0, 0.0], [0.4, 0.4]])
    later = np.vstack([np.random.default_rng(2).random((15, 2)) * 0.3 + 0.1, rows[:1] * 0.9])
    directions, draws = reference_directions(2, 4), 150
    ours, theirs = np.zeros(16), np.zeros(16)
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        _, bounds = spread(members_of(rows), 2, directions, unbounded(2), rng)
        assert bounds.extremes is not None
        assert bounds.extremes.tolist() == [[1, 0], [0, 1]]
        left, bounds = spread(members_of(later), 3, directions, bounds, rng)
        assert bounds.extremes is not None
        assert bounds.extremes[0].tolist() == [1, 0]
        ours[[m.trial.id for m in left]] += 1 / draws
        survival, rng = ReferenceDirectionSurvival(directions), np.random.default_rng(10_000 + seed)
        with warnings.catch_warnings():
            for losses, count in ((rows, 2), (later, 3)):
                population = Population.new(F=losses, index=np.arange(len(losses)))
                kept = survival.do(Problem(n_obj=2), population, n_survive=count, random_state=rng)
        theirs[kept.get("index").astype(int)] += 1 / draws
    assert np.abs(ours - theirs).max() < 0.2


def test_normalisation_leaves_the_filters_of_warnings_alone() -> None:
    before = list(warnings.filters)
    spread(members_of(np.ones((6, 2))), 3, reference_directions(2, 3), unbounded(2), np.random.default_rng(0))
    assert list(warnings.filters) == before


def test_spread_goes_by_feasibility_then_rank() -> None:
    members = [
        member(0, [np.nan, 1]),
        member(1, [9, 9]),
        member(2, [0, 0], violation=2.0),
        member(3, [1, 5]),
        member(4, [5, 1]),
        member(5, [0, 0], violation=1.0),
    ]
    orders = [
        {m.trial.id for m in spread(members, n, reference_directions(2, 3), unbounded(2), rng)[0]}
        for n in range(2, 7)
        for rng in [np.random.default_rng(0)]
    ]
    assert orders == [{3, 4}, {3, 4, 1}, {3, 4, 1, 5}, {3, 4, 1, 5, 2}, {0, 1, 2, 3, 4, 5}]


# --- MOEA/D -------------------------------------------------------------------------------------------


def told(searcher: MOEAD, losses: Any, violation: Any = None) -> Any:
    """The state after trials with these values of objectives a and b, and of c, whose limit is 0."""
    limit = None if violation is None else 0.0
    objectives = (Objective("a"), Objective("b"), Objective("c", limit=limit))[
        : 2 if violation is None else 3
    ]
    state = searcher.init(make(searcher, objectives).context)
    rng = np.random.default_rng(0)
    for i, row in enumerate(losses):
        values = dict(zip("ab", row, strict=True)) | ({} if violation is None else {"c": violation[i]})
        outcome = Result(values) if np.isfinite(row).all() else Failure("nan")
        state = searcher.told(state, Trial(i, Proposal(MACRO.decode("0" * 8)), outcome), rng)
    return state


def test_neighbourhoods() -> None:
    state = told(MOEAD(population=5, neighbours=3), [])
    assert state.weights.tolist() == [[0, 1], [0.25, 0.75], [0.5, 0.5], [0.75, 0.25], [1, 0]]
    assert [set(row) for row in state.neighbours.tolist()] == [
        {0, 1, 2}, {0, 1, 2}, {1, 2, 3}, {2, 3, 4}, {2, 3, 4},
    ]  # fmt: skip
    assert state.neighbours[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_with_all_as_neighbours_each_subproblem_has_its_best() -> None:
    rng = np.random.default_rng(5)
    losses = np.vstack([[[0.0, 1.0], [1.0, 0.0]], rng.random((60, 2))])  # the range is known from the start
    state = told(MOEAD(population=7, neighbours=7), losses * [1e6, 1e-3])
    weights = np.maximum(state.weights, 1e-4)
    best = [int((losses * row).max(axis=1).argmin()) for row in weights]
    assert [m.trial.id for m in state.population] == best
    assert len(set(best)) > 3


def test_a_child_replaces_its_neighbours_only() -> None:
    worse = [[5.0, 5.0]] * 5
    for served, expected in ((5, {0, 1}), (7, {1, 2, 3}), (9, {3, 4})):
        losses = [*worse, *[[9.0, 9.0]] * (served - 5), [1.0, 1.0]]
        state = told(MOEAD(population=5, neighbours=3), losses)
        near = set(state.neighbours[served % 5].tolist())
        assert {i for i, m in enumerate(state.population) if m.trial.id == served} == near
        assert expected <= near


def test_violation_and_failure_are_replaced_by_anything_better() -> None:
    state = told(
        MOEAD(population=4, neighbours=4),
        [[np.nan, np.nan], [1.0, 1.0], [9.0, 9.0], [0.0, 0.0], [np.nan, 0.0], [8.0, 8.0]],
        violation=[0.0, 5.0, 1.0, 3.0, 0.0, 1.0],
    )
    assert {m.trial.id for m in state.population} == {5}


def test_parents_are_neighbours() -> None:
    searcher = MOEAD(population=12, neighbours=3, crossover=0.5)
    search = make(searcher)
    run(search, 40)
    search.ask()
    state = search._state
    near = {state.population[i].trial.id for i in state.neighbours[40 % 12]}
    drawn = [searcher.ask(state, np.random.default_rng(seed)) for seed in range(100)]
    single = [p for p in drawn if isinstance(p, Proposal) and set(p.parents) <= near]
    assert len(single) > 60
    assert {parent for p in single for parent in p.parents} == near
