"""Which trials a user means, and what is said when there are none."""

from __future__ import annotations

from typing import Any

import pytest

from nas.architecture import Architecture, Graph, Node
from nas.protocols import Objective
from nas.selection import SelectionError, preferences, select
from nas.trial import Failure, Proposal, Result, Trial

OBJECTIVES = (Objective("error"), Objective("latency_ms"), Objective("accuracy", maximize=True))
ARCH = Architecture("toy", (("net", Graph((Node(0, "input"),))),))
VALUES = [(9, 1.0, 91), (3, 1.2, 97), (1, 6.0, 99), (50, 7.0, 50)]
TRIALS = [
    *(
        Trial(i, Proposal(ARCH), Result({"error": error, "latency_ms": latency, "accuracy": accuracy}))
        for i, (error, latency, accuracy) in enumerate(VALUES)
    ),
    Trial(4, Proposal(ARCH), Failure("nan", "diverged")),
    Trial(5, Proposal(ARCH)),
]
FRONT = TRIALS[:3]


@pytest.mark.parametrize(
    ("choice", "ids"),
    [
        ({}, [0, 1, 2]),
        ({"ids": None, "where": ()}, [0, 1, 2]),
        ({"ids": []}, [0, 1, 2]),
        ({"knee": True}, [1]),
        ({"knee": True, "where": ["error < 3"]}, [2]),
        ({"ids": [3, 0, 3]}, [3, 0]),
        ({"prefer": {}}, [1]),
        ({"prefer": {"error": 9, "accuracy": 9}}, [2]),
        ({"prefer": {"latency_ms": 30}}, [0]),
        ({"prefer": {"latency_ms": 3}, "where": ["error < 3"]}, [2]),
        ({"where": ["latency_ms<2"]}, [0, 1]),
        ({"where": ["latency_ms < 1.2"]}, [0]),
        ({"where": [" latency_ms<=1.2 "]}, [0, 1]),
        ({"where": ["error>3"]}, [0]),
        ({"where": ["error >= 3"]}, [0, 1]),
        ({"where": ["error==1e0"]}, [2]),
        ({"where": ["error >= 3", "accuracy>91"]}, [1]),
    ],
)
def test_select(choice: dict[str, Any], ids: list[int]):
    assert [trial.id for trial in select(TRIALS, FRONT, OBJECTIVES, **choice)] == ids


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        (
            {"ids": [0, 4, 5, 99]},
            r"\(0 to 5\), but 4 failed \(nan: diverged\), 5 has no outcome yet, 99",
        ),
        ({"ids": [1], "knee": True}, "one of ids, knee and preferences must be given"),
        ({"ids": [1], "where": ["error<3"]}, "one of ids, knee and preferences must be given"),
        ({"prefer": {"error": 1}, "knee": True}, "one of ids, knee and preferences must be given"),
        ({"prefer": {"eror": 1}}, "a preference must name one of .* 'eror'; did you mean 'error'"),
        ({"prefer": {"error": 0}}, "a preference must be a number > 0, but got error = 0"),
        ({"where": ["latency < 2"]}, "but got 'latency'; did you mean 'latency_ms'"),
        (
            {"where": ["error < 1"]},
            "error < 1 must hold for a member of the front, but it has error from 1",
        ),
        ({"where": ["error<2", "latency_ms<2"]}, "error from 1 to 9, latency_ms from 1 to 6"),
        *(
            ({"where": [text]}, 'must look like "error < 2"')
            for text in ("error", "error = 5", "error =< 5", "error < nan", "error < x", "1 < error < 5", "")
        ),
    ],
)
def test_select_says_what_is_wrong(choice: dict[str, Any], says: str):
    with pytest.raises(SelectionError, match=says):
        select(TRIALS, FRONT, OBJECTIVES, **choice)


@pytest.mark.parametrize("choice", [{}, {"knee": True}, {"where": ["error<5"]}])
def test_an_empty_front_selects_nothing(choice: dict[str, Any]):
    with pytest.raises(SelectionError, match="the front must have a member"):
        select(TRIALS, [], OBJECTIVES, **choice)


def test_preferences_are_read() -> None:
    assert preferences("error=2, latency_ms = .5") == {"error": 2.0, "latency_ms": 0.5}


@pytest.mark.parametrize("text", ["", "error", "error=", "=2", "error=two", "error=nan", "error=1,,"])
def test_preferences_that_cannot_be_read(text: str) -> None:
    with pytest.raises(SelectionError, match='preferences must look like "error=2,latency_ms=1"'):
        preferences(text)
