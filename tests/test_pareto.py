"""Pareto functions: closed forms, a slow reference, pymoo, and rows that are not finite."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from nas import pareto

FINITE = st.integers(-4, 4).map(float)
"""Few values, so that ties and duplicates are common."""
ANY = FINITE | st.sampled_from([np.nan, np.inf, -np.inf])


@st.composite
def losses(draw: st.DrawFn, values: st.SearchStrategy[float] = FINITE, least: int = 0) -> np.ndarray:
    rows, columns = draw(st.integers(least, 12)), draw(st.integers(1, 4))
    return draw(arrays(np.float64, (rows, columns), elements=values))


def slow_ranks(array: np.ndarray) -> list[int]:
    """Peels fronts off, pair by pair; rows not finite form one last front, never the first."""
    finite = [i for i, row in enumerate(array) if np.isfinite(row).all()]
    result = [-1] * len(array)
    left, rank = set(finite), 0
    while left:
        peel = {
            i
            for i in left
            if not any((array[j] <= array[i]).all() and (array[j] < array[i]).any() for j in left)
        }
        for i in peel:
            result[i] = rank
        left -= peel
        rank += 1
    return [r if r >= 0 else max(rank, 1) for r in result]


def inclusion_exclusion(array: np.ndarray, reference: np.ndarray) -> float:
    """Volume of a union of boxes, over all subsets."""
    rows = [row for row in array if np.isfinite(row).all() and (row < reference).all()]
    return sum(
        (-1) ** (size + 1) * float(np.prod(reference - np.max(chosen, axis=0)))
        for size in range(1, len(rows) + 1)
        for chosen in combinations(rows, size)
    )


# --- ranks and front -------------------------------------------------------------------------------


@given(losses(ANY))
def test_ranks_and_front_equal_the_slow_reference(array: np.ndarray) -> None:
    expected = slow_ranks(array)
    assert pareto.ranks(array).tolist() == expected
    assert pareto.front(array).tolist() == [i for i, rank in enumerate(expected) if rank == 0]


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
def test_ranks_equal_pymoo(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    for array in (rng.random((60, objectives)), rng.integers(0, 5, (60, objectives)).astype(float)):
        ranks = pareto.ranks(array)
        fronts = NonDominatedSorting().do(array)
        for rank, members in enumerate(fronts):
            assert sorted(members) == np.flatnonzero(ranks == rank).tolist()
        assert pareto.front(array).tolist() == sorted(fronts[0])


def test_rows_not_finite_are_dominated_by_all() -> None:
    array = np.array([[1, 2], [np.nan, 0], [-np.inf, -np.inf], [2, 1], [3, 3]])
    assert pareto.ranks(array).tolist() == [0, 2, 2, 0, 1]
    assert pareto.front(array).tolist() == [0, 3]
    assert pareto.hypervolume(array, [4, 4]) == pytest.approx(8)
    assert np.isnan(array[1, 0])  # inputs stay as they are


def test_nothing_finite_means_no_front() -> None:
    array = np.full((3, 2), np.nan)
    assert pareto.front(array).tolist() == []
    assert 0 not in pareto.ranks(array)
    assert pareto.crowding(array).tolist() == [0, 0, 0]
    assert pareto.hypervolume(array, [1, 1]) == 0
    assert pareto.hypervolume_history(array, [1, 1]) == [0, 0, 0]
    for function in (pareto.reference_point, pareto.knee):
        with pytest.raises(ValueError, match="at least one finite row, but got none"):
            function(array)


def test_no_rows_and_wrong_shapes() -> None:
    empty = np.empty((0, 2))
    assert (
        pareto.ranks(empty).tolist() == pareto.front(empty).tolist() == pareto.crowding(empty).tolist() == []
    )
    assert pareto.hypervolume(empty, [1, 1]) == 0
    assert pareto.hypervolume_history([], [1, 1]) == []
    for function in (pareto.ranks, pareto.front, pareto.crowding, pareto.knee):
        with pytest.raises(ValueError, match=r"shape \[n, m\], but got shape \(3,\)"):
            function([1.0, 2.0, 3.0])


def test_equal_rows_share_a_rank_and_all_stay() -> None:
    array = np.array([[1, 1], [1, 1], [2, 2], [2, 2], [1, 1]])
    assert pareto.ranks(array).tolist() == [0, 0, 1, 1, 0]
    assert pareto.front(array).tolist() == [0, 1, 4]


# --- crowding --------------------------------------------------------------------------------------


def test_crowding_by_hand() -> None:
    """Deb et al. 2002: (next - previous) / (max - min) summed over objectives, infinite at the ends."""
    array = np.array([[0, 10], [4, 2], [1, 6], [10, 0]], dtype=float)
    assert pareto.crowding(array).tolist() == [
        np.inf,
        pytest.approx((10 - 1) / 10 + (6 - 0) / 10),
        pytest.approx((4 - 0) / 10 + (10 - 2) / 10),
        np.inf,
    ]


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_crowding_equals_pymoo(objectives: int) -> None:
    """pymoo divides by the number of objectives."""
    array = np.random.default_rng(objectives).random((40, objectives))
    theirs = get_crowding_function("cd").do(array, n_remove=0) * objectives
    np.testing.assert_allclose(pareto.crowding(array), theirs, rtol=1e-12)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ([[3, 4]], [np.inf]),
        ([[3, 4], [4, 3]], [np.inf, np.inf]),
        ([[3, 4], [np.nan, 1], [4, 3]], [np.inf, 0, np.inf]),
        ([[1, 5], [2, 5], [4, 5]], [np.inf, 1, np.inf]),  # one value adds nothing
        ([[1, 1], [1, 1], [1, 1]], [0, 0, 0]),
        ([[0], [1], [4]], [np.inf, 1, np.inf]),
    ],
)
def test_crowding_of_small_and_flat_fronts(array: Any, expected: list[float]) -> None:
    assert pareto.crowding(array).tolist() == expected


# --- hypervolume -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "reference", "volume"),
    [
        ([[1, 1]], [3, 4], 6),
        ([[1, 2], [2, 1]], [3, 3], 3),
        ([[1, 2], [2, 1], [2, 2], [1, 2]], [3, 3], 3),
        ([[3, 0]], [3, 3], 0),  # on the border
        ([[4, 0], [1, 1]], [3, 3], 4),
        ([[5], [2], [7]], [6], 4),
        ([[0, 0, 0]], [2, 3, 4], 24),
        ([[0, 1, 1], [1, 0, 1], [1, 1, 0]], [2, 2, 2], 4),
        ([[0, 0, 0, 1], [1, 1, 1, 0]], [2, 2, 2, 2], 9),
    ],
)
def test_hypervolume_of_boxes(array: Any, reference: list[float], volume: float) -> None:
    assert pareto.hypervolume(np.array(array, dtype=float), reference) == pytest.approx(volume, rel=1e-12)


@given(losses(ANY).filter(lambda a: len(a) <= 7))
def test_hypervolume_equals_inclusion_and_exclusion(array: np.ndarray) -> None:
    reference = np.full(array.shape[1], 3.5)
    expected = inclusion_exclusion(array, reference)
    assert pareto.hypervolume(array, reference) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("objectives", [3, 4])
def test_hypervolume_agrees_with_monte_carlo(objectives: int) -> None:
    rng = np.random.default_rng(0)
    array = rng.random((15, objectives))
    points = rng.random((40_000, objectives))
    share = (array[None] <= points[:, None]).all(axis=2).any(axis=1).mean()
    error = 4 * np.sqrt(share * (1 - share) / len(points))
    assert pareto.hypervolume(array, np.ones(objectives)) == pytest.approx(share, abs=error)


@pytest.mark.parametrize("reference", [[1], [1, 2, 3], [1, np.nan], [np.inf, 1], 4.0])
def test_a_wrong_reference_is_refused(reference: Any) -> None:
    with pytest.raises(ValueError, match="reference must be 2 finite numbers, but got"):
        pareto.hypervolume([[0.0, 0.0]], reference)


@given(losses(ANY))
def test_history_equals_recomputation(array: np.ndarray) -> None:
    reference = np.full(array.shape[1], 3.0)
    history = pareto.hypervolume_history(array, reference)
    expected = [pareto.hypervolume(array[: i + 1], reference) for i in range(len(array))]
    assert history == pytest.approx(expected, rel=1e-12)
    assert all(b >= a - 1e-12 for a, b in pairwise(history))


# --- reference point and knee ----------------------------------------------------------------------


def test_reference_point_is_a_tenth_of_the_range_beyond_the_worst() -> None:
    array = np.array([[0, 5], [10, 3], [np.nan, 100], [4, np.inf]])
    assert pareto.reference_point(array).tolist() == [11, pytest.approx(5.2)]


@pytest.mark.parametrize("value", [0.0, 5.0, -200.0])
def test_reference_point_of_one_value_is_worse_than_it(value: float) -> None:
    assert pareto.reference_point([[value]])[0] > value


@given(losses(least=1))
def test_every_row_is_better_than_the_reference_point(array: np.ndarray) -> None:
    assert (array < pareto.reference_point(array)).all()
    assert pareto.hypervolume(array, pareto.reference_point(array)) > 0


def test_knee_is_the_member_that_bulges_most() -> None:
    array = np.array([[0, 10], [1, 1.5], [5, 1], [10, 0], [0.5, np.nan], [20, 20]])
    assert pareto.knee(array) == 1
    assert pareto.knee(array * [1000, 0.01]) == 1  # scales do not matter
    assert pareto.knee(array[::-1]) == 4
    assert pareto.knee([[3.0], [1.0], [2.0]]) == 1
    assert pareto.knee([[np.nan, 1], [2, 2]]) == 1
    assert pareto.knee([[1, 1, 0], [0, 1, 1], [0.1, 0.1, 0.2], [1, 0, 1]]) == 2


@given(losses(ANY, least=1))
def test_knee_is_in_the_front(array: np.ndarray) -> None:
    if len(pareto.front(array)):
        assert pareto.knee(array) in pareto.front(array)


def test_of_equal_knees_the_best_in_the_first_objective_is_taken() -> None:
    assert pareto.knee([[30.0, 1.0], [0.0, 2.0]]) == 1
    assert pareto.knee([[0.0, 2.0], [30.0, 1.0]]) == 0
