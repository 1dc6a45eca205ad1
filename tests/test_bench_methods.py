"""The benchmark's loop, and every method in it: ours and the rivals."""

from __future__ import annotations

import gc
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import methods
from bench.driving import drive
from bench.methods import METHODS, OURS, RIVALS
from bench.ours import Own
from bench.tables import BENCHMARKS, Table
from nas import searchers
from nas.searchers import RandomSearch
from nas.searchers.acquisitions import ACQUISITIONS
from tests.benches import write_tables

ALIKE = tuple(f"BayesianOptimization-{name}" for name in ACQUISITIONS if name not in ("ucb", "log_ei"))
"""Acquisitions that differ in a setting only: each has tests of its own, two of them are driven here."""

DRIVEN = {name: method for name, method in METHODS.items() if not name.startswith(ALIKE)}
SEVERAL = [name for name, method in DRIVEN.items() if method.several is not False]
SINGLE = [name for name, method in DRIVEN.items() if not method.several and not method.needs_cost]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def tables(data: Path) -> dict[str, Table]:
    return {name: Table(benchmark, data) for name, benchmark in BENCHMARKS.items()}


class Script:
    """Proposes given codes; `work`: seconds of CPU for each ask and each tell."""

    def __init__(self, codes: list[str], work: float = 0.0) -> None:
        self.codes, self.work = codes, work
        self.told: list[tuple[str, list[float]]] = []

    def ask(self) -> str | None:
        busy(self.work)
        return self.codes[len(self.told)] if len(self.told) < len(self.codes) else None

    def code(self, candidate: str) -> str:
        busy(0.05 if self.work else 0)  # on the table's account
        return candidate

    def tell(self, candidate: str, losses: NDArray[np.float64]) -> None:
        busy(self.work)
        self.told.append((candidate, losses.tolist()))


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


# --- the loop ----------------------------------------------------------------------------------------


def test_repeats_cost_nothing_and_have_their_first_value(tables: dict[str, Table]) -> None:
    table, one, written_otherwise = tables["macro"], "22222201", "22222210"
    script = Script([one, one, written_otherwise, "22222222", "11111111"])
    run = drive(script, table, budget=2)
    assert [table.codes[i] for i in run.rows] == [one, "22222222"]
    assert [code for code, _ in script.told] == [one, one, written_otherwise, "22222222"]
    assert all(losses == list(table.rows[one].values()) for _, losses in script.told[:3])
    assert len(run.seconds) == 2


def test_written_forms_differ_on_nasbench201(tables: dict[str, Table]) -> None:
    no_path = ["000000", "100000"]
    assert len(drive(Script(no_path), tables["nasbench201-params"], budget=2).rows) == 2


def test_a_method_that_ends_or_stalls_ends_early(tables: dict[str, Table]) -> None:
    table, code = tables["macro"], "22222222"
    assert len(drive(Script([code]), table, budget=5).rows) == 1
    stalled = Script([code, "11111111", *[code] * 20])
    assert len(drive(stalled, table, budget=5, stall=7).rows) == 2
    assert len(stalled.told) == 2 + 7


def test_own_time_is_that_of_ask_and_tell(tables: dict[str, Table]) -> None:
    """A repeat counts for the next new candidate; naming the code is the table's business."""
    run = drive(Script(["22222222", "22222222", "11111111"], work=0.02), tables["macro"], budget=2)
    assert 0.04 <= run.seconds[0] < 0.06 + 0.04
    assert 0.08 <= run.seconds[1] < 0.08 + 0.04


def test_the_garbage_collector_sees_all_again_when_a_run_ends(tables: dict[str, Table]) -> None:
    frozen = gc.get_freeze_count()
    with pytest.raises(KeyError):
        drive(Script(["no code"]), tables["macro"], budget=2)
    drive(Script(["22222222"]), tables["macro"], budget=1)
    assert gc.get_freeze_count() == frozen == 0


# --- all methods -------------------------------------------------------------------------------------


