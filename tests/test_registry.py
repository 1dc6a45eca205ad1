"""Names to classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.protocols import Objective
from nas.registry import UnknownName, load, make, names
from nas.searchers import NSGA2, RandomSearch


def test_short_names_and_module_paths_give_the_same_class() -> None:
    assert load("searcher", "nsga2") is load("searcher", "nas.searchers:NSGA2") is NSGA2
    assert {"local_search", "nsga2", "random", "regularized_evolution"} <= set(names("searcher"))
    assert {"chain", "nasbench_macro"} <= set(names("space"))
    assert {"error", "params", "macs", "flops", "latency_ms"} <= set(names("objective"))


def test_made_with_options() -> None:
    assert make("searcher", "nsga2", {"population": 7}) == NSGA2(population=7)
    assert make("searcher", "random", {}) == RandomSearch()
    objective = make("objective", "params", {"limit": 1e6})
    assert isinstance(objective, Objective)
    assert objective.limit_text() == "params <= 1000000"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nsg2", "the searcher must be one of .* nsga2, .* but got 'nsg2'; did you mean 'nsga2'?"),
        ("zzz", "the searcher must be one of .* but got 'zzz'$"),
        ("no_such_module:Class", "'no_such_module' must be importable .* but ModuleNotFoundError"),
        (":NSGA2", "searcher ':NSGA2': module '' must be importable"),
        (".searchers:NSGA2", "must be importable"),
        ("nas.searchers:NSGA5", "module 'nas.searchers' has no 'NSGA5'; did you mean 'NSGA.'?"),
        ("nas.searchers:", "module 'nas.searchers' has no ''"),
    ],
)
def test_an_unknown_name_says_what_there_is(name: str, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        load("searcher", name)


def test_a_module_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_module_a.py").write_text("1 / 0")
    (tmp_path / "broken_module_b.py").write_text("def")
    with pytest.raises(UnknownName, match=r"'broken_module_a' must be importable .* ZeroDivisionError"):
        load("space", "broken_module_a:Space")
    with pytest.raises(UnknownName, match=r"'broken_module_b' must be importable .* SyntaxError"):
        load("space", "broken_module_b:Space")


def test_a_class_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_module.py").write_text(
        "class Own:\n    def __init__(self, **options):\n        self.options = options\n"
        "    init = ask = proposed = told = None\n"
        "class Half:\n    init = ask = None\n"
    )
    assert make("searcher", "own_module:Own", {"any": 1}).options == {"any": 1}
    with pytest.raises(UnknownName, match="but Half lacks proposed, told"):
        make("searcher", "own_module:Half", {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"popluation": 3},
            "'nsga2' has no option 'popluation', it must be one of population.*'population'?",
        ),
        (
            {"zzz": 3},
            "has no option 'zzz', it must be one of population, offspring, crossover, mutation, tournament$",
        ),
        ({"population": 0}, "`1 <= population`"),
        ({"population": "many"}, "'nsga2': `population` must be a whole number, but got 'many'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        make("searcher", "nsga2", options)
