"""LEMONADE: its sampling law against the kernel density, two stages, the population, bad input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nas import pareto
from nas.protocols import Exhausted, Objective, Wait
from nas.search import Search
from nas.searchers.lemonade import LEMONADE, inverse_density
from nas.trial import Failure, Proposal, Trial
from search_spaces.nasbench_macro import NASBenchMacroSpace

MACRO = NASBenchMacroSpace()
ERROR = Objective("error")
FLOPS = Objective("flops", exact=lambda a, s: s.cost(a).flops)
PARAMS = Objective("params", exact=lambda a, s: s.cost(a).params)


def error(trial: Trial) -> dict[str, float]:
    return {"error": 100.0 - sum(i * int(d) for i, d in enumerate(MACRO.code(trial.architecture)))}


def search_of(
    searcher: LEMONADE, objectives: Any = (ERROR, FLOPS), space: Any = MACRO, in_flight: int = 1
) -> Search:
    return Search(space, objectives, searcher, seed=0, in_flight=in_flight, identity="network")


def run(search: Search, trials: int, evaluate: Any = error) -> Exhausted | None:
    while len(search.trials) < trials:
        proposal = search.ask()
        if isinstance(proposal, Exhausted):
            return proposal
        if isinstance(proposal, Wait):
            for i in proposal.trials:
                search.finish(i, search.completed(search.trials[i], evaluate(search.trials[i])))
        else:
            search.propose(proposal)
    return None


# --- the law ------------------------------------------------------------------------------------------


def test_in_one_dimension_the_density_is_scipys() -> None:
    rng = np.random.default_rng(0)
    known, places = rng.normal(5, 3, (25, 1)), rng.normal(5, 3, (40, 1))
    expected = 1 / stats.gaussian_kde(known[:, 0]).evaluate(places[:, 0])
    assert inverse_density(known, places) == pytest.approx(expected / expected.sum(), rel=1e-9)


def test_in_several_dimensions_the_density_is_a_product_in_units_of_the_spread() -> None:
    rng = np.random.default_rng(1)
    known, places = rng.normal(size=(20, 3)) * [1, 1e3, 1e9], rng.normal(size=(30, 3)) * [1, 1e3, 1e9]
    widths = 20 ** (-1 / 7) * known.std(axis=0, ddof=1)
    slow = np.array([sum(np.prod(stats.norm.pdf((p - k) / widths)) for k in known) for p in places])
    assert inverse_density(known, places) == pytest.approx((1 / slow) / (1 / slow).sum(), rel=1e-9)
    scaled = inverse_density(known * [1, 1e-12, 5], places * [1, 1e-12, 5])
    assert scaled == pytest.approx(inverse_density(known, places), rel=1e-6)


def test_degenerate_densities_are_uniform() -> None:
    two = np.full(2, 0.5)
    assert (inverse_density(np.empty((5, 0)), np.empty((2, 0))) == two).all()
    assert (inverse_density(np.ones((5, 2)), np.array([[1.0, 1.0], [7.0, 9.0]])) == two).all()
    assert (inverse_density(np.ones((1, 2)), np.array([[1.0, 1.0], [7.0, 9.0]])) == two).all()
    line = np.c_[np.arange(5.0), np.full(5, 0.1), np.arange(5.0)]  # collinear, one objective constant
    assert inverse_density(line, line)[[0, 4]] == pytest.approx([inverse_density(line, line).max()] * 2)
    far = inverse_density(line, np.array([[2.0, 0.1, 2.0], [1e9, 0.1, 1e9]]))
    assert far.tolist() == [0.0, 1.0]


def front_of_codes(codes: list[str], searcher: LEMONADE) -> Search:
    """A search whose front is `codes`: the error falls where the FLOPs grow."""
    search = search_of(searcher)
    costs = sorted((FLOPS.exact(MACRO.decode(code), MACRO), code) for code in codes)  # type: ignore[misc]
    for place, (_, code) in enumerate(costs):
        trial = search.propose(Proposal(MACRO.decode(code)))
        search.finish(trial.id, search.completed(trial, {"error": 50.0 - place}))
    return search


def asked(search: Search, count: int) -> list[Proposal]:
    search.ask()  # tells what is due
    found = [search._searcher.ask(search._state, np.random.default_rng(seed)) for seed in range(count)]
    assert all(isinstance(proposal, Proposal) for proposal in found)
    return found


CODES = ["00000000", "10000000", "00100000", "01100000", "22222222", "11111111"]


@pytest.mark.parametrize("children", [1, 3])
def test_parents_are_drawn_by_the_inverse_density(children: int) -> None:
    """Chi-square, and Kolmogorov-Smirnov on the parents' FLOPs."""
    search = front_of_codes(CODES, LEMONADE(initial=1, children=children))
    cost = np.array([[FLOPS.exact(t.architecture, MACRO)] for t in search.trials])  # type: ignore[misc]
    expected = 1 / stats.gaussian_kde(cost[:, 0]).evaluate(cost[:, 0])
    expected /= expected.sum()
    found = Counter(proposal.parents[0] for proposal in asked(search, 1500))
    observed = np.array([found[i] for i in range(len(CODES))])
    if children == 1:
        assert stats.chisquare(observed, 1500 * expected).pvalue > 1e-3
        distance = np.abs(observed.cumsum() / 1500 - expected.cumsum()).max()  # FLOPs ascend with the id
        assert distance < 1.95 / 1500**0.5  # K-S at .001; conservative for steps
        assert stats.chisquare(observed).pvalue < 1e-6  # so it is not uniform
    else:  # acceptance looks at the children: the law of the parents changes
        assert stats.chisquare(observed, 1500 * expected).pvalue < 1e-6