def run_twice(name: str, table: Table, budget: int) -> None:
    """Different candidates, and the same ones from the same seed."""
    method = METHODS[name]
    if missing := method.missing():
        pytest.skip(f"{name} needs {missing}, which is in the extra `rivals`")
    runs = [drive(method.start(table, 3), table, budget, method.stall) for _ in range(2)]
    keys = [table.keys[table.codes[row]] for row in runs[0].rows]
    assert len(set(keys)) == len(keys) == budget
    assert runs[0].rows == runs[1].rows
    assert all(seconds >= 0 for seconds in runs[0].seconds) and sum(runs[0].seconds) > 0


def few(name: str) -> int:
    """Less of what takes its time."""
    return 13 if METHODS[name].cap or name.startswith(("Auto", "nas_bowl", "Bayesian")) else 45


@pytest.mark.parametrize("name", SEVERAL)
def test_two_objectives(name: str, tables: dict[str, Table]) -> None:
    run_twice(name, tables["macro"], few(name))


@pytest.mark.parametrize("name", SINGLE)
def test_one_objective(name: str, tables: dict[str, Table]) -> None:
    run_twice(name, tables["nasbench201-c10"], few(name))


@pytest.mark.parametrize("name", [name for name in SEVERAL if not METHODS[name].slow])
def test_four_objectives(name: str, tables: dict[str, Table]) -> None:
    run_twice(name, tables["nasbench201-4"], few(name))


def test_where_methods_make_sense(tables: dict[str, Table]) -> None:
    def fitting(table: str) -> set[str]:
        return {name for name, method in DRIVEN.items() if method.fits(tables[table])}

    assert fitting("macro") == set(SEVERAL)
    assert fitting("nasbench201-c100") == fitting("macro-error") == set(SINGLE)
    assert {"pymoo-MOEAD", "LocalSearch, cost known"} <= fitting("macro") - fitting("macro-error")
    assert "BoTorch-qLogNEI" in fitting("macro-error") - fitting("macro")
    single = METHODS["BayesianOptimization-knowledge_gradient"]
    assert single.fits(tables["macro-error"]) and not single.fits(tables["macro"])
    assert METHODS["BayesianOptimization-parego"].fits(tables["macro"])


def test_all_searchers_are_there() -> None:
    compared = {type(method.start.keywords["searcher"]).__name__ for method in OURS.values()}  # type: ignore[attr-defined]
    settings = {name for name in searchers.__all__ if not isinstance(getattr(searchers, name), type)}
    assert compared == set(searchers.__all__) - settings
    assert settings <= set(OURS)


def test_twins_are_rivals() -> None:
    twins = {name: method.twins for name, method in OURS.items() if method.twins}
    assert set(twins) == {"NSGA2", "SMSEMOA", "NSGA3", "MOEAD"}
    assert {twin for names in twins.values() for twin in names} == {
        n for n in RIVALS if n.startswith("pymoo-")
    }


def test_slow_methods_have_a_cap() -> None:
    assert {name for name, method in METHODS.items() if method.slow} == {
        name
        for name in METHODS
        if name.startswith(("BoTorch", "Optuna-GP", "NAO"))
        or name.removesuffix(", cost known").removeprefix("BayesianOptimization-") in ACQUISITIONS
    }
    assert all(method.cap for method in METHODS.values() if method.slow)


def test_a_known_cost_is_seen_and_not_told(tables: dict[str, Table]) -> None:
    """On a table of latencies it is looked up; without `cost_known` nothing is exact."""
    table = tables["nasbench201-pixel3"]
    own = Own(table, 0, RandomSearch(), cost_known=True)
    candidate = own.ask()
    assert candidate is not None
    code = own.code(candidate)
    context = own._study._search.context
    assert context.exact(candidate.architecture) == {"pixel3": table.rows[code]["pixel3"]}
    own.tell(candidate, np.array([1.0, -5.0]))  # the error is told, the latency is not
    assert own._study.trials[0].values == {"error": 1.0, "pixel3": table.rows[code]["pixel3"]}
    blind = Own(table, 0, RandomSearch(), cost_known=False)
    assert blind._study._search.context.exact(candidate.architecture) == {}


def test_an_absent_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "find_spec", lambda name: None if name == "botorch" else find_spec(name))
    assert METHODS["BoTorch-qLogNEHVI"].missing() == "botorch"
    assert METHODS["Optuna-GP"].missing() == METHODS["NSGA2"].missing() == ""
