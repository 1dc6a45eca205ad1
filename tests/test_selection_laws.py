"""Laws of parent selection and survival: closed forms, chi-square, slow references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from scipy import stats

from nas.searchers.members import Member
from nas.searchers.selection import (
    archived,
    best,
    binary_tournaments,
    crowded_tournament,
    dominance_tournament,
    dominates,
    roulette,
    standing,
    survivors,
    tournament,
    tournament_law,
    youngest,
)
from tests.searching import member

DRAWS = 6000


def follows(draw: Callable[[np.random.Generator], int], law: Any) -> bool:
    """Whether `DRAWS` draws are of the law, and none of what has no chance."""
    rng = np.random.default_rng(0)
    counts = Counter(draw(rng) for _ in range(DRAWS))
    law = np.asarray(law)
    possible = np.flatnonzero(law > 0)
    if set(counts) - set(possible.tolist()):
        return False
    return bool(stats.chisquare([counts[i] for i in possible], DRAWS * law[possible]).pvalue > 0.01)


# --- parents -----------------------------------------------------------------------------------------


def test_the_law_of_pressure_is_the_published_one() -> None:
    assert tournament_law(5, 0.9) == pytest.approx([0.9, 0.09, 0.009, 0.0009, 0.0001])
    assert tournament_law(3, 0.5) == pytest.approx([0.5, 0.25, 0.25])
    assert tournament_law(4, 1.0).tolist() == [1, 0, 0, 0]
    assert tournament_law(1, 0.3).tolist() == [1]
    for size, pressure in product((1, 2, 7), (0.1, 0.6, 1.0)):
        assert tournament_law(size, pressure).sum() == pytest.approx(1)


@pytest.mark.parametrize(("size", "pressure"), [(0, 0.9), (2, 0.0), (2, 1.1), (2, float("nan"))])
def test_wrong_tournaments_are_refused(size: int, pressure: float) -> None:
    with pytest.raises(ValueError, match=r"`1 <= size` and `0 < pressure <= 1` must hold, but got \(size="):
        tournament_law(size, pressure)


def test_nobody_to_choose_from_is_an_error() -> None:
    rng = np.random.default_rng(0)
    for choose in (tournament, roulette, crowded_tournament, dominance_tournament):
        with pytest.raises(ValueError, match="must have a member to choose, but got none"):
            choose([], rng)  # type: ignore[operator]


def test_everyone_drawn_wins_by_the_law_of_pressure() -> None:
    places = [3, 0, 4, 1, 2]
    law = tournament_law(5, 0.6)
    assert follows(lambda rng: tournament(places, rng, 5, 0.6), [law[place] for place in places])
    assert follows(lambda rng: tournament(places, rng, 99, 0.6), [law[place] for place in places])


@pytest.mark.parametrize("replace", [True, False])
def test_a_tournament_against_all_its_draws(replace: bool) -> None:
    """The law over all ways to draw three of four, listed."""
    n, size, pressure = 4, 3, 0.7
    ways = list(product(range(n), repeat=size) if replace else permutations(range(n), size))
    law = np.zeros(n)
    for drawn in ways:
        for place, i in enumerate(sorted(drawn)):
            law[i] += tournament_law(size, pressure)[place] / len(ways)
    assert follows(lambda rng: tournament(range(n), rng, size, pressure, replace=replace), law)


def test_equal_places_win_equally() -> None:
    assert follows(lambda rng: tournament([1, 1, 1, 1, 1], rng, 3), [0.2] * 5)
    assert follows(lambda rng: tournament([0, 0, 1], rng, 2), [0.5, 0.5, 0])


def test_tournaments_of_two_at_once() -> None:
    """Of four the i-th of each place beats those behind it: 3, 2, 1 and 0 of 6 pairs; equals share."""
    for places, law in (([2, 0, 3, 1], [1 / 6, 3 / 6, 0, 2 / 6]), ([0, 0, 1], [0.5, 0.5, 0])):
        winners = iter(binary_tournaments(places, DRAWS, np.random.default_rng(0)).tolist())
        assert follows(lambda rng, winners=winners: next(winners), law)
    assert binary_tournaments([7], 3, np.random.default_rng(0)).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="must have a member to choose, but got none"):
        binary_tournaments([], 3, np.random.default_rng(0))


def test_roulette_is_proportional_to_the_lead_over_the_worst() -> None:
    """r - r_min = 6, 0, 3, 1 (Genetic CNN: the worst is never chosen); NaN has no chance."""
    assert follows(lambda rng: roulette([1, 7, 4, 6], rng), [0.6, 0, 0.3, 0.1])
    assert follows(lambda rng: roulette([1, np.nan, 7, 4, 6, np.inf], rng), [0.6, 0, 0, 0.3, 0.1, 0])
    assert follows(lambda rng: roulette([1e308, -1e308, 0.0], rng), [0, 2 / 3, 1 / 3])
    assert follows(lambda rng: roulette([2, 2, np.nan, 2], rng), [1 / 3, 1 / 3, 0, 1 / 3])
    assert follows(lambda rng: roulette([np.nan] * 4, rng), [0.25] * 4)


def test_crowded_tournament() -> None:
    """Of n in a strict order, the r-th wins 2 (n - 1 - r) / (n (n - 1))."""
    members = [
        member(0, [0], rank=1, crowding=9),
        member(1, [0], crowding=1),
        member(2, [0], crowding=np.inf),
    ]
    assert follows(lambda rng: crowded_tournament(members, rng).trial.id, [0, 1 / 3, 2 / 3])
    alike = [member(i, [0], crowding=1) for i in range(4)]
    assert follows(lambda rng: crowded_tournament(alike, rng).trial.id, [0.25] * 4)
    assert crowded_tournament(alike[:1], np.random.default_rng(0)) is alike[0]


def test_dominance_tournament_goes_by_dominance_where_ranks_would_decide() -> None:
    """2 has rank 1 but nothing in common with 1, so that its crowding wins there, unlike by ranks."""
    members = [
        member(0, [0, 5], rank=0, crowding=0.5),
        member(1, [5, 0], rank=0, crowding=1.0),
        member(2, [1, 6], rank=1, crowding=2.0),
    ]
    assert follows(lambda rng: dominance_tournament(members, rng).trial.id, [1 / 3, 1 / 3, 1 / 3])
    assert follows(lambda rng: crowded_tournament(members, rng).trial.id, [1 / 3, 2 / 3, 0])


def test_constraint_domination() -> None:
    good, worse = member(0, [1, 1]), member(1, [1, 2])
    other, far, near = member(2, [2, 0]), member(3, [0, 0], 2.0), member(4, [9, 9], 1.0)
    broken = member(5, [np.nan, 0])
    order = [good, near, far, broken]
    for i, j in product(range(4), repeat=2):
        assert dominates(order[i], order[j]) == (i < j)
    assert dominates(good, worse)
    assert not dominates(good, other)
    assert not dominates(other, good)
    assert not dominates(good, member(6, [1, 1]))


def test_standing_goes_by_failure_violation_and_fitness() -> None:
    members = [member(0, [3]), member(1, [np.nan]), member(2, [1]), member(3, [0], 1.0), member(4, [1])]
    assert standing(members, [3, np.nan, 1, 0, 1]).tolist() == [1, 3, 0, 2, 0]
    ranked = [member(0, [0], rank=1), member(1, [0], crowding=1), member(2, [0], crowding=2)]
    assert standing(ranked).tolist() == [2, 1, 0]
    assert standing([]).tolist() == [] and best([], 3) == []


# --- survival ----------------------------------------------------------------------------------------


def test_youngest_and_best() -> None:
    members = [member(i, [loss]) for i, loss in ((4, 1), (0, 0), (2, 3), (1, 2), (3, 0))]
    assert [m.trial.id for m in youngest(members, 3)] == [2, 3, 4]
    assert [m.trial.id for m in youngest(members, 9)] == [0, 1, 2, 3, 4]
    assert youngest(members, 0) == []
    places = standing(members, [m.losses[0] for m in members])
    assert [m.trial.id for m in best(members, 4, places)] == [3, 0, 4, 1]
    assert len(best(members, 9, places)) == 5


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_archive_against_its_definition(objectives: int) -> None:
    """After each member: those that no other, so far, constraint-dominates; values with many ties."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        archive: list[Member] = []
        members: list[Member] = []
        for i in range(25):
            losses = rng.integers(5, size=objectives).astype(float)
            if rng.random() < 0.2:
                losses[0] = np.nan
            new = member(i, losses, float(max(rng.integers(-6, 3), 0)) if seed % 2 else 1.0 * (i % 3 == 0))
            members.append(new)
            archive = archived(archive, new)
            good = [m for m in members if not np.isnan(m.losses).any()]
            expected = [m.trial.id for m in good if not any(dominates(o, m) for o in good)]
            assert [m.trial.id for m in archive] == expected


