"""Scalarisations as settings: what each scores, what each refuses, and how a study file says it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas import Objective, Study, scalarisation
from nas.searchers import RegularizedEvolution, SimulatedAnnealing
from nas.searchers.box import Box
from nas.searchers.scalars import (
    KINDS,
    Chebyshev,
    EpsilonConstraint,
    MNasNetReward,
    WeightedExponentialSum,
    WeightedProduct,
    WeightedSum,
    bound,
    scalarisation_of,
)
from nas.settings import SettingsError
from tests.searching import OBJECTIVES, make, run
from tests.studies import tables

TWO = (Objective("error"), Objective("latency_ms"))
LOSSES = np.array([[10.0, 4.0], [20.0, 2.0], [30.0, 1.0], [np.nan, 1.0]])
BOX = Box.of(LOSSES)
SCALED = np.array([[0, 1], [0.5, 1 / 3], [1, 0]])


def scores(chosen: Any, losses: Any = LOSSES, objectives: Any = TWO, box: Box = BOX, seed: int = 0) -> Any:
    chosen.check(objectives)
    return chosen.scores(losses, box, objectives, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (WeightedSum({"error": 2.0}), SCALED @ [2, 1]),
        (WeightedExponentialSum({"latency_ms": 3.0}, p=2), SCALED**2 @ [1, 3]),
        (WeightedProduct({"error": 2.0}), [10 * 10 * 4, 20 * 20 * 2, 30 * 30 * 1]),
        (Chebyshev({"error": 2.0}, rho=0.0), [1, 1, 2]),
        (Chebyshev({"error": 2.0}, rho=0.1), [1 + 0.1, 1 + 0.1 * (1 + 1 / 3), 2 + 0.2]),
        (EpsilonConstraint("error", {"latency_ms": 2.0}), [2 + 1 / 2, 0.5, 1.0]),
        (EpsilonConstraint("latency_ms", {"error": 15.0}), [1.0, 2 + 1 / 4, 2 + 1 / 2]),
        (MNasNetReward({"latency_ms": 2.0}, "hard"), [-0.9 / 2, -0.8, -0.7]),
        (MNasNetReward({"latency_ms": 2.0}), [-0.9 * 2**-0.07, -0.8, -0.7 * 2**0.07]),
    ],
)
def test_scores_closed_forms(chosen: Any, expected: Any) -> None:
    found = scores(chosen)
    assert found[:3] == pytest.approx(np.asarray(expected))
    assert found[3] == np.inf


def test_several_targets_and_a_maximised_accuracy() -> None:
    objectives = (Objective("accuracy", maximize=True), Objective("latency_ms"), Objective("params"))
    losses = np.array([[-0.8, 4.0, 10.0], [-0.5, 1.0, 40.0]])
    chosen = MNasNetReward({"latency_ms": 2.0, "params": 20.0}, "hard", accuracy="accuracy")
    assert scores(chosen, losses, objectives, Box.of(losses)) == pytest.approx([-0.4, -0.25])


def test_bounds_of_what_is_maximised() -> None:
    objectives = (Objective("error"), Objective("throughput", maximize=True))
    losses = np.array([[10.0, -100.0], [5.0, -40.0]])
    found = scores(EpsilonConstraint("error", {"throughput": 50.0}), losses, objectives, Box.of(losses))
    assert found[0] == 1.0
    assert found[1] == pytest.approx(2 + 0.2 / 1.2)


@pytest.mark.parametrize("kind", [WeightedSum, WeightedExponentialSum, Chebyshev])
def test_without_weights_every_call_has_a_direction_of_its_own(kind: Callable[[], Any]) -> None:
    """Uniform on the simplex, so either end wins half of the time."""
    ends = np.array([[0.0, 1.0], [1.0, 0.0]])
    first = [int(np.argmin(scores(kind(), ends, box=Box.of(ends), seed=seed))) for seed in range(400)]
    assert 160 < sum(first) < 240


def test_a_loss_of_zero_does_not_stop_a_product() -> None:
    found = scores(WeightedProduct(), np.array([[0.0, 2.0], [1.0, 2.0]]))
    assert 0 < found[0] < found[1]


def test_tables_of_a_study_file() -> None:
    assert set(KINDS) == {
        "weighted_sum", "weighted_exponential_sum", "weighted_product", "chebyshev", "epsilon_constraint",
        "mnasnet",
    }  # fmt: skip
    table = {"kind": "mnasnet", "targets": {"latency_ms": 2.0}, "limit": "hard"}
    assert scalarisation_of(table) == MNasNetReward({"latency_ms": 2.0}, "hard")
    assert scalarisation_of(None) is None
    assert scalarisation_of(WeightedSum()) == WeightedSum()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({}, "scalarisation.kind must be one of weighted_sum, .* but got 'None'"),
        ({"kind": "chebishev"}, "but got 'chebishev'; did you mean 'chebyshev'"),
        ({"kind": "weighted_sum", "rho": 1}, "scalarisation 'weighted_sum': .*rho"),
        ({"kind": "weighted_sum", "weights": {"error": -1}}, "weights must be numbers >= 0 by objective"),
        ({"kind": "weighted_sum", "weights": [1, 2]}, "weights must be numbers >= 0 by objective"),
        ({"kind": "weighted_exponential_sum", "p": 0}, "`0 < p < inf`"),
        ({"kind": "chebyshev", "rho": -1}, "`0 <= rho < inf`"),
        ({"kind": "epsilon_constraint", "objective": "error"}, "bounds"),
        ({"kind": "epsilon_constraint", "objective": "error", "bounds": {}}, "bounds must be finite numbers"),
        (
            {"kind": "epsilon_constraint", "objective": "error", "bounds": {"error": 1}},
            "the objective 'error' must have no bound",
        ),
        ({"kind": "mnasnet", "targets": {"latency_ms": 0}}, "targets must be numbers > 0"),
        ({"kind": "mnasnet", "targets": {"latency_ms": True}}, "targets must be numbers > 0"),
        (
            {"kind": "mnasnet", "targets": {"latency_ms": 1}, "limit": "firm"},
            "limit must be 'soft' or 'hard'",
        ),
        ({"kind": "mnasnet", "targets": {"error": 1}}, "the accuracy 'error' must have no target"),
        ("weighted_sum", "scalarisation must be a table with a kind, but got 'weighted_sum'"),
    ],
)
def test_wrong_settings_are_refused(setting: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scalarisation_of(setting)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (WeightedSum({"eror": 1}), r"must name objectives of the study \(\['error', 'params', 'twos'\]\)"),
        (MNasNetReward({"latency_ms": 2.0}), "but got 'latency_ms'"),
        (MNasNetReward({"twos": 2.0}), r"targets must be of what is minimised, but \['twos'\] are maximised"),
        (EpsilonConstraint("params", {"top": 1.0}), "but got 'top'"),
        (WeightedProduct(), r"losses > 0, but \['twos'\] are maximised"),
        (WeightedSum({"error": 0, "params": 0, "twos": 0}), "weights must not all be 0"),
    ],
)
def test_what_does_not_fit_the_study_is_refused_at_its_start(chosen: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(RegularizedEvolution(scalarisation=chosen), OBJECTIVES[3])


def test_one_compromise_is_searched_for() -> None:
    """The best by the scalarisation is better than that of searches for the ends of the front."""
    wanted = EpsilonConstraint("error", {"params": 700_000.0})

    def best(searcher: Any) -> float:
        search = make(searcher)
        run(search, 120)
        losses = search.losses(search.trials)
        return float(np.mean(np.sort(losses[losses[:, 1] <= 700_000.0, 0])[:5]))

    for kind in (RegularizedEvolution, SimulatedAnnealing):
        size = {"population": 20, "sample": 5} if kind is RegularizedEvolution else {}
        assert best(kind(**size, scalarisation=wanted)) < best(
            kind(**size, scalarisation=WeightedSum({"error": 0}))
        )


def test_a_study_file_says_it(tmp_path: Path) -> None:
    table = {"kind": "mnasnet", "targets": {"params": 5_000.0}}
    given = tables() | {
        "searcher": {"name": "regularized_evolution", "population": 3, "scalarisation": table}
    }
    with Study.create(tmp_path / "study", given) as study:
        study.run(3)
    with Study.open(tmp_path / "study") as study:
        chosen: Any = bound(study._search._searcher.scalarisation, study._search.context)
        assert chosen == MNasNetReward({"params": 5_000.0})
        assert study.verify() is None
    table["targets"] = {"latency_ms": 1.0}  # no objective of this study
    with pytest.raises(SettingsError, match="searcher 'regularized_evolution': a scalarisation must name"):
        Study.create(tmp_path / "other", given)
    assert scalarisation.SOFT == (-0.07, -0.07)
