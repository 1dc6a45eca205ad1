"""Trials, and their way through JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.architecture import Architecture, Graph, Node, Scalar
from nas.trial import (
    Failure,
    Outcome,
    Proposal,
    Result,
    Trial,
    outcome_from_dict,
    outcome_to_dict,
    proposal_from_dict,
    proposal_to_dict,
)

ARCH = Architecture(
    "toy", (("net", Graph((Node(0, "input"), Node(3, "conv", (0,), (("k", 3),))))),), (("w", 1.0),)
)
NAMES = st.text("abkn_", min_size=1, max_size=5) | st.just("kind")
FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.dictionaries(NAMES, FINITE, max_size=3)
SCALARS: st.SearchStrategy[Scalar] = st.booleans() | st.integers() | FINITE | st.text(max_size=5)
SCALAR_TABLE = st.dictionaries(NAMES, SCALARS, max_size=3)

PROPOSALS = st.builds(
    Proposal,
    st.just(ARCH),
    st.lists(st.integers(0, 99), max_size=3).map(tuple),
    st.text(max_size=8),
    st.none() | st.integers(1, 100),
    SCALAR_TABLE,
)
RESULTS = st.builds(
    Result,
    VALUES,
    st.dictionaries(NAMES, VALUES, max_size=2),
    SCALAR_TABLE,
    st.lists(VALUES, max_size=3).map(tuple),
    VALUES,
    st.none() | st.text(max_size=8),
    st.none() | st.text("0123456789abcdef", max_size=8),
)
FAILURES = st.builds(
    Failure,
    st.sampled_from(["infeasible", "oom", "nan", "timeout", "crash", "lost"]),
    st.text(max_size=20),
    VALUES,
)


@given(PROPOSALS)
def test_a_proposal_survives_json(proposal: Proposal) -> None:
    again = proposal_from_dict(json.loads(json.dumps(proposal_to_dict(proposal))))
    assert again == proposal
    assert again.architecture.key == proposal.architecture.key
    assert repr(dict(again.hints)) == repr(dict(proposal.hints))


@given(RESULTS | FAILURES)
def test_an_outcome_survives_json(outcome: Outcome) -> None:
    again = outcome_from_dict(json.loads(json.dumps(outcome_to_dict(outcome), allow_nan=False)))
    assert again == outcome
    assert type(again) is type(outcome)


def test_a_failure_has_one_of_six_kinds() -> None:
    with pytest.raises(ValueError, match=r"must be one of \('infeasible', .* but got 'oops'"):
        Failure("oops")  # type: ignore[arg-type]


def test_what_a_trial_knows() -> None:
    proposal = Proposal(ARCH)
    result, failure = Result({"error": 4.0, "params": 10.0}), Failure("oom", "too big", {"params": 10.0})
    waiting, done, failed = (Trial(2, proposal, outcome) for outcome in (None, result, failure))
    assert (waiting.ok, done.ok, failed.ok) == (False, True, False)
    assert waiting.values == {}
    assert done.values == {"error": 4.0, "params": 10.0}
    assert failed.values == {"params": 10.0}
    assert done.architecture is ARCH