def test_functions_combine_to_an_aging_tournament() -> None:
    """Of the three youngest, whose losses are 8, 7 and 9, pressure .8 in a pair."""
    members = [member(i, [loss]) for i, loss in enumerate((0, 1, 8, 7, 9))]

    def parent(rng: np.random.Generator) -> int:
        alive = youngest(members, 3)
        places = standing(alive, [m.losses[0] for m in alive])
        return alive[tournament(places, rng, 2, 0.8)].trial.id

    assert follows(parent, [0, 0, (0.2 + 0.8) / 3, 2 * 0.8 / 3, 2 * 0.2 / 3])


# --- NSGA-II ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objectives", [2, 3])
def test_survivors_are_pymoos(objectives: int) -> None:
    """Where the cut leaves no tie; crowding distances are compared by who stays."""
    compared = 0
    for seed in range(30):
        losses = np.random.default_rng(seed).random((40, objectives))
        kept = survivors([member(i, row) for i, row in enumerate(losses)], 20)
        everyone = survivors([member(i, row) for i, row in enumerate(losses)], 40)
        last, first_out = everyone[19], everyone[20]
        if (last.rank, last.crowding) == (first_out.rank, first_out.crowding):
            continue
        compared += 1
        theirs = RankAndCrowding().do(
            Problem(), Population.new(F=losses), n_survive=20, random_state=np.random.default_rng(0)
        )
        assert {tuple(row) for row in theirs.get("F")} == {tuple(m.losses) for m in kept}
    assert compared > 15


