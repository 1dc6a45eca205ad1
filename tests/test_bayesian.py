"""Bayesian optimisation: what it proposes and why, beyond what every searcher promises."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from nas.architecture import Architecture
from nas.protocols import Objective
from nas.searchers import Auto, BayesianOptimization, RandomSearch, nas_bowl
from nas.searchers import bayesian as module
from nas.searchers.acquisitions import Outlook
from nas.searchers.belief import JUDGED, Belief, _likeliest, quality, schedule
from nas.searchers.candidates import Candidate, Candidates
from nas.searchers.evidence import Evidence, front_of
from nas.searchers.members import Member
from nas.surrogates.gp import Scaling, fit_kernel
from nas.surrogates.posterior import Places, Posterior
from nas.surrogates.warp import Warp
from nas.trial import Failure, Trial
from search_spaces.chain import ChainSpace
from tests.searching import MACRO, OBJECTIVES, digits, make, measured, member, run, tell

SEARCHER = BayesianOptimization(initial=4)


def test_hyperparameters_are_fitted_at_growing_sizes() -> None:
    sizes = sorted({schedule(told) for told in range(2, 2001)})
    assert sizes[:12] == [2, 3, 4, 6, 9, 13, 19, 28, 42, 63, 94, 141]
    assert all(schedule(size) == size and schedule(size - 1) < size for size in sizes[1:])
    assert max(np.diff(sizes)) == 64


def error_of(trial: Trial) -> dict[str, float]:
    """A smooth function with one best network, 22222222."""
    return {"error": 5.0 + sum((2 - digit) ** 2 for digit in digits(trial))}


def test_the_best_network_is_found_with_few_trials() -> None:
    """Of 3,969 networks, in 40 trials, where random search is far from it."""
    found = {}
    for searcher in (SEARCHER, RandomSearch()):
        search = make(searcher, OBJECTIVES[1])
        run(search, 40, error_of)
        found[type(searcher)] = min(trial.values["error"] for trial in search.trials)
    assert found[BayesianOptimization] == 5.0
    assert found[RandomSearch] > 6.0


def test_first_trials_are_spread_over_the_costs() -> None:
    """On the mean of six searches wider than nine of ten samples of as many, and without large gaps."""
    widths, gaps = [], []
    for seed in range(6):
        search = make(BayesianOptimization(initial=8), seed=seed)
        run(search, 8)
        assert {trial.proposal.origin for trial in search.trials} == {"spread"}
        costs = np.sort(np.log([MACRO.cost(trial.architecture).params for trial in search.trials]))
        widths.append(np.ptp(costs))
        gaps.append(np.diff(costs).max() / np.ptp(costs))
    rng = np.random.default_rng(0)
    random = [np.ptp(np.log([MACRO.cost(MACRO.sample(rng)).params for _ in range(8)])) for _ in range(50)]
    assert np.mean(widths) > np.quantile(random, 0.9)
    assert np.mean(gaps) < 0.5


@pytest.mark.parametrize("names", [("error",), ("error", "twos")])
def test_each_third_turn_doubts_the_model_and_early_more(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EARLY", 14)
    monkeypatch.setattr(module, "STRAYS", frozenset[int]())
    outlooks: list[Outlook] = []

    def kept(*args: Any) -> Outlook:
        outlooks.append(Outlook(*args))
        return outlooks[-1]

    monkeypatch.setattr(module, "Outlook", kept)
    run(make(SEARCHER, tuple(Objective(name) for name in names)), 24)
    found = {len(outlook.losses): outlook for outlook in outlooks}
    assert [told for told, outlook in found.items() if outlook.doubtful] == [5, 8, 11, 14, 17, 20, 23]
    beyond = {told: outlook.reference - outlook.losses.max(axis=0) for told, outlook in found.items()}
    shares = {told: rest / np.ptp(found[told].losses, axis=0) for told, rest in beyond.items()}
    for told, outlook in found.items():
        doubted = outlook.doubtful and len(names) > 1
        np.testing.assert_allclose(shares[told], module.FAR if doubted else module.MARGIN)
        greatest = module.GREATER if told <= 14 else module.DOUBT
        assert outlook.widened == (greatest if doubted else 1.0)


def test_mutations_of_the_best_are_looked_at_early_in_doubt_and_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST", 40)
    monkeypatch.setattr(module, "POOL", 150)
    monkeypatch.setattr(module, "LATE", 35)
    search = make(SEARCHER, (Objective("error"), Objective("twos")))
    looked, full = [], []
    usual = Candidates.around

    def around(self: Candidates, *args: Any) -> list[Candidate]:
        looked.append(len(search.trials))
        return usual(self, *args)

    monkeypatch.setattr(Candidates, "around", around)
    for turn in range(40):
        run(search, turn + 1)
        full.append(len(search._state.pool) == 150)
    first, doubtful = full.index(True), module.DOUBTFUL
    modelled = [t.id for t in search.trials if (t.proposal.origin or "").startswith("model")]
    assert 5 < first < 30
    expected = [i for i in modelled if i < first or i % doubtful == doubtful - 1 or i >= module.LATE]
    assert looked == expected


def test_now_and_then_the_model_is_not_asked() -> None:
    """Then what is proposed is unlike all before, where the model had asked for more of the same."""
    search = make(BayesianOptimization(), (Objective("error"), Objective("twos")))
    run(search, 34)
    spread = [trial.id for trial in search.trials if trial.proposal.origin == "spread"]
    assert spread == [0, 1, 2, 3, 4, 12, 20, 33]
    costs = np.log([MACRO.cost(trial.architecture).params for trial in search.trials])
    nearest = {i: np.abs(costs[:i] - costs[i]).min() for i in range(12, len(costs))}
    assert np.mean([nearest[i] for i in (12, 20, 33)]) > 2 * np.median(list(nearest.values()))


def test_a_cold_ask_is_a_warm_ask() -> None:
    """What is remembered between asks may be lost at any trial."""
    search = make(SEARCHER)
    run(search, 30, measured)
    state: Any = search._state
    for _ in range(6):
        cold = make(SEARCHER)
        for trial in search.trials:
            cold.restore(trial)
        warm_proposal, cold_proposal = search.ask(), cold.ask()
        assert warm_proposal == cold_proposal
        assert state is search._state
        tell(search, search.propose(warm_proposal))  # type: ignore[arg-type]


def test_a_cold_ask_is_a_warm_ask_with_failures_limits_and_open_trials() -> None:
    def outcome(trial: Trial) -> Any:
        values = measured(trial)
        return Failure("oom", "too large") if trial.id % 5 == 2 else values | {"twos": 14.0 - values["error"]}

    objectives = (Objective("error"), Objective("twos", limit=9.0))
    search = make(SEARCHER, objectives, in_flight=3)
    run(search, 24, outcome)
    for _ in range(6):
        search.propose(search.ask())  # type: ignore[arg-type]
        search.propose(search.ask())  # type: ignore[arg-type]
        cold = make(SEARCHER, objectives, in_flight=3)
        for trial in search.trials:
            cold.restore(trial)
        assert search.ask() == cold.ask()
        run(search, len(search.trials), outcome)


def test_what_makes_features_comparable_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool does not: it is small here, and a search that is continued fits with another one."""
    monkeypatch.setattr(module, "POOL", 40)
    search = make(SEARCHER, OBJECTIVES[3])
    run(search, 30, measured)
    sample = list(search._state.sample)
    run(search, 24, measured)
    cold = make(SEARCHER, OBJECTIVES[3])
    for trial in search.trials:
        cold.restore(trial)
    assert len(sample) == module.FIRST and cold._state.sample == search._state.sample == sample
    assert cold.ask() == search.ask()
    for warm, anew in zip(search._state.belief.posteriors, cold._state.belief.posteriors, strict=True):
        np.testing.assert_allclose(anew.kernel.scaling.distances, warm.kernel.scaling.distances)
        np.testing.assert_allclose(anew.kernel.lengths, warm.kernel.lengths, rtol=1e-6)


