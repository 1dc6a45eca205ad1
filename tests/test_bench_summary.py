"""What the benchmark makes of its rows, on rows made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench.record import Row
from bench.summary import Mean, Means, lines, means, verdict, write_plot


def row(method: str, seed: int, budget: int, gap: float, **other: float) -> Row:
    values = {
        "evaluated": budget,
        "gap_cut": 0.0,
        "front_found": 0.5,
        "regret": 1.0,
        "since": 0,
        "cpu_ms": 2.0,
    }
    return Row("t-1", method, seed, budget, gap=gap, **{**values, **other})  # type: ignore[arg-type]


def at_100(**gaps: tuple[float, float]) -> Means:
    """Method -> (mean, standard error) at 100 evaluations; "_" in a name stands for "-"."""
    return {name.replace("_", "-"): {100: Mean(*gap)} for name, gap in gaps.items()}


# --- means -------------------------------------------------------------------------------------------


def test_mean_and_standard_error() -> None:
    """Of 1, 2, 3: 2 and 1 / sqrt(3)."""
    rows = [row("NSGA2", seed, 50, gap) for seed, gap in enumerate([1, 2, 3])] + [row("NSGA3", 0, 50, 4)]
    found = means(rows, "gap")
    assert found["NSGA2"][50] == pytest.approx((2, 1 / math.sqrt(3)))
    assert found["NSGA3"][50].value == 4
    assert math.isnan(found["NSGA3"][50].error)


def test_missing_values_are_left_out() -> None:
    rows = [row("NSGA2", 0, 50, 1, cpu_ms=math.nan), row("NSGA2", 1, 50, 1, cpu_ms=3.0)]
    assert means(rows, "cpu_ms")["NSGA2"][50].value == 3


def test_what_is_printed() -> None:
    rows = [row("NSGA2", seed, 50, 40 + seed, since=25, cpu_ms=0.25) for seed in (0, 1)]
    rows += [row("NSGA2", seed, 100, 20 + seed, since=50, cpu_ms=0.5) for seed in (0, 1)]
    rows += [row("a method of a long name indeed", 0, 50, 7, evaluated=30)]
    printed = list(lines(rows, "gap"))
    assert printed[0].endswith("over 2 seeds")
    assert printed[2].split() == ["NSGA2", "40.50", "±", "0.50", "20.50", "±", "0.50"]
    assert printed[3].split()[-4:] == ["7.00", "±", "nan", "-"]
    assert printed[6].split() == ["from-to", "0-50", "25-50", "50-100"]
    assert printed[7].split() == ["NSGA2", "-", "0.25", "0.50"]
    assert printed[8].split()[-3:] == ["2.00", "-", "-"]
    assert printed[9:] == [
        "a method of a long name indeed ended early, on average after 30 of 50",
        "a method of a long name indeed has 1 of 2 seeds",
    ]


def test_the_plot_is_one_self_contained_file(tmp_path: Path) -> None:
    found = means([row("NSGA2", seed, b, 10 + seed) for seed in (0, 1) for b in (50, 100)], "gap")
    for metric in ("gap", "front_found"):
        write_plot(found, "title", metric, tmp_path / "plot.html")
        page = (tmp_path / "plot.html").read_text()
        assert "NSGA2" in page and "title" in page and "error_y" in page
        assert 'src="http' not in page


# --- verdict -----------------------------------------------------------------------------------------


def test_all_is_well() -> None:
    found = at_100(NSGA2=(10, 1), RandomSearch=(50, 1), pymoo_NSGA2_point=(12, 1), pymoo_NSGA2_SBX=(9, 1),
                   pymoo_NSGA2_defaults=(20, 1))  # fmt: skip
    assert list(verdict(found)) == [
        "at 100: none of ours is behind random; none of ours is behind the same algorithm of a rival"
    ]


def test_behind_random() -> None:
    """By any amount; a rival may be."""
    found = at_100(
        NSGA2=(53, 3), LocalSearch=(50, 1), LEMONADE=(49, 4), RandomSearch=(50, 4), Optuna_TPE=(70, 1)
    )
    said = list(verdict(found))
    assert said[0] == "at 100: behind random: NSGA2 by 3 ± 5"
    assert said[1:] == [
        "not compared: NSGA2 with pymoo-NSGA2-point, pymoo-NSGA2-SBX, pymoo-NSGA2-defaults, not run"
    ]


def test_below_100_random_is_nobodys_measure() -> None:
    found = {"NSGA2": {50: Mean(60, 1)}, "RandomSearch": {50: Mean(50, 1)}}
    assert not any("random" in line for line in verdict(found))


@pytest.mark.parametrize(("gap", "behind"), [(19.9, False), (20.1, True)])
def test_behind_a_twin_by_two_standard_errors(gap: float, behind: bool) -> None:
    """The best setting counts; sqrt(3² + 4²) = 5."""
    found = at_100(NSGA2=(gap, 3), pymoo_NSGA2_point=(10, 4), pymoo_NSGA2_SBX=(15, 0.1), RandomSearch=(50, 1),
                   pymoo_NSGA2_defaults=(16, 0.1), SMSEMOA=(1, 1), pymoo_SMSEMOA=(9, 1))  # fmt: skip
    [said] = verdict(found)
    if behind:
        assert said.endswith("; behind the same algorithm of a rival: NSGA2 by 10.1 ± 5 (pymoo-NSGA2-point)")
    else:
        assert said.endswith("; none of ours is behind the same algorithm of a rival")


@pytest.mark.parametrize(("name", "twin"), [("SMSEMOA", "pymoo-SMSEMOA"), ("NSGA3", "pymoo-NSGA3"),
                                            ("MOEAD", "pymoo-MOEAD")])  # fmt: skip
def test_each_pair(name: str, twin: str) -> None:
    found = {name: {50: Mean(9, 0.3)}, twin: {50: Mean(8, 0.3)}}
    assert f"at 50: behind the same algorithm of a rival: {name} by 1 ± 0.42 ({twin})" in verdict(found)


def test_more_may_be_better() -> None:
    found = at_100(LocalSearch=(0.4, 0.1), RandomSearch=(0.5, 0.1))
    assert next(verdict(found, sign=-1)) == "at 100: behind random: LocalSearch by 0.1 ± 0.14"
    assert next(verdict(found, sign=1)) == "at 100: none of ours is behind random"


def test_what_was_not_run_is_said() -> None:
    found = at_100(MOEAD=(10, 1))
    assert list(verdict(found)) == [
        "not compared with random: RandomSearch was not run",
        "not compared: MOEAD with pymoo-MOEAD, not run",
    ]


def test_one_seed_is_no_verdict() -> None:
    found = at_100(NSGA2=(10, math.nan), RandomSearch=(5, math.nan))
    assert list(verdict(found)) == ["no verdict: standard errors need two seeds at least"]
