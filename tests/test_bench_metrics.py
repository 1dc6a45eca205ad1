"""The benchmark's metrics: closed forms, slow references, and what is known of the real tables."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.metrics import METRICS, Judge, main_metric
from bench.tables import BENCHMARKS, Table

Floats = NDArray[np.float64]
SIDE = 4


def table_of(rows: int, objectives: int, seed: int) -> Floats:
    """Whole numbers in 0 … SIDE, both of which are there; an odd number of rows has a whole median."""
    rng = np.random.default_rng(seed)
    losses = rng.integers(0, SIDE + 1, (rows, objectives)).astype(float)
    losses[0], losses[1] = SIDE, 0
    losses[1, -1] = SIDE  # not better than all others
    losses[2, -1] = 0
    return losses


def slow_volume(points: Floats, bound: list[int]) -> int:
    """Unit cells between the points and the bound."""
    cells = product(*(range(high) for high in bound))
    return sum(any((point <= cell).all() for point in points) for cell in cells)


def slow_front(losses: Floats) -> set[tuple[float, ...]]:
    points = {tuple(point) for point in losses.tolist()}
    return {
        p
        for p in points
        if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in points)
    }


def test_closed_form() -> None:
    """(.5, .5) alone has a volume: 1/4; with the error cut at its median .75 it is 1/3 x 1/2."""
    losses = np.array([[0, 100], [5, 50], [10, 0], [10, 100.0]])
    judge = Judge(losses)
    assert judge.volume == pytest.approx(1 / 4)
    assert judge.front.tolist() == [[0, 100], [5, 50], [10, 0]]
    assert judge.of([1]) == pytest.approx({"gap": 0, "gap_cut": 0, "front_found": 1 / 3, "regret": 5})
    assert judge.of([0, 3]) == pytest.approx(
        {"gap": 1000, "gap_cut": 1000, "front_found": 1 / 3, "regret": 0}
    )


def test_closed_form_of_the_cut() -> None:
    """Two steps, (0, 1/2) and (1, 0) x 1/4: the second is beyond the median, so the first is all there is."""
    losses = np.array([[0, 2], [1, 1], [3, 1], [4, 0], [4, 4], [3, 4], [3, 3.0]])
    judge = Judge(losses)  # the median of the error is 3
    whole = (1 * 2 + 3 * 3) / 16  # columns of the steps (0, 2) and (1, 1) below 4
    assert judge.volume == pytest.approx(whole)
    assert judge.of([0])["gap"] == pytest.approx(1000 * (1 - (4 * 2 / 16) / whole))
    cut_whole, cut_found = (1 * 2 + 2 * 3) / 12, 3 * 2 / 12
    assert judge.of([0])["gap_cut"] == pytest.approx(1000 * (1 - cut_found / cut_whole))
    assert judge.of([3, 4])["gap_cut"] == pytest.approx(1000)


@pytest.mark.parametrize(("objectives", "seed"), [(m, s) for m in (1, 2, 3, 4) for s in range(5)])
def test_slow_reference(objectives: int, seed: int) -> None:
    losses = table_of(41, objectives, seed)
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(losses), 6, replace=False).tolist()
    found = losses[rows]
    got = Judge(losses).of(rows)
    assert set(got) == set(METRICS)

    bound = [SIDE] * objectives
    ratio = slow_volume(found, bound) / slow_volume(losses, bound)
    assert got["gap"] == pytest.approx(1000 * (1 - ratio))
    bound[0] = int(sorted(losses[:, 0].tolist())[20])
    ratio = slow_volume(found, bound) / slow_volume(losses, bound)
    assert got["gap_cut"] == pytest.approx(1000 * (1 - ratio))
    front = slow_front(losses)
    assert got["front_found"] == pytest.approx(len(front & {tuple(p) for p in found.tolist()}) / len(front))
    assert got["regret"] == min(found[:, 0]) - min(losses[:, 0])


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_all_rows_leave_nothing(objectives: int) -> None:
    losses = table_of(41, objectives, 7)
    nothing = {"gap": 0, "gap_cut": 0, "front_found": 1, "regret": 0}
    assert Judge(losses).of(range(41)) == pytest.approx(nothing, abs=1e-9)


def test_a_table_of_one_value() -> None:
    assert Judge(np.ones((3, 2))).of([0]) == {"gap": 0, "gap_cut": 0, "front_found": 1, "regret": 0}


def test_what_a_table_is_judged_by() -> None:
    assert [main_metric(m) for m in (1, 2, 4)] == ["regret", "gap", "gap"]


# --- the real tables ---------------------------------------------------------------------------------


def real(name: str, nas_data: Path) -> Table:
    return Table(BENCHMARKS[name], nas_data)


def test_true_front_of_nasbench_macro(nas_data: Path) -> None:
    table = real("macro", nas_data)
    assert (len(table.codes), len(set(table.keys.values()))) == (6561, 3969)
    assert table.judge.volume == pytest.approx(0.9027748308883067, abs=1e-15)
    assert len(table.judge.front) == 35
    points = {tuple(point) for point in table.judge.front.tolist()}
    assert sum(tuple(row) in points for row in table.losses.tolist()) == 66


@pytest.mark.parametrize(("name", "columns", "points"), [
    ("nasbench201-params", [0, 1], 14), ("nasbench201-4", [0, 3], 43),
])  # fmt: skip
def test_true_fronts_of_nasbench201(name: str, columns: list[int], points: int, nas_data: Path) -> None:
    """CIFAR-10 accuracy with parameters, and with the latency of a Raspberry Pi 4."""
    table = real(name, nas_data)
    assert [table.objectives[i] for i in columns] in (["error", "params_c10"], ["error", "raspi4"])
    assert len(Judge(table.losses[:, columns]).front) == points


@pytest.mark.parametrize(("name", "code", "accuracy"), [
    ("nasbench201-c10", "333132", 94.3733), ("nasbench201-c100", "333133", 73.5133),
    ("macro-error", "22212220", 93.126663),
])  # fmt: skip
def test_best_of_one_objective(name: str, code: str, accuracy: float, nas_data: Path) -> None:
    table = real(name, nas_data)
    assert table.objectives == ("error",)
    assert table.losses.min() == table.losses[table.index(code), 0] == pytest.approx(100 - accuracy, abs=1e-4)
    assert table.judge.of([table.index(code)])["regret"] == 0


@pytest.mark.parametrize("name", BENCHMARKS)
def test_known_costs_agree_with_the_table(name: str, nas_data: Path) -> None:
    table = real(name, nas_data)
    assert set(table.exact) == set(table.objectives) - {"error"}
    for code in table.codes[::997]:
        arch = table.space.decode(code)
        for objective, value in table.exact.items():
            assert value(arch, table.space) == table.rows[code][objective]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_rows_that_are_one_candidate_have_the_same_losses(name: str, nas_data: Path) -> None:
    table = real(name, nas_data)
    if table.benchmark.identity == "written":
        assert len(set(table.keys.values())) == len(table.codes) == 15_625
    else:
        rows = {(table.keys[code], *table.losses[table.index(code)].tolist()) for code in table.codes}
        assert len(rows) == len(set(table.keys.values()))
