"""Acquisitions as a setting: what each says of a search's own belief, against simulation; how it searches."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nas import pareto, registry
from nas.protocols import Objective
from nas.searchers import BayesianOptimization, RandomSearch
from nas.searchers import acquisitions as module
from nas.searchers.acquisitions import ACQUISITIONS, Outlook
from nas.searchers.bayesian import _outlook, _promise
from nas.searchers.candidates import Candidate, exact_losses
from nas.trial import Failure, Trial
from tests.searching import OBJECTIVES, digits, make, measured, run, tell

SINGLE = [name for name, acquisition in ACQUISITIONS.items() if acquisition.single]
SEVERAL = [name for name in ACQUISITIONS if name not in SINGLE]
DRAWN = 20_000


def error_of(trial: Trial) -> dict[str, float]:
    """A smooth function with one best network, 22222222."""
    return {"error": 5.0 + sum((2 - digit) ** 2 for digit in digits(trial))}


def looked(objectives: int, seed: int = 0) -> tuple[Outlook, list[Candidate]]:
    """The outlook of a search after 8 trials, and the 40 candidates of which most is expected."""
    search = make(BayesianOptimization(initial=6), OBJECTIVES[objectives], seed=seed)
    run(search, 8)
    search.ask()
    state: Any = search._state
    outlook = _outlook(state, state.belief, np.random.default_rng(seed))
    candidates = list(state.open().values())
    order = np.argsort(-module.expected_growth(outlook, candidates))
    return outlook, [candidates[place] for place in order[:40].tolist()]


def draws(outlook: Outlook, candidates: list[Candidate], rng: np.random.Generator) -> Any:
    """Losses that may come out, `float64[DRAWN, n, m]`."""
    losses = np.repeat(exact_losses(candidates)[None], DRAWN, axis=0)
    for place, (warp, predicted) in outlook.predictions(candidates).items():
        z = rng.normal(predicted.mean, predicted.std, size=(DRAWN, len(candidates)))
        losses[:, :, place] = warp.losses(z)
    return losses


def added(outlook: Outlook, points: Any) -> Any:
    """Hypervolume that each point adds."""
    before = pareto.hypervolume(outlook.within, outlook.reference)
    grown = [pareto.hypervolume(np.vstack([outlook.within, point]), outlook.reference) for point in points]
    return np.array(grown) - before


# --- what each says ------------------------------------------------------------------------------------


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_chance_is_how_often_nothing_dominates(objectives: int) -> None:
    outlook, candidates = looked(objectives)
    found = module.chance_of_growth(outlook, candidates)
    losses = draws(outlook, candidates, np.random.default_rng(1))
    better = (losses[:, :, None] < outlook.within).any(axis=3).all(axis=2)
    expected = (better & (losses < outlook.reference).all(axis=2)).mean(axis=0)
    assert expected.max() > 0.05
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(DRAWN))


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_a_bound_adds_its_hypervolume(objectives: int) -> None:
    outlook, candidates = looked(objectives)
    points = exact_losses(candidates)
    for place, (warp, predicted) in outlook.predictions(candidates).items():
        points[:, place] = warp.losses(predicted.mean - module.KAPPA * predicted.std)
    found = module.bound_growth(outlook, candidates)
    np.testing.assert_allclose(found, added(outlook, points), atol=1e-9 * np.prod(outlook.reference))
    assert found.max() > 0


@pytest.mark.parametrize("name", ["its", "thompson"])
def test_draws_have_the_law_of_the_belief(name: str) -> None:
    """Of few candidates, mean of many draws: the expected hypervolume improvement."""
    outlook, candidates = looked(2)
    few = candidates[:4]
    found = [ACQUISITIONS[name].score(outlook, few) for _ in range(4000)]
    expected = module.expected_growth(outlook, few)
    assert expected.max() > 0
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - expected) <= 4 * error + 1e-9).all()


def test_joint_draws_agree_on_neighbours() -> None:
    """Two candidates that are nearly one come out alike; drawn alone they do not."""
    outlook, candidates = looked(1)
    twice = [candidates[0], candidates[0]]
    joint = np.array([module.jointly_drawn_growth(outlook, twice) for _ in range(50)])
    alone = np.array([module.drawn_growth(outlook, twice) for _ in range(50)])
    np.testing.assert_allclose(joint[:, 0], joint[:, 1], atol=2e-3)
    assert (np.abs(alone[:, 0] - alone[:, 1]) > 0.1).any()


@pytest.mark.parametrize("objectives", [1, 2, 4])
def test_the_scalar_is_the_expected_improvement_of_the_norm(objectives: int) -> None:
    outlook, candidates = looked(objectives, seed=1)
    found = module.scalar_growth(outlook, candidates)
    low, span = outlook.losses.min(axis=0), np.ptp(outlook.losses, axis=0)

    def norm(losses: Any) -> Any:
        weighted = outlook.weights * (losses - low) / span
        return weighted.max(axis=-1) + module.RHO * weighted.sum(axis=-1)

    best = norm(outlook.within).min()
    gains = np.maximum(best - norm(draws(outlook, candidates, np.random.default_rng(2))), 0.0)
    error = gains.std(axis=0) / np.sqrt(module.DRAWS) + gains.std(axis=0) / np.sqrt(DRAWN)
    assert gains.mean(axis=0).max() > 0
    assert (np.abs(found - gains.mean(axis=0)) <= 4 * error + 1e-12).all()


def test_logs_are_logs_of_the_expected_improvement_on_the_models_scale() -> None:
    outlook, candidates = looked(1)
    ((warp, predicted),) = outlook.predictions(candidates).values()
    (best,) = warp.targets(outlook.within.min(axis=0))
    z = np.random.default_rng(3).normal(predicted.mean, predicted.std, size=(DRAWN, len(candidates)))
    gains = np.maximum(best - z, 0.0)
    error = gains.std(axis=0) / np.sqrt(DRAWN)
    found = module.log_expected(outlook, candidates)
    assert np.isfinite(found).all()
    assert (np.abs(np.exp(found) - gains.mean(axis=0)) <= 4 * error + 1e-4).all()


def test_looking_ahead_is_what_the_process_says_after_one_more() -> None:
    """Gain of the least mean, simulated by adding a value that may come out."""
    outlook, candidates = looked(1)
    few = candidates[:8]
    found = module.look_ahead(outlook, few)
    (posterior,) = outlook.belief.posteriors
    rows = [candidate.row for candidate in few] + posterior.rows
    before = posterior.predict(rows)
    assert before.mean[len(few) :].min() < before.mean[: len(few)].min()
    covariance = posterior.covariance(rows, rows)
    rng = np.random.default_rng(4)
    for place in range(len(few)):
        variance = covariance[place, place] + posterior.kernel.noise
        shift = covariance[:, place] / np.sqrt(variance)
        after = before.mean + rng.normal(size=(DRAWN, 1)) * shift
        gains = before.mean.min() - after.min(axis=1)  # what was told may be the least, before and after
        assert found[place] == pytest.approx(gains.mean(), abs=4 * gains.std() / np.sqrt(DRAWN) + 1e-12)
    assert found.max() > 0


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_open_trials_are_counted(name: str) -> None:
    """What is open already promises less than before; `parego` and draws say so on the mean."""
    outlook, candidates = looked(1)
    acquisition = ACQUISITIONS[name]
    (first,) = candidates[:1]
    pending = replace(outlook, pending=[first])
    before = np.mean([acquisition.score(outlook, candidates)[0] for _ in range(200)])
    after = np.mean([acquisition.score(pending, candidates)[0] for _ in range(200)])
    assert after < before


def test_joint_draws_know_what_is_open() -> None:
    outlook, candidates = looked(1)
    (posterior,) = outlook.belief.posteriors
    rows, given = [c.row for c in candidates], [candidates[0].row, candidates[7].row]
    found = posterior.covariance(rows, rows, given)
    expected = posterior.predict(rows, given).std ** 2
    np.testing.assert_allclose(np.diag(found), expected, atol=1e-9)
    again = copy.deepcopy(posterior)
    for row in given:
        again.add(row, 0.3)
    np.testing.assert_allclose(found, again.covariance(rows, rows), atol=1e-6)


def test_where_nothing_is_within_the_limits_scores_do_not_depend_on_each_other() -> None:
    outlook, candidates = looked(2)
    none = replace(outlook, within=outlook.within[:0])
    for name in ("ehvi", "pi", "ucb", "parego"):
        score = ACQUISITIONS[name].score
        alone = np.concatenate([score(none, [candidate]) for candidate in candidates[:5]])
        np.testing.assert_allclose(score(none, candidates)[:5], alone)


@pytest.mark.parametrize("objectives", [1, 2])
def test_improvement_of_one_objective_is_its_chance_in_two_turns_of_three(objectives: int) -> None:
    """But beside open trials, where it is likely and next to nothing."""
    outlook, candidates = looked(objectives)
    sure, doubtful = replace(outlook, doubtful=False), replace(outlook, doubtful=True)
    open_ = replace(sure, pending=candidates[:2])
    expected, chance = (
        score(outlook, candidates) for score in (module.expected_growth, module.chance_of_growth)
    )
    assert not np.allclose(chance, expected)
    np.testing.assert_array_equal(module.improvement(doubtful, candidates), expected)
    likely = chance if objectives == 1 else expected
    np.testing.assert_array_equal(module.improvement(sure, candidates), likely)
    np.testing.assert_array_equal(
        module.improvement(open_, candidates), module.expected_growth(open_, candidates)
    )


@pytest.mark.parametrize("initial", [2, 3, 4])
def test_of_what_is_known_the_most_is_taken(initial: int) -> None:
    """With one exact objective each candidate improves for sure or not at all: by how much decides."""
    objectives = OBJECTIVES[2][1:]
    search = make(BayesianOptimization(initial=initial), objectives)
    run(search, initial)
    proposal: Any = search.ask()
    state: Any = search._state
    exact = state.context.exact
    values = [exact(candidate.architecture)["params"] for candidate in state.open().values()]
    assert exact(proposal.architecture)["params"] <= min(values)


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_limits_and_failures_weigh(name: str) -> None:
    """A score times the probabilities; its log plus their logs."""
    acquisition = ACQUISITIONS[name]
    scores, chances = np.array([3.0, 2.0]), np.array([0.1, 1.0])
    weighted = acquisition.weighted(scores, chances)
    expected = scores + np.log(chances) if name == "log_ei" else scores * chances
    np.testing.assert_allclose(weighted, expected)
    limited = (Objective("error", limit=93.0),)
    search = make(BayesianOptimization(initial=6, acquisition=name), limited)
    run(search, 14, lambda trial: Failure("crash", "no") if trial.id == 3 else measured(trial))
    search.ask()
    state: Any = search._state
    promise = _promise(state, state.belief, acquisition, np.random.default_rng(0))
    assert not np.isnan(promise.scores(list(state.open().values()))).any()


# --- how each searches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_a_cold_ask_is_a_warm_ask(name: str) -> None:
    """Also of those that draw: a search that is continued goes on as it would have."""

    def begun() -> Any:
        return make(BayesianOptimization(initial=4, acquisition=name), OBJECTIVES[1 if name in SINGLE else 2])

    search = begun()
    run(search, 20)
    for _ in range(5):
        cold = begun()
        for trial in search.trials:
            cold.restore(trial)
        proposal: Any = search.ask()
        assert cold.ask() == proposal
        tell(search, search.propose(proposal))


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_each_finds_the_best_network(name: str) -> None:
    """Of 3,969 networks, in 50 trials; random search is far from it."""
    search = make(BayesianOptimization(acquisition=name), OBJECTIVES[1])
    run(search, 50, error_of)
    assert min(trial.values["error"] for trial in search.trials) == 5.0
    assert any(trial.proposal.origin.startswith("model") for trial in search.trials)


@pytest.mark.parametrize("name", SEVERAL)
def test_each_beats_sampling_with_several_objectives(name: str) -> None:
    volumes = []
    for searcher in (BayesianOptimization(acquisition=name), RandomSearch()):
        search = make(searcher, (Objective("error"), Objective("twos")))
        run(search, 40)
        volumes.append(pareto.hypervolume(search.losses(search.trials), [101.0, 9.0]))
    assert volumes[0] > volumes[1]


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_nothing_to_model_is_no_reason_to_stop(name: str) -> None:
    """The cheapest is found; then nothing is hoped for, and evolution goes on."""
    search = make(BayesianOptimization(acquisition=name), OBJECTIVES[2][1:])
    assert run(search, 40) is None
    assert "(the model hopes for nothing)" in search.trials[-1].proposal.origin


def test_a_setting_by_name() -> None:
    assert registry.make("searcher", "bayesian", {"acquisition": "ucb"}).acquisition == "ucb"
    with pytest.raises(ValueError, match=r"acquisition must be one of improvement, ehvi, .* but got 'best'"):
        BayesianOptimization(acquisition="best")


@pytest.mark.parametrize("name", SINGLE)
def test_what_is_for_one_objective_says_so(name: str) -> None:
    message = f"acquisition '{name}' is for one objective, but there are 2: use one of improvement, ehvi, pi"
    with pytest.raises(ValueError, match=message):
        make(BayesianOptimization(acquisition=name))