def test_children_are_accepted_by_the_inverse_density(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second stage alone: the same children are proposed each time."""
    module = "nas.searchers.lemonade"
    search = front_of_codes(CODES, LEMONADE(initial=1, children=4))
    offered = [
        Proposal(MACRO.decode(code), (0,)) for code in ("20000000", "11100000", "00222222", "22111111")
    ]
    turn = iter(range(10**9))
    monkeypatch.setattr(f"{module}.first_allowed", lambda context, draws: offered[next(turn) % 4])
    search.open_before_next()
    search._tell_until(len(search.trials))
    count = 2000
    found = Counter(
        search._searcher.ask(search._state, np.random.default_rng(seed)).architecture for seed in range(count)
    )
    known = np.array([FLOPS.exact(t.architecture, MACRO) for t in search.trials])  # type: ignore[misc]
    places = np.array([FLOPS.exact(p.architecture, MACRO) for p in offered])  # type: ignore[misc]
    expected = 1 / stats.gaussian_kde(known).evaluate(places)
    observed = [found[p.architecture] for p in offered]
    assert stats.chisquare(observed, count * expected / expected.sum()).pvalue > 1e-3
    assert stats.chisquare(observed).pvalue < 1e-6


def test_without_an_exact_objective_parents_are_uniform() -> None:
    search = search_of(LEMONADE(initial=1, children=50), (ERROR, Objective("other")))
    for place, code in enumerate(CODES):
        trial = search.propose(Proposal(MACRO.decode(code)))
        search.finish(trial.id, search.completed(trial, {"error": -place, "other": place}))
    found = Counter(proposal.parents[0] for proposal in asked(search, 600))
    assert stats.chisquare([found[i] for i in range(6)]).pvalue > 1e-3


# --- the population -----------------------------------------------------------------------------------


def test_the_population_is_the_front_of_all_that_was_told() -> None:
    search = search_of(LEMONADE(initial=5))
    for n in range(6, 60, 6):
        run(search, n)
        told = search.trials[: search._told]
        losses = search.losses(told)
        assert [m.trial.id for m in search._state.population] == pareto.front(losses).tolist()


def test_children_are_mutations_of_the_front_and_lend_the_parents_weights() -> None:
    search = search_of(LEMONADE(initial=5))
    run(search, 6)
    for _ in range(60):
        front = {m.trial.id for m in search._state.population}
        run(search, len(search.trials) + 1)
        trial = search.trials[-1]
        front |= {m.trial.id for m in search._state.population}
        assert trial.proposal.origin == "mutate"
        assert len(trial.proposal.parents) == 1
        assert trial.proposal.parents[0] in front


def test_infeasible_and_failed_trials_leave_once_there_is_better() -> None:
    def evaluate(trial: Trial) -> Mapping[str, float] | Failure:
        return {"error": {0: 9.0, 1: 7.0, 2: np.nan, 3: 4.0}.get(trial.id, 1.0)}

    search = search_of(LEMONADE(initial=6), (Objective("error", limit=5.0), FLOPS))
    fronts = []
    for n in range(2, 7):
        run(search, n, evaluate)
        fronts.append([m.trial.id for m in search._state.population])
    assert fronts[:4] == [[0], [1], [1], [3]]
