"""What every searcher promises, driven through `nas.search.Search` on a table-like space."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from nas.protocols import Exhausted, Objective, Wait
from nas.searchers import RandomSearch
from nas.trial import Failure, Proposal, Trial
from tests.searching import (
    MACRO,
    OBJECTIVES,
    PARAMS,
    SEARCHERS,
    Evaluate,
    make,
    measured,
    proposals,
    run,
    small_chain,
    tell,
)

every_searcher = pytest.mark.parametrize("searcher", SEARCHERS.values(), ids=SEARCHERS)


@every_searcher
@pytest.mark.parametrize("objectives", [1, 2, 4])
@pytest.mark.parametrize("in_flight", [1, 5])
def test_no_network_twice_and_the_same_again(searcher: Any, objectives: int, in_flight: int) -> None:
    searches = [make(searcher, OBJECTIVES[objectives], in_flight=in_flight) for _ in range(2)]
    for search in searches:
        assert run(search, 60) is None
        keys = [MACRO.canonical(trial.architecture).key for trial in search.trials]
        assert len(set(keys)) == 60
        for trial in search.trials:
            MACRO.check(trial.architecture)
            assert all(parent < trial.id for parent in trial.proposal.parents)
    assert proposals(searches[0]) == proposals(searches[1])
    other = make(searcher, seed=1)
    run(other, 60)
    assert proposals(other) != proposals(searches[0])


@every_searcher
def test_written_identity_keeps_twins(searcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.searchers.novelty.SAMPLES", 300)
    space = small_chain(searcher, 3, "identity", 16)
    error = (Objective("depth", exact=lambda a, s: len(a.graph())),)
    written = make(searcher, error, space, identity="written")
    assert run(written, 99) is not None
    assert len(written.trials) == 3
    network = make(searcher, error, space)
    assert run(network, 99) is not None
    assert len(network.trials) == 1


@every_searcher
def test_limits_are_met_by_all_that_is_proposed(searcher: Any) -> None:
    objectives = (
        Objective("error", limit=90.0),
        Objective("params", limit=700_000, exact=lambda a, s: s.cost(a).params),
        Objective("macs", maximize=True, limit=2e7, exact=lambda a, s: s.cost(a).macs),
    )
    search = make(searcher, objectives)
    assert run(search, 40) is None
    for trial in search.trials:
        cost = MACRO.cost(trial.architecture)
        assert cost.params <= 700_000
        assert cost.macs >= 2e7
        assert search.infeasible(trial.proposal) is None


@every_searcher
def test_an_impossible_limit_says_so(searcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.searchers.novelty.SAMPLES", 30)
    monkeypatch.setattr("nas.searchers.novelty.WALKED", 20)
    said = make(searcher, (Objective("params", limit=10, exact=PARAMS.exact),)).ask()
    assert isinstance(said, Exhausted)
    assert said.reason.startswith(
        "no architecture meets params <= 10: of 49 looked at the closest had params = "
    )
    search = make(searcher, (Objective("error", limit=-5.0), PARAMS))  # known after training only
    assert run(search, 40) is None


def test_a_limit_that_random_networks_never_meet_is_met_by_walking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 6,561 networks one has fewest params."""
    monkeypatch.setattr("nas.searchers.novelty.SAMPLES", 5)
    least = MACRO.cost(MACRO.decode("00000000")).params
    search = make(RandomSearch(), (Objective("params", limit=least, exact=PARAMS.exact),))
    said = run(search, 10)
    assert [MACRO.cost(trial.architecture).params for trial in search.trials] == [least]
    assert search.trials[0].proposal.origin == "walk"
    assert isinstance(said, Exhausted)
    assert said.reason.startswith(f"no new architecture meets params <= {least}: of ")


