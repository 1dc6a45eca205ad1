"""The rules of a search that no searcher has to know."""

from __future__ import annotations

import pytest

from nas.protocols import Objective
from nas.searchers import RandomSearch
from nas.trial import Failure
from tests.searching import MACRO, OBJECTIVES, make


def test_wrong_arguments_and_values_are_refused() -> None:
    error = Objective("error")
    for given, message in (
        ({"objectives": ()}, "objectives with different names"),
        ({"objectives": (error, error)}, "objectives with different names"),
        ({"in_flight": 0}, "`in_flight >= 1`"),
        ({"identity": "graph"}, "identity must be"),
    ):
        with pytest.raises(ValueError, match=message):
            make(RandomSearch(), **given)
    search = make(RandomSearch(), OBJECTIVES[2])
    trial = search.propose(search.ask())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"missing=\['error'\], unknown=\['eror'\]"):
        search.completed(trial, {"eror": 1})
    outcome = search.completed(trial, {"error": 1})
    assert outcome.values == {"error": 1.0, "params": MACRO.cost(trial.architecture).params}
    assert search.completed(trial, {"error": float("nan")}) == Failure(
        "nan", "values must be finite, but got error = nan", {"params": outcome.values["params"]}
    )
    search.finish(0, outcome)
    with pytest.raises(ValueError, match="trial 0 was told before"):
        search.finish(0, outcome)
    with pytest.raises(ValueError, match="trial id must be"):
        search.finish(1, outcome)
