"""Searchers that choose by a model: what it is shown, what a batch is, what is picked, and bad evidence."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from nas import pareto
from nas.protocols import Exhausted, Objective
from nas.searchers import (
    BANANAS,
    MOBANANAS,
    MSuNAS,
    RandomSearch,
    SurrogateLocalSearch,
    SurrogateNSGA2,
    batches,
)
from nas.searchers.batches import Past, State
from nas.searchers.gains import gains, greedy
from nas.searchers.members import Member
from nas.searchers.msunas import evenly, unevenness
from nas.searchers.offspring import ancestors, by_rank, children, fresh, mutations
from nas.searchers.predicted import encoding, fitted_to
from nas.surrogates.model import Floats, Normal, Unfit
from nas.surrogates.targets import Target
from nas.trial import Failure, Proposal, Trial
from search_spaces.chain import ChainSpace
from search_spaces.nasbench201 import NASBench201Space
from tests.searching import MACRO, OBJECTIVES, PARAMS, QUICK, make, measured, member, run

SEARCHERS: dict[str, Any] = {
    "bananas": BANANAS(initial=6, batch=4, candidates=30, model=QUICK),
    "mo bananas": MOBANANAS(initial=6, candidates=30, model=QUICK),
    "msunas": MSuNAS(initial=6, batch=4, population=8, generations=4, model=QUICK),
    "surrogate nsga2": SurrogateNSGA2(initial=6, children=20, model=QUICK),
    "surrogate local": SurrogateLocalSearch(initial=6, neighbours=5, steps=8, model=QUICK),
}
every_searcher = pytest.mark.parametrize("searcher", SEARCHERS.values(), ids=SEARCHERS)


class Told:
    """A model that remembers what it was fitted to and predicts the sum of the columns."""

    def __init__(self) -> None:
        self.fits: list[tuple[Floats, Floats]] = []

    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Any:
        self.fits.append((x, y))
        return self

    def predict(self, x: Floats) -> Normal:
        return Normal(x @ np.arange(x.shape[1]), np.zeros(len(x)))


class Never:
    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Any:
        raise Unfit("never")


# --- what the model is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "log"), [([1.0, 2.0, 8.0], True), ([0.0, 1.0, 2.0], False), ([-5.0, -1.0, 3.0], False)]
)
def test_targets_are_standardised_logarithms_where_all_are_positive(losses: list[float], log: bool) -> None:
    array = np.array(losses)
    target = Target.of(array)
    z = target.forward(array)
    assert target.log == log
    assert (z.mean(), z.std()) == pytest.approx((0.0, 1.0))
    assert target.back(z) == pytest.approx(array)
    squeezed = Target.of(array, squeeze=True)
    assert squeezed.back(squeezed.forward(array)) == pytest.approx(array)
    assert squeezed.forward(array).std() == pytest.approx(1.0)
    assert (np.diff(squeezed.forward(array)) > 0).all()
    assert np.isfinite(squeezed.back(np.array([-1e9, 1e9]))).all()
    assert (np.diff(z) > 0).all()
    assert np.isfinite(target.back(np.array([-1e9, 1e9]))).all()
    assert Target.of(np.array([3.0, 3.0])).back(np.zeros(1)) == pytest.approx([3.0])


def test_exact_objectives_are_never_modelled_and_failures_teach_nothing() -> None:
    model = Told()
    search = make(BANANAS(initial=6, batch=4, candidates=8, model=model), OBJECTIVES[4])
    run(search, 14, lambda trial: Failure("oom") if trial.id in (1, 3) else measured(trial))
    assert len(model.fits) == 2 * 2  # two batches; error and twos, not params and macs
    x, y = model.fits[0]
    good = [trial for trial in search.trials[:6] if trial.ok]
    assert x.tolist() == [MACRO.encode(trial.architecture).tolist() for trial in good]
    errors = np.log([trial.values["error"] for trial in good])
    assert y == pytest.approx((errors - errors.mean()) / errors.std())
    twos = -np.array([trial.values["twos"] for trial in good])  # maximised: a negative loss, no logarithm
    assert model.fits[1][1] == pytest.approx((twos - twos.mean()) / twos.std())


def test_models_see_paths_where_the_space_has_them() -> None:
    space = NASBench201Space()
    arch = space.sample(np.random.default_rng(0))
    context = make(RandomSearch(), OBJECTIVES[1], space).context
    paths = space.encodings()["path"](arch).tolist()
    assert encoding(context, paths_alone=True)(arch).tolist() == paths
    assert encoding(context)(arch).tolist() == [*space.encode(arch).tolist(), *paths]
    assert encoding(make(RandomSearch()).context)(MACRO.decode("01201201")).shape == (24,)


def evidence_of(values: Mapping[str, Mapping[str, float]], objectives: Any, in_flight: int = 1) -> Any:
    search = make(BANANAS(initial=100), objectives, in_flight=in_flight)
    for code, told in values.items():
        trial = search.propose(Proposal(MACRO.decode(code)))
        search.finish(trial.id, search.completed(trial, told))
    search.ask()
    return search._state


def test_what_is_predicted() -> None:
    """Exact values as they are, losses of the right sign and unit, violations of predicted limits."""
    objectives = (Objective("error"), PARAMS, Objective("twos", maximize=True, limit=3.0))
    codes = ["00000000", "00000002", "00000022", "00000222", "00002222"]
    told = {code: {"error": 5.0, "twos": float(code.count("2"))} for code in codes}
    state = evidence_of(told, objectives)
    predictor = fitted_to(state.evidence, state.encode, QUICK, 0)
    archs = [MACRO.decode(code) for code in ("00000222", "00000000")]
    losses = predictor.losses(archs)
    assert losses[:, 0] == pytest.approx([5.0, 5.0])  # all told alike
    assert losses[:, 1].tolist() == [MACRO.cost(arch).params for arch in archs]
    assert losses[:, 2] == pytest.approx([-3.0, 0.0], abs=0.3)
    assert predictor.losses([]).shape == (0, 3)
    few, none = predictor.members([Proposal(arch) for arch in archs], before=4)
    assert [few.trial.id, none.trial.id] == [-5, -6]
    assert none.violation == pytest.approx(max(0.0, 3.0 + losses[1, 2]) / 3)
    assert few.violation == pytest.approx(max(0.0, 3.0 + losses[0, 2]) / 3)
    drawn = predictor.losses(archs * 200, np.random.default_rng(0))
    assert drawn[:, 2].std() > losses[:, 2].std()
    assert (drawn[:, :2] == predictor.losses(archs * 200)[:, :2]).all()


def test_nothing_to_learn_is_unfit() -> None:
    alike = {code: {"error": 5.0} for code in ("00000000", "11111111", "22222222")}
    for told, message in ((alike, "different targets"), ({}, "a trial that succeeded")):
        state = evidence_of(told, OBJECTIVES[2])
        with pytest.raises(Unfit, match=message):
            fitted_to(state.evidence, state.encode, QUICK, 0)
    exact = evidence_of({code: {} for code in alike}, (PARAMS,))
    assert not fitted_to(exact.evidence, exact.encode, Never(), 0).models  # exact alone needs no model


# --- batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_batch_is_chosen_once_from_what_was_known_at_its_start(in_flight: int) -> None:
    """Whatever is told in the middle of it, and with an empty memory."""
    pasts: list[Past] = []

    class Whole:
        def init(self, context: Any) -> State:
            return State.of(context, initial=5, batch=4)

        def ask(self, state: State, rng: np.random.Generator) -> Any:
            def choose(past: Past, count: int, rng: np.random.Generator) -> list[Proposal]:
                pasts.append(past)
                return mutations(past.context, past.evidence.succeeded, count, rng)

            return batches.ask(state, QUICK, choose, rng)

        def proposed(self, state: State, trial: Trial) -> State:
            return batches.proposed(state, trial)

        def told(self, state: State, trial: Trial, rng: np.random.Generator) -> State:
            state.memo.clear() if forget else None
            return batches.told(state, trial, rng)

    found = []
    for forget in (False, True):
        pasts.clear()
        search = make(Whole(), in_flight=in_flight)
        run(search, 21)
        found.append([trial.proposal for trial in search.trials])
        starts = range(5, 21, 4)
        if not forget:
            assert [len(past.evidence.members) for past in pasts] == [n - in_flight + 1 for n in starts]
        for past in pasts:
            told = len(past.evidence.members)
            assert list(past.evidence.pending) == list(range(told, told + in_flight - 1))
            assert [m.trial.architecture for m in past.believed] == [
                trial.architecture for trial in search.trials[told : told + in_flight - 1]
            ]
            start = told + in_flight - 1
            seen = [past.context.seen(search.context.identify(t.architecture)) for t in search.trials]
            assert seen == [trial.id < start for trial in search.trials]
    assert found[0] == found[1]


@every_searcher
def test_where_nothing_can_be_fitted_it_is_evolution_and_says_so(searcher: Any) -> None:
    from dataclasses import replace

    search = make(replace(searcher, model=Never()), in_flight=2)
    assert run(search, 25) is None
    assert {trial.proposal.origin for trial in search.trials[7:]} == {"mutate (never)"}
    failing = make(searcher, in_flight=2)
    run(failing, 12, lambda trial: Failure("crash"))
    assert {trial.proposal.origin for trial in failing.trials} == {"sample"}


@every_searcher
def test_with_nine_in_ten_failing_the_model_still_gets_its_turn(searcher: Any) -> None:
    def evaluate(trial: Trial) -> Any:
        return measured(trial) if trial.id % 10 == 9 else Failure("oom")

    search = make(searcher, in_flight=3)
    assert run(search, 60, evaluate) is None
    origins = [trial.proposal.origin for trial in search.trials]
    assert "mutate (a model must have 3 rows, but got 1)" in origins
    assert all(origin.endswith("predicted") for origin in origins[-15:])


@every_searcher
def test_a_space_of_three_is_used_up(searcher: Any) -> None:
    space = ChainSpace(
        (1, 4, 4), depth=(1, 1), ops=("conv",), kernels=(3,), widths=(8, 12, 16), strides=0, skips=False
    )
    search = make(searcher, (Objective("error"), PARAMS), space, in_flight=2)
    said = run(search, 9, lambda trial: {"error": float(trial.id)})
    assert isinstance(said, Exhausted)
    assert len(search.trials) == 3


@every_searcher
@pytest.mark.parametrize("objectives", [1, 2])
def test_it_finds_more_than_random_search(searcher: Any, objectives: int) -> None:
    """On the mean of eight seeds: two do not tell with several objectives and models that cost little."""
    bound = {1: [100.0], 2: [100.0, 3e6]}[objectives]
    found = []
    for method in (searcher, RandomSearch()):
        volumes = []
        for seed in range(8):
            search = make(method, OBJECTIVES[objectives], seed=seed)
            run(search, 50)
            volumes.append(pareto.hypervolume(search.losses(search.trials), bound))
        found.append(np.mean(volumes))
    assert found[0] > found[1]


# --- candidates --------------------------------------------------------------------------------------------


def test_fresh_ones_differ_are_new_and_meet_limits() -> None:
    limited = Objective("params", limit=MACRO.cost(MACRO.decode("00000002")).params, exact=PARAMS.exact)
    search = make(RandomSearch(), (Objective("error"), limited))
    search.propose(Proposal(MACRO.decode("00000001")))
    draws = [
        Proposal(MACRO.decode(code))
        for code in ("00000001", "22222222", "00000002", "00000002", "00000010", "00000000")
    ]
    found = fresh(search.context, draws, 9)
    same_network = search.context.identify(MACRO.decode("00000001")) == search.context.identify(
        MACRO.decode("00000010")
    )
    assert found == [draws[2], draws[5]] if same_network else [draws[2], draws[4], draws[5]]
    assert fresh(search.context, draws, 1) == [draws[2]]


def test_parents_of_predicted_parents_are_trials() -> None:
    told, twin = member(7, [1.0]), member(3, [1.0])
    predicted = Member(Trial(-4, Proposal(MACRO.decode("01201201"), (7, 2))), np.array([0.5]), 0.0)
    orphan = Member(Trial(-5, Proposal(MACRO.decode("22222222"))), np.array([0.5]), 0.0)
    assert [ancestors(m.trial) for m in (told, predicted, orphan)] == [(7,), (7,), ()]
    context = make(RandomSearch()).context
    rng = np.random.default_rng(0)
    born = children(context, [told, twin, predicted, orphan], 60, 0.5, 0.5, rng)
    assert len({context.identify(child.architecture) for child in born}) == 60
    assert {child.parents for child in born} <= {(7,), (3,), (), (7, 3), (3, 7)}
    assert mutations(context, [], 5, rng) == children(context, [], 5, 0.5, 0.5, rng) == []


def test_candidates_are_ranked_among_all_that_is_known() -> None:
    known = [member(0, [0.0, 4.0]), member(1, [4.0, 0.0]), member(2, [2.0, 2.0])]
    good, poor, bad, infeasible = (
        Member(Trial(-1 - i, Proposal(MACRO.decode("00000000"))), np.array(losses), violation)
        for i, (losses, violation) in enumerate(
            (([1.0, 1.0], 0), ([3.0, 1.5], 0), ([3.0, 3.0], 0), ([0.0, 0.0], 1))
        )
    )
    ranked = by_rank(known, [bad, infeasible, poor, good])
    assert [m.trial.id for m in ranked] == [-1, -2, -3, -4]
    assert [m.rank for m in ranked] == [0, 1, 2, 3]


# --- what is picked ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_gains_are_hypervolumes_and_depths(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    points = rng.random((30, objectives))
    front, candidates = points[pareto.front(points)], rng.random((50, objectives)) * 1.3
    found = gains(front, candidates)
    bound = np.full(objectives, 1.1)
    for candidate, gain in zip(candidates, found, strict=True):
        added = pareto.hypervolume(np.vstack([front, candidate]), bound) - pareto.hypervolume(front, bound)
        if added > 1e-12:
            assert gain == pytest.approx(added)
        else:  # falls so far until some known point, or the reference, no longer dominates it
            assert gain <= 0
            lifted = candidate + gain - 1e-9
            assert not (np.vstack([front, bound]) <= lifted).all(axis=1).any()
    assert (
        gains(np.empty((0, objectives)), candidates[:1])[0]
        == pytest.approx(np.prod(np.maximum(1.1 - candidates[0], 0)), abs=1e-12)
        or (candidates[0] >= 1.1).any()
    )


def test_greedy_picks_do_not_repeat_each_other() -> None:
    known = [member(0, [0.0, 1.0]), member(1, [1.0, 0.0])]
    rows = [[0.5, 0.5], [0.5, 0.5], [0.2, 0.8], [0.8, 0.3], [0.9, 0.9]]
    candidates = [member(i, row) for i, row in enumerate(rows)]
    assert greedy(known, candidates, 3) == [0, 2, 3]
    assert sorted(greedy(known, candidates, 99)) == [0, 1, 2, 3, 4]
    assert greedy(known, [], 3) == []
    barred = [
        member(0, [0.1, 0.1], violation=2.0),
        member(1, [0.9, 0.9], violation=0.0),
        member(2, [0.0, 0.0], violation=1.0),
    ]
    assert greedy(known, barred, 3) == [1, 2, 0]
    assert greedy([], candidates, 1) == [0]


def test_with_one_objective_the_k_least_draws_are_picked() -> None:
    """BANANAS' acquisition, of a model that is certain."""
    model = Told()
    searcher = BANANAS(initial=5, batch=3, candidates=40, model=model)
    search = make(searcher, OBJECTIVES[1])
    run(search, 8)
    state = search._state
    context = search.context
    slow = make(searcher, OBJECTIVES[1])
    run(slow, 5)
    slow.ask()
    past = batches._past(slow._state, model, batches._start(slow._state))
    rng = np.random.default_rng(slow._state.seed)
    from nas.searchers.selection import survivors

    pool = mutations(past.context, survivors(past.evidence.succeeded, 5), 40, rng)
    scores = past.predictor.losses([proposal.architecture for proposal in pool])[:, 0]
    expected = [pool[place].architecture for place in np.argsort(scores, kind="stable")[:3]]
    assert [trial.architecture for trial in search.trials[5:8]] == expected
    assert state.evidence.context is context