@every_searcher
@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("limit", [None, 3])
def test_a_small_space_is_used_up_and_every_member_was_proposed(
    searcher: Any, in_flight: int, limit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where few random draws are made: the rest is walked to."""
    monkeypatch.setattr("nas.searchers.novelty.SAMPLES", 3)
    space = small_chain(searcher, 3, "conv", 8, 12)
    nodes = Objective("nodes", limit=limit, exact=lambda a, s: len(s.canonical(a).graph()))
    search = make(searcher, (nodes, PARAMS), space, in_flight=in_flight)
    said = run(search, 1000)
    assert isinstance(said, Exhausted)
    assert len(search.trials) == (2 + 4 + 8 if limit is None else 2 + 4)
    if limit is None:
        assert said.reason == "the space is used up: all architectures that mutations lead to were proposed"
    else:
        assert said.reason.startswith("no new architecture meets nodes <= 3: of ")
        assert "(all that mutations lead to)" in said.reason


@every_searcher
def test_a_space_of_one_architecture_ends(searcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.searchers.novelty.SAMPLES", 300)
    space = small_chain(searcher, 1, "conv", 8)
    search = make(searcher, (Objective("nodes", exact=lambda a, s: len(a.graph())),), space)
    assert isinstance(run(search, 5), Exhausted)
    assert len(search.trials) == 1


@every_searcher
@pytest.mark.parametrize("kind", ["half fail", "all fail", "nan", "constant", "no limit met", "identical"])
def test_bad_outcomes_do_not_stop_a_search(searcher: Any, kind: str) -> None:
    def evaluate(trial: Trial) -> Mapping[str, float] | Failure:
        if kind == "all fail" or (kind == "half fail" and trial.id % 2 == 0):
            return Failure("crash", "boom")
        value = {"nan": [np.nan, np.inf, -np.inf, 1.0][trial.id % 4], "constant": 1.0}.get(kind)
        if kind == "identical":
            value = measured(trial)["error"]
        return measured(trial) if value is None else {"error": value, "twos": -value}

    limit = -1.0 if kind == "no limit met" else None
    chosen = [OBJECTIVES[i] for i in (1, 2, 3)]
    if kind == "identical":
        chosen = [(Objective("error"), Objective("twos", maximize=True))]
    for objectives in chosen:
        search = make(searcher, (Objective("error", limit=limit), *objectives[1:]), in_flight=3)
        assert run(search, 40, evaluate) is None
        assert len({MACRO.canonical(t.architecture).key for t in search.trials}) == 40
        bad = {"half fail": 2, "nan": 4}.get(kind)
        good = [kind != "all fail" if bad is None else t.id % bad == bad - 1 for t in search.trials]
        assert [t.ok for t in search.trials] == good


@every_searcher
def test_failed_trials_are_seldom_parents(searcher: Any) -> None:
    search = make(searcher, OBJECTIVES[2])
    run(search, 80, lambda trial: Failure("oom") if trial.id % 2 else measured(trial))
    used = [parent for trial in search.trials[30:] for parent in trial.proposal.parents]
    if getattr(searcher, "population", 8) in (1, 2, 100) or isinstance(searcher, RandomSearch):
        return  # so few alive that all may have failed; or all random
    assert used
    assert sum(parent % 2 for parent in used) <= 0.1 * len(used)


@every_searcher
@pytest.mark.parametrize("objectives", [1, 3])
def test_ask_changes_nothing(searcher: Any, objectives: int) -> None:
    search = make(searcher, OBJECTIVES[objectives], in_flight=2)
    while len(search.trials) < 30:
        if isinstance(first := search.ask(), Wait):
            tell(search, search.trials[first.trials[0]])
            continue
        assert isinstance(first, Proposal)
        state = search._state
        names = set(getattr(state, "__slots__", ())) - MEMOISED
        before = {name: copy.copy(getattr(state, name)) for name in names}
        assert search.ask() == first
        for name, part in before.items():
            now = getattr(search._state, name)
            assert now is part or np.all(np.asarray(now == part, dtype=object))
        search.propose(first)


MEMOISED = {"context", "around", "memo", "wording"}
"""Parts of a state that `ask` may fill, since they are functions of the rest."""


# --- in flight -----------------------------------------------------------------------------------------


@every_searcher
@pytest.mark.parametrize("k", [1, 2, 5])
def test_wait_comes_exactly_when_an_outcome_is_needed(searcher: Any, k: int) -> None:
    search = make(searcher, in_flight=k)
    for n in range(k):
        proposal = search.ask()
        assert isinstance(proposal, Proposal)
        assert search.propose(proposal).id == n
    assert search.ask() == Wait((0,))
    if k > 1:
        tell(search, search.trials[k - 1])  # not the one that is needed
        assert search.ask() == Wait((0,))
    tell(search, search.trials[0])
    proposal = search.ask()
    assert isinstance(proposal, Proposal)
    search.propose(proposal)
    if k == 2:  # trial 1 = k - 1 has its outcome
        assert isinstance(search.ask(), Proposal)
    else:
        assert search.ask() == Wait((1,))


@every_searcher
def test_an_ask_sees_outcomes_up_to_n_minus_k_only(searcher: Any) -> None:
    """Other outcomes of later trials, told or open: the same proposal."""
    k = 4
    base = make(searcher, in_flight=k)
    run(base, 40)
    for n in (k, 17, 39):

        def replay(last: Evaluate | None, n: int = n) -> Any:
            search = make(searcher, in_flight=k)
            for trial in base.trials[:n]:
                if trial.id <= n - k:
                    search.restore(trial)
                else:
                    search.restore(Trial(trial.id, trial.proposal))
            if last is not None:
                for trial in search.trials[n - k + 1 :]:
                    tell(search, trial, last)
            return search.ask()

        seen = [
            replay(None),
            replay(measured),
            replay(lambda t: {"error": -1e9, "twos": 9.0}),
            replay(lambda t: Failure("nan")),
        ]
        assert all(proposal == base.trials[n].proposal for proposal in seen)


@every_searcher
def test_the_order_of_telling_does_not_matter(searcher: Any) -> None:
    k = 6
    expected = make(searcher, in_flight=k)
    run(expected, 50)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        search = make(searcher, in_flight=k)
        while len(search.trials) < 50:
            waiting = [trial for trial in search.trials if trial.outcome is None]
            if waiting and rng.random() < 0.5:
                tell(search, waiting[int(rng.integers(len(waiting)))])
            elif isinstance(proposal := search.ask(), Proposal):
                search.propose(proposal)
        assert proposals(search) == proposals(expected)


@every_searcher
@pytest.mark.parametrize("k", [1, 4])
def test_restore_asks_nothing_and_leads_to_the_same_next_proposal(searcher: Any, k: int) -> None:
    base = make(searcher, in_flight=k)
    run(base, 30)
    for n in (0, 1, k, 9, 29):
        search = make(Counting(searcher), in_flight=k)
        for trial in base.trials[:n]:
            search.restore(trial)
        assert search._searcher.asked == 0
        assert search.ask() == base.trials[n].proposal
        assert search._searcher.asked == 1


class Counting:
    """A searcher that counts its asks."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.asked = inner, 0

    def ask(self, state: Any, rng: np.random.Generator) -> Any:
        self.asked += 1
        return self.inner.ask(state, rng)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