def test_survivors_go_by_feasibility_then_dominance_then_crowding() -> None:
    members = [
        member(0, [np.nan, 1]),  # failed
        member(1, [9, 9]),  # dominated
        member(2, [0, 0], violation=2.0),  # infeasible, however good
        member(3, [1, 5]),
        member(4, [5, 1]),
        member(5, [3, 3]),
        member(6, [3.1, 2.9]),
        member(7, [0, 0], violation=1.0),
        member(8, [np.nan, np.nan], violation=3.0),  # too large, never trained
        member(9, [4, 2]),
    ]
    found = survivors(members, 10)
    assert [m.trial.id for m in found][:2] == [3, 4]
    assert {m.trial.id for m in found[:5]} == {3, 4, 5, 6, 9}
    assert [m.trial.id for m in found[5:]] == [1, 7, 2, 0, 8]
    assert [m.rank for m in found] == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]
    crowded = {m.trial.id: m.crowding for m in found}
    assert {i: crowded[i] for i in (5, 6, 9)} == pytest.approx({5: 1.05, 6: 0.5, 9: 0.95})
    assert [m.trial.id for m in survivors(members, 3)][2:] == [5]


def test_the_tournaments_law() -> None:
    """Two different members, the better one wins: of n ranks, rank r wins 2 (n - 1 - r) / (n (n - 1))."""
    n = 6
    members = survivors([member(i, [float(i)]) for i in range(n)], n)
    rng = np.random.default_rng(0)
    wins = Counter(crowded_tournament(members, rng).trial.id for _ in range(6000))
    assert wins[n - 1] == 0
    expected = [6000 * 2 * (n - 1 - r) / (n * (n - 1)) for r in range(n - 1)]
    assert stats.chisquare([wins[r] for r in range(n - 1)], expected).pvalue > 0.01


def test_a_tie_goes_to_the_first_drawn() -> None:
    members = [member(i, [1.0]) for i in range(5)]
    rng = np.random.default_rng(0)
    wins = Counter(crowded_tournament(members, rng).trial.id for _ in range(5000))
    assert stats.chisquare([wins[i] for i in range(5)]).pvalue > 0.01