def test_even_gaps_by_hand_and_by_trying_all() -> None:
    front = np.array([[0.0, 1.0], [1.0, 0.0]])
    line = np.linspace(0.1, 0.9, 9)
    pool = np.column_stack([line, 1 - line])
    assert evenly(front, pool, 1) == [4]
    assert evenly(front[:1], pool, 1) == [8]  # the end first
    assert unevenness(np.vstack([front, pool[[4]]])) == pytest.approx(0.0)
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(10):
        front, pool = np.vstack([[0.0, 0.0], rng.random((4, 2))]), rng.random((8, 2))
        chosen = evenly(front, pool, 3)
        assert len(set(chosen)) == 3
        every = [unevenness(np.vstack([front, pool[list(places)]])) for places in combinations(range(8), 3)]
        mine = unevenness(np.vstack([front, pool[chosen]]))
        ratios.append(mine / min(every))
        assert mine <= np.quantile(every, 0.1)
    assert np.mean(ratios) < 1.1
    assert evenly(np.empty((0, 1)), np.array([[3.0], [1.0], [2.0]]), 2) == [1, 2]


def test_local_search_on_an_exact_objective_walks_to_the_optimum() -> None:
    """Nothing is modelled: the first pick is the least of all that a walk leads to."""
    search = make(SurrogateLocalSearch(initial=3, neighbours=200, steps=40), (PARAMS,))
    run(search, 4)
    least = MACRO.cost(MACRO.decode("00000000")).params
    assert search.trials[-1].values["params"] == least
