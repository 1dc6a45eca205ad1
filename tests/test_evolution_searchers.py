"""Local search, annealing, large-scale evolution and Genetic CNN's algorithm, through `nas.search.Search`."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nas import pareto
from nas.protocols import Exhausted, Objective, Wait
from nas.search import Search
from nas.searchers.genetic_cnn import GeneticCNN, fitnesses
from nas.searchers.large_scale_evolution import LargeScaleEvolution
from nas.searchers.local_search import LocalSearch, promise
from nas.searchers.members import Member
from nas.searchers.random_search import RandomSearch
from nas.searchers.simulated_annealing import SimulatedAnnealing
from nas.trial import Failure, Proposal, Result, Trial
from search_spaces.chain import ChainSpace
from search_spaces.nasbench_macro import NASBenchMacroSpace

MACRO = NASBenchMacroSpace()
SEARCHERS = {
    "local": LocalSearch(),
    "local, one": LocalSearch(starts=1, draws=1),
    "annealing": SimulatedAnnealing(steps=50),
    "annealing, sum": SimulatedAnnealing(initial=1, scalarization="weighted_sum"),
    "large scale": LargeScaleEvolution(population=8),
    "large scale, two": LargeScaleEvolution(population=2),
    "large scale, population > space": LargeScaleEvolution(population=100),
    "genetic": GeneticCNN(population=8),
    "genetic, odd": GeneticCNN(population=3, crossover=1.0),
    "genetic, nothing changes": GeneticCNN(population=4, crossover=0.0, mutation=0.0),
}
every_searcher = pytest.mark.parametrize("searcher", SEARCHERS.values(), ids=SEARCHERS)

PARAMS = Objective("params", exact=lambda a, s: s.cost(a).params)
OBJECTIVES = {
    1: (Objective("error"),),
    2: (Objective("error"), PARAMS),
    3: (Objective("error"), PARAMS, Objective("twos", maximize=True)),
}
Evaluate = Callable[[Trial], Mapping[str, float] | Failure]


def measured(trial: Trial) -> dict[str, float]:
    """Deterministic, with ties."""
    digits = [int(digit) for digit in MACRO.code(trial.architecture)]
    return {"error": 100.0 - sum(i * d for i, d in enumerate(digits)), "twos": float(digits.count(2))}


def make(searcher: Any, objectives: Any = OBJECTIVES[2], space: Any = MACRO, **options: Any) -> Search:
    return Search(
        space, objectives, searcher, **({"seed": 0, "in_flight": 1, "identity": "network"} | options)
    )


def tell(search: Search, trial: Trial, evaluate: Evaluate = measured) -> None:
    known = all(objective.exact is not None for objective in search.objectives)
    outcome: Any = {} if known else evaluate(trial)
    if not isinstance(outcome, Failure):
        outcome = {o.name: outcome[o.name] for o in search.objectives if o.exact is None}
    search.finish(trial.id, search.completed(trial, outcome))


def run(search: Search, trials: int, evaluate: Evaluate = measured) -> Exhausted | None:
    while len(search.trials) < trials:
        proposal = search.ask()
        if isinstance(proposal, Exhausted):
            return proposal
        if isinstance(proposal, Wait):
            for trial_id in proposal.trials:
                tell(search, search.trials[trial_id], evaluate)
            continue
        search.propose(proposal)
    for trial in list(search.trials):
        if trial.outcome is None:
            tell(search, trial, evaluate)
    return None


# --- what every searcher does ------------------------------------------------------------------------


@every_searcher
@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("in_flight", [1, 5])
def test_nothing_twice_the_same_again_and_replayed(searcher: Any, objectives: int, in_flight: int) -> None:
    search, again, replayed = (make(searcher, OBJECTIVES[objectives], in_flight=in_flight) for _ in range(3))
    assert run(search, 60) is None
    assert len({MACRO.canonical(trial.architecture).key for trial in search.trials}) == 60
    assert all(parent < trial.id for trial in search.trials for parent in trial.proposal.parents)
    run(again, 60)
    assert [t.proposal for t in again.trials] == [t.proposal for t in search.trials]
    for trial in search.trials:  # folds only until trial 40, then the same proposals
        if trial.id >= 40:
            assert replayed.ask() == trial.proposal
        replayed.restore(trial)


@every_searcher
@pytest.mark.parametrize("kind", ["half fail", "all fail", "nan", "constant"])
def test_failures_nan_and_constants_do_not_stop_a_search(searcher: Any, kind: str) -> None:
    def evaluate(trial: Trial) -> Mapping[str, float] | Failure:
        if kind == "all fail" or (kind == "half fail" and trial.id % 2 == 0):
            return Failure("crash", "boom")
        value = {"nan": [np.nan, np.inf, -np.inf, 1.0][trial.id % 4], "constant": 1.0}.get(kind)
        return measured(trial) if value is None else {"error": value, "twos": 2.0}

    for objectives in OBJECTIVES.values():
        search = make(searcher, objectives, in_flight=3)
        assert run(search, 40, evaluate) is None
        assert len({MACRO.canonical(t.architecture).key for t in search.trials}) == 40


@every_searcher
def test_limits_are_met_by_all_that_is_proposed(searcher: Any) -> None:
    objectives = (
        Objective("error", limit=90.0),
        Objective("params", limit=700_000, exact=lambda a, s: s.cost(a).params),
        Objective("macs", maximize=True, limit=2e7, exact=lambda a, s: s.cost(a).macs),
    )
    search = make(searcher, objectives)
    assert run(search, 40) is None
    assert all(search.infeasible(trial.proposal) is None for trial in search.trials)


@every_searcher
def test_a_limit_that_nothing_meets(searcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.searchers.novelty.SAMPLES", 100)
    said = make(searcher, (Objective("params", limit=10, exact=PARAMS.exact),)).ask()
    assert isinstance(said, Exhausted)
    assert said.reason.startswith("no architecture meets params <= 10: of 100 drawn the closest had params")
    search = make(searcher, (Objective("error", limit=-5.0), PARAMS))  # known after training only
    assert run(search, 40) is None


@every_searcher
@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize(("depth", "size"), [(1, 2), (3, 14)])
def test_a_small_space_is_used_up(searcher: Any, in_flight: int, depth: int, size: int) -> None:
    space = ChainSpace(
        (1, 4, 4), depth=(1, depth), ops=("conv",), kernels=(3,), widths=(8, 12), strides=0, skips=False
    )
    nodes = Objective("nodes", exact=lambda a, s: len(a.graph()))
    search = make(searcher, (nodes,), space, in_flight=in_flight)
    said = run(search, 1000)
    assert isinstance(said, Exhausted)
    assert len(search.trials) == size
    assert "the space is all but used up" in said.reason


@every_searcher
def test_ask_changes_nothing(searcher: Any) -> None:
    search = make(searcher, OBJECTIVES[3], in_flight=2)
    while len(search.trials) < 30:
        if isinstance(first := search.ask(), Wait):
            tell(search, search.trials[first.trials[0]])
            continue
        state = search._state
        names = [name for name in state.__slots__ if name not in ("context", "around", "low", "high")]
        parts = {name: copy.copy(getattr(state, name)) for name in names}
        assert search.ask() == first
        assert {name: getattr(search._state, name) for name in names} == parts
        assert isinstance(first, Proposal)
        search.propose(first)


@every_searcher
def test_failed_trials_are_no_parents(searcher: Any) -> None:
    search = make(searcher, OBJECTIVES[2])
    run(search, 80, lambda t: Failure("oom") if t.id % 2 else measured(t))
    used = [parent for trial in search.trials[30:] for parent in trial.proposal.parents]
    if isinstance(searcher, LargeScaleEvolution) and searcher.population in (2, 100):
        return  # one alive, which may have failed; all random
    assert used
    assert sum(parent % 2 for parent in used) <= 0.1 * len(used)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: LocalSearch(starts=0), r"`1 <= starts` and `1 <= draws` must hold, but got \(self.starts=0"),
        (lambda: LocalSearch(draws=0), "`1 <= draws`"),
        (lambda: SimulatedAnnealing(initial=0), "`1 <= initial`"),
        (lambda: SimulatedAnnealing(steps=0), "`1 <= steps`"),
        (lambda: SimulatedAnnealing(hottest=0.1, coldest=0.2), "`0 < coldest <= hottest`"),
        (lambda: SimulatedAnnealing(coldest=float("nan")), "`0 < coldest <= hottest`"),
        (lambda: SimulatedAnnealing(scalarization="sum"), "scalarization must be one of"),  # type: ignore[arg-type]
        (lambda: LargeScaleEvolution(1), "`population >= 2` must hold, but got population=1"),
        (lambda: GeneticCNN(1), "`population >= 2` must hold, but got population=1"),
        (lambda: GeneticCNN(crossover=1.5), "`0 <= crossover, mutation <= 1`"),
        (lambda: GeneticCNN(mutation=float("nan")), "`0 <= crossover, mutation <= 1`"),
    ],
)
def test_wrong_settings_are_refused(make_it: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_it()


@pytest.mark.parametrize("objectives", [1, 2])
def test_searching_beats_sampling(objectives: int) -> None:
    """Mean hypervolume of 150 trials over four seeds, on a smooth landscape."""
    found = {}
    for searcher in (
        RandomSearch(), LocalSearch(), SimulatedAnnealing(), LargeScaleEvolution(20), GeneticCNN()
    ):  # fmt: skip
        volumes = []
        for seed in range(4):
            search = make(searcher, OBJECTIVES[objectives], seed=seed)
            run(search, 150)
            volumes.append(pareto.hypervolume(search.losses(search.trials), [101.0, 3e6][:objectives]))
        found[type(searcher).__name__] = np.mean(volumes)
    baseline = found.pop("RandomSearch")
    assert {name for name, volume in found.items() if volume <= baseline} == set()


# --- local search ------------------------------------------------------------------------------------


def test_neighbors_of_the_front_come_before_anything_else() -> None:
    search = make(LocalSearch(starts=3))
    for n in range(100):
        proposal = search.ask()
        assert isinstance(proposal, Proposal)
        if n >= 3:
            front = {trial.id: trial.architecture for trial in search.front()}
            assert proposal.origin == "neighbor"
            assert proposal.architecture in MACRO.neighbors(front[proposal.parents[0]])
        tell(search, search.propose(proposal))


@pytest.mark.parametrize("in_flight", [1, 3])
def test_hill_climbing_restarts_from_a_local_optimum(in_flight: int) -> None:
    """A restart comes exactly when the best of the climb has no neighbour that was not evaluated."""
    search = make(LocalSearch(starts=1), OBJECTIVES[1], in_flight=in_flight)
    rugged = np.random.default_rng(0).permutation(3**8)
    assert run(search, 150, lambda t: {"error": float(rugged[int(MACRO.code(t.architecture), 3)])}) is None
    restarts = [trial.id for trial in search.trials if trial.proposal.origin == "restart"]
    assert len(restarts) >= 3
    known = {MACRO.canonical(trial.architecture).key for trial in search.trials[: restarts[0]]}
    top = min(search.trials[: restarts[0]], key=lambda trial: trial.values["error"])
    assert {MACRO.canonical(arch).key for arch in MACRO.neighbors(top.architecture)} <= known
    climb = search.trials[restarts[0] : restarts[1]]
    assert all(trial.proposal.origin == "neighbor" for trial in climb[in_flight:-in_flight])
    assert all(p >= restarts[0] - in_flight for t in climb[in_flight:] for p in t.proposal.parents)


def test_gaps_along_the_exact_axis_are_promising() -> None:
    """Closed form: below members of cost 0, .2, 1 in the middle between the best dearer and the cheaper.

    At cost .1 it is hoped at 1/2, .1 below the next member too, which it then dominates.
    """
    front = np.array([[1.0, 0.0], [0.6, 0.2], [0.0, 1.0]])
    exact = np.array([False, True])
    candidates = np.array([[np.nan, 0.1], [np.nan, 0.4], [np.nan, 0.9]])
    base = pareto.hypervolume(front, [1.1, 1.1])
    gains = np.array(promise(front, candidates, exact)) - base
    assert gains == pytest.approx([0.1 * 0.5 + 0.8 * 0.1, 0.6 * 0.3, 0.1 * 0.3])
    ends = promise(front, np.array([[np.nan, 1.05], [np.nan, -0.1]]), exact)
    assert np.array(ends) - base == pytest.approx([0.05 * 0.05, 0.1 * 0.6 + 0.2 * 0.5 + 0.8 * 0.1])


# --- simulated annealing -----------------------------------------------------------------------------


def test_temperatures_fall_geometrically() -> None:
    searcher = SimulatedAnnealing(initial=5, hottest=0.4, coldest=0.1, steps=10)
    assert [searcher.temperature(i) for i in (0, 5, 10, 15, 99)] == pytest.approx([0.4, 0.4, 0.2, 0.1, 0.1])


def test_scalarizations() -> None:
    losses, weights = np.array([0.5, 1.0]), np.array([0.6, 0.4])
    assert SimulatedAnnealing().scalar(losses, weights) == pytest.approx(0.4 + 0.05 * 0.7)
    assert SimulatedAnnealing(scalarization="weighted_sum").scalar(losses, weights) == pytest.approx(0.7)


def trial_of(i: int, error: float) -> Trial:
    return Trial(i, Proposal(MACRO.decode("0" * 8)), Result({"error": error}))


@pytest.mark.parametrize("worse", [0.05, 0.2])
def test_the_law_of_metropolis(worse: float) -> None:
    """Worse by d of the range seen: accepted with exp(-d / T)."""
    searcher = SimulatedAnnealing(initial=2, hottest=0.1, coldest=0.1, scalarization="weighted_sum")
    context = make(searcher, OBJECTIVES[1]).context
    rng = np.random.default_rng(0)
    accepted = 0
    for _ in range(3000):
        state = searcher.init(context)
        for trial in (trial_of(0, 0.0), trial_of(1, 10.0), trial_of(2, 10 * worse)):
            state = searcher.told(state, trial, rng)
        assert state.current is not None
        accepted += state.current.trial.id == 2
    assert stats.binomtest(accepted, 3000, math.exp(-worse / 0.1)).pvalue > 0.01


# --- large-scale evolution ---------------------------------------------------------------------------


def test_pairs_the_worse_dies_and_the_better_is_the_next_parent() -> None:
    """Of n in order, the r-th is the worse of a pair with 2 r / (n (n - 1)), the better with n - 1 - r."""
    n, searcher = 5, LargeScaleEvolution(5)
    context = make(searcher, OBJECTIVES[1]).context
    rng = np.random.default_rng(0)
    died: Counter[int] = Counter()
    won: Counter[int] = Counter()
    for _ in range(3000):
        state = searcher.init(context)
        for i in range(n):
            state = searcher.told(searcher.proposed(state, trial_of(i, 1.0 * i)), trial_of(i, 1.0 * i), rng)
        (winner,) = state.parents
        (dead,) = set(range(n)) - {m.trial.id for m in state.alive}
        assert winner.trial.id < dead
        died[dead] += 1
        won[winner.trial.id] += 1
    law = [3000 * 2 * r / (n * (n - 1)) for r in range(1, n)]
    assert stats.chisquare([died[r] for r in range(1, n)], law).pvalue > 0.01
    assert stats.chisquare([won[n - 1 - r] for r in range(1, n)], law).pvalue > 0.01


def test_the_population_keeps_its_size() -> None:
    for in_flight in (1, 4):
        search = make(LargeScaleEvolution(10), in_flight=in_flight)
        run(search, 80)
        assert len(search._state.alive) == 9  # the tenth is the child in training
        assert len(search._state.parents) <= in_flight


# --- Genetic CNN -------------------------------------------------------------------------------------


def test_generations_have_the_papers_shares() -> None:
    """Each is of N; pairs cross with p_C unless both are one, of the others p_M mutate, the rest stays."""
    searcher = GeneticCNN(population=20)
    search = make(searcher, OBJECTIVES[1])
    run(search, 20)
    generation = [Member.of(search.context, trial) for trial in search.trials]
    crossed = mutated = stayed = 0
    rng = np.random.default_rng(0)
    for _ in range(300):
        kept, slots = searcher._selected(generation, rng)
        assert len(kept) + len(slots) == 20
        pairs = [slot for slot in slots if slot.second is not None]
        assert all(a.first is b.second for a, b in zip(pairs[::2], pairs[1::2], strict=True))
        crossed, mutated, stayed = crossed + len(pairs), mutated + len(slots) - len(pairs), stayed + len(kept)
    share = fitnesses(generation).max() - fitnesses(generation)
    twins = ((share / share.sum()) ** 2).sum()  # both of a pair are one individual
    assert crossed / 6000 == pytest.approx(0.2 * (1 - twins), abs=0.02)
    assert mutated / (mutated + stayed) == pytest.approx(0.8, abs=0.02)


def test_what_stays_is_not_evaluated_again_and_counts_for_the_next_generation() -> None:
    search = make(GeneticCNN(population=6, crossover=0.3, mutation=0.4), OBJECTIVES[1])
    seen = set()
    while len(search.trials) < 80:
        proposal = search.ask()
        assert isinstance(proposal, Proposal)
        tell(search, search.propose(proposal))
        if len(search.trials) > 6:
            state = search._state
            assert len(state.generation) == 6
            assert len(state.kept) + state.awaited == 6
            assert {m.trial.id for m in state.kept} <= {m.trial.id for m in state.generation}
            seen.add(len(state.kept))
    assert len(seen) > 2


def test_the_worst_and_the_infeasible_have_no_children() -> None:
    members = [Member(trial_of(i, e), np.array([e]), v) for i, (e, v) in enumerate(((3, 0), (1, 0), (0, 2)))]
    assert fitnesses(members)[:2].tolist() == [3, 1]
    assert np.isnan(fitnesses(members)[2])