def test_only_of_what_may_be_proposed_candidates_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one written form a network, of none that was proposed, of none over the limits."""
    limit = 0.7 * MACRO.cost(MACRO.decode("22222222")).params
    small = Objective(
        "params", limit=limit, exact=lambda arch, space: space.cost(space.canonical(arch)).params
    )
    search = make(SEARCHER, (Objective("error"), small))
    run(search, 20)
    made: list[Architecture] = []
    usual = Candidates.of
    monkeypatch.setattr(Candidates, "of", lambda self, arch: made.append(arch) or usual(self, arch))
    state = search._state
    context = state.context
    for drawn in state.pool:
        drawn.candidate = None
    state.candidates.known.clear()
    found = state.open()
    assert [candidate.architecture for candidate in found.values()] == made
    assert list(found) == [context.identify(arch) for arch in made] and len(made) < len(state.pool)
    assert not any(context.seen(key) for key in found)
    assert all(context.exact(arch)["params"] <= limit for arch in made)
    assert any(context.exact(drawn.architecture)["params"] > limit for drawn in state.pool)

    made.clear()
    near = state.candidates.around(
        next(iter(found.values())).architecture, 30, found, np.random.default_rng(0)
    )
    keys = [candidate.key for candidate in near]
    assert [candidate.architecture for candidate in near] == made and made
    assert len(set(keys)) == len(keys) and not set(keys) & set(found) and not any(map(context.seen, keys))
    assert all(context.exact(arch)["params"] <= limit for arch in made)


def test_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, forgetful = make(SEARCHER), make(SEARCHER)
    run(usual, 20)
    monkeypatch.setattr("nas.searchers.candidates.REMEMBERED", 100)
    run(forgetful, 20)
    assert len(forgetful._state.candidates.known) < len(usual._state.candidates.known)
    assert [t.proposal for t in forgetful.trials] == [t.proposal for t in usual.trials]


def test_restoring_fits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    search = make(SEARCHER)
    run(search, 12)
    restored = make(SEARCHER)
    monkeypatch.setattr(module, "updated", pytest.fail)
    for trial in search.trials:
        restored.restore(trial)
    assert not restored._state.candidates.known


def test_pending_trials_are_not_proposed_around() -> None:
    """Five at a time: with nothing new told, each next proposal is another, less like the open ones."""
    search = make(SEARCHER, in_flight=5)
    run(search, 20)
    proposed = []
    for _ in range(4):
        proposal: Any = search.ask()
        proposed.append(MACRO.code(proposal.architecture))
        search.propose(proposal)
    assert len(set(proposed)) == 4
    state = search._state
    belief: Belief = state.belief
    pending = [state.candidates.of(trial.architecture) for trial in state.evidence.pending.values()]
    ((_, alone),) = belief.predictions(pending).values()
    ((_, given),) = belief.predictions(pending, pending).values()
    assert (given.std < 0.7 * alone.std).all()
    np.testing.assert_allclose(given.mean, alone.mean)


def test_more_than_two_objectives_and_none_to_model() -> None:
    most = Objective("most", maximize=True, exact=lambda arch, space: space.cost(arch).params)
    for objectives in (OBJECTIVES[4], (most, OBJECTIVES[4][3])):
        search = make(SEARCHER, objectives)
        assert run(search, 20) is None
        assert any(trial.proposal.origin.startswith("model") for trial in search.trials[10:])


def test_failures_are_kept_away_from() -> None:
    """Networks that begin with a 2 fail, a third of the random ones."""

    def evaluate(trial: Trial) -> Any:
        return Failure("crash", "out of memory") if digits(trial)[0] == 2 else measured(trial)

    search = make(SEARCHER)
    run(search, 40, evaluate)
    failed = [not trial.ok for trial in search.trials]
    assert sum(failed) > 0 and sum(failed[20:]) <= 2


@pytest.mark.parametrize("limit", [93.0, 1.0])
def test_measured_limits(limit: float) -> None:
    """Within it where that is possible; where nothing is, the search goes on towards it."""
    objectives = (Objective("error", limit=limit), OBJECTIVES[2][1])
    search = make(SEARCHER, objectives)
    assert run(search, 40) is None
    errors = np.array([trial.values["error"] for trial in search.trials])
    if limit > 90:
        assert (errors[20:] <= limit).mean() > 0.7
    else:
        assert errors[20:].mean() < errors[:20].mean()


@pytest.mark.parametrize("kind", ["equal", "identical", "mostly failed", "nan", "huge"])
def test_what_cannot_be_modelled_ends_in_evolution_or_goes_on(kind: str) -> None:
    def evaluate(trial: Trial) -> Any:
        if kind == "mostly failed":
            return {"error": 3.0, "loss": 1.0} if trial.id % 10 == 0 else Failure("crash", "no")
        if kind == "nan":
            return {"error": float("nan") if trial.id % 2 else 5.0, "loss": 1.0 + trial.id}
        value = {"equal": 7.0, "identical": error_of(trial)["error"], "huge": 1e38 * (1 + trial.id % 3)}[kind]
        return {"error": value, "loss": value}

    search = make(SEARCHER, (Objective("error"), Objective("loss")))
    assert run(search, 25, evaluate) is None
    if kind == "mostly failed":
        assert "at least 2 trials that succeeded" in search.trials[6].proposal.origin


def test_too_few_trials_say_so() -> None:
    search = make(SEARCHER)
    run(search, 8, lambda trial: Failure("crash", "no"))
    assert {trial.proposal.origin for trial in search.trials} == {"spread", "sample"}
    search = make(SEARCHER)
    run(search, 8, lambda trial: measured(trial) if trial.id == 0 else Failure("crash", "no"))
    assert (
        "(a model needs at least 2 trials that succeeded, but there are 1)"
        in search.trials[-1].proposal.origin
    )


def test_a_space_of_three_architectures() -> None:
    space = ChainSpace((1, 4, 4), depth=(1, 3), ops=("identity",), widths=(16,), strides=0, skips=False)
    search = make(Auto(), (Objective("depth", exact=lambda a, s: len(a.graph())),), space, identity="written")
    ended = run(search, 99)
    assert len(search.trials) == 3
    assert ended is not None and "used up" in ended.reason


def test_hundreds_of_trials_are_a_local_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.searchers.belief.KEPT", 20)
    monkeypatch.setattr("nas.searchers.belief.STEP", 8)
    search = make(SEARCHER)
    run(search, 70)
    (posterior,) = search._state.belief.posteriors
    assert 20 <= len(posterior) < 28
    assert front_of(search._state.evidence.succeeded)


def evidence(members: list[Member]) -> Evidence:
    return Evidence(make(SEARCHER)._state.context, members, members)


@pytest.mark.parametrize("limit", [None, 12.0, 0.0])
def test_losses_and_front_are_those_of_all_that_was_told(limit: float | None) -> None:
    """Also with ties, with failures, and while nothing is within the limit."""
    search = make(RandomSearch(), (Objective("error"), Objective("twos", limit=limit)))
    seen = Evidence(search.context)
    rng = np.random.default_rng(0)
    for turn in range(60):
        run(search, turn + 1, lambda trial: {"error": float(rng.integers(6)), "twos": 14.0 - rng.integers(9)})
        trial = search.trials[-1]
        if turn % 7 == 3:
            trial = Trial(trial.id, trial.proposal, Failure("oom", "too large"))
        seen.proposed(trial)
        seen.told(trial)
        np.testing.assert_array_equal(seen.losses, [m.losses for m in seen.succeeded])
        assert [m.trial.id for m in seen.front] == [m.trial.id for m in front_of(seen.succeeded)]
    assert len(seen.succeeded) < len(seen.members) == 60


@pytest.mark.parametrize("rows", [JUDGED // 2, JUDGED, 3 * JUDGED])
@pytest.mark.parametrize("log", [False, True])
def test_the_scale_is_that_of_the_losses_also_if_some_judge_for_many(rows: int, log: bool) -> None:
    """Its parameters, and the kernel, are those of all."""
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, 3))
    z = x @ np.array([1.0, -0.5, 0.3]) + 0.05 * rng.normal(size=rows)
    losses = np.exp(1.5 * z) if log else 20 + z
    warp, kernel = _likeliest([x], losses, Scaling.of([x]))
    assert warp == Warp.to(losses, log)
    process = fit_kernel([x], warp.targets(losses), Scaling.of([x]))
    again = fit_kernel([x], warp.targets(losses), Scaling.of([x]), start=kernel)
    assert again[1] > process[1] - 1.0


def test_a_wider_neighbourhood_than_the_front() -> None:
    """With one objective the front is one trial, and the best dozen lends its neighbours."""
    losses = [[float(i)] for i in range(30)]
    members: list[Member] = [member(i, row) for i, row in enumerate(losses)]
    assert [m.trial.id for m in module.centres(evidence(members))] == list(range(12))
    infeasible = [member(i, row, violation=1.0 if i < 25 else 0.0) for i, row in enumerate(losses)]
    assert [m.trial.id for m in module.centres(evidence(infeasible))][:5] == [25, 26, 27, 28, 29]


def test_how_good_the_model_is() -> None:
    search = make(SEARCHER, OBJECTIVES[3])
    run(search, 40)
    says = search.searcher_says()
    assert list(says) == ["model of error", "model of twos"]
    assert all(" within 90 % intervals (39 trials, each left out in turn)" in text for text in says.values())
    before = copy.deepcopy(search.ask())
    search.searcher_says()
    assert search.ask() == before
    tau = float(says["model of error"].split()[1].rstrip(","))
    assert tau > 0.5
    assert make(SEARCHER).searcher_says() == {}
    assert make(RandomSearch()).searcher_says() == {}
    few = make(SEARCHER)
    run(few, 6, lambda trial: {"error": 1.0, "twos": 1.0} if trial.id < 2 else Failure("crash", "no"))
    assert few.searcher_says() == {"model of error": "nothing to tell apart in 2 trials"}


def test_leaving_out_is_exact() -> None:
    search = make(SEARCHER)
    run(search, 16)
    (posterior,) = search._state.belief.posteriors
    prediction, targets = posterior.leave_one_out()
    rows = posterior.rows
    assert len(rows) == len(targets) == 15
    assert "tau" in quality(posterior)
    for place in (0, 7, 14):
        other = Posterior(
            posterior.kernel, Places(search._state.candidates.features, posterior.kernel.scaling)
        )
        for i, row in enumerate(rows):
            if i != place:
                other.add(row, targets[i])
        expected = other.predict([rows[place]])
        std = np.sqrt(expected.std[0] ** 2 + posterior.kernel.noise + 1e-8)
        assert (prediction.mean[place], prediction.std[place]) == pytest.approx(
            (expected.mean[0], std), rel=1e-6
        )


def test_nas_bowl_sees_labels_only() -> None:
    assert nas_bowl().blocks == ("ops", "wiring", "wiring2")
    search = make(nas_bowl(initial=4))
    assert run(search, 12) is None
    assert search.trials[-1].proposal.origin.startswith("model")
