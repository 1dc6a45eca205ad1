"""One candidate: trained as the schedule says, continued after a stop, and never a raised exception."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas import Failure, Result, Study
from nas.evaluator import EPOCHS as EPOCHS_LOG
from nas.evaluator import Remeasure, Task, evaluate, remeasure
from nas.protocols import Diverged
from nas.trainer import SupervisedTrainer
from nas.weights import WeightsError, load_model
from tests.studies import EPOCHS, tables


@pytest.fixture
def study(finished_folder: Path, tmp_path: Path) -> Any:
    shutil.copytree(finished_folder, tmp_path / "study")
    with Study.open(tmp_path / "study") as opened:
        yield opened


def task_of(study: Study, trial_id: int = 0, **settings: Any) -> Task:
    return Task(
        trial_id,
        study.trials[trial_id].proposal,
        replace(study.settings, **settings),
        str(study.folder),
        f"scratch/{trial_id:05d}",
        {},
    )


def test_a_stopped_evaluation_goes_on(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at each of its epochs in turn: the same result, and no epoch of a finished rung again."""
    original = SupervisedTrainer._epoch
    stop = 0
    recorded = study.trials[1].outcome
    assert isinstance(recorded, Result)
    trained: list[int] = []

    def stopping(self: SupervisedTrainer, *args: Any) -> Any:
        trained.append(1)
        if len(trained) == stop:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(SupervisedTrainer, "_epoch", stopping)
    for last in range(1, EPOCHS + 1):
        stop = last
        trained.clear()
        with pytest.raises(KeyboardInterrupt):
            evaluate(task_of(study, 1))
        outcome = evaluate(task_of(study, 1))
        assert isinstance(outcome, Result)
        assert outcome.weights_sha256 == recorded.weights_sha256 and outcome.curve == recorded.curve
        assert outcome.cost["epochs"] == EPOCHS
        assert len(trained) == EPOCHS + 1 + outcome.cost["epochs_lost"]  # the stopped epoch, and its rung's
        assert 0 <= outcome.cost["epochs_lost"] < 3
        shutil.rmtree(study.folder / "scratch" / "00001")


def test_what_goes_wrong_is_a_failure(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, kind in (
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "oom"),
        (torch.OutOfMemoryError("CUDA out of memory"), "oom"),
        (MemoryError(), "oom"),
        (Diverged("loss nan"), "nan"),
        (ZeroDivisionError("division by zero"), "crash"),
    ):

        def failing(self: SupervisedTrainer, *args: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(SupervisedTrainer, "fit", failing)
        shutil.rmtree(study.folder / "scratch" / "00000", ignore_errors=True)
        outcome = evaluate(task_of(study))
        assert isinstance(outcome, Failure) and outcome.kind == kind, outcome
        if kind == "crash":
            assert "ZeroDivisionError: division by zero (test_evaluator.py:" in outcome.message


def test_a_diverged_rung_is_not_trained_again(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    original = SupervisedTrainer._epoch
    epochs: list[int] = []

    def diverging(self: SupervisedTrainer, model: Any, optimizer: Any, settings: Any, epoch: int) -> Any:
        epochs.append(epoch)
        entry = original(self, model, optimizer, settings, epoch)
        if settings.lr == study.settings.training.lr:
            return entry
        if epoch == 1:
            raise Diverged("loss nan")
        return {**entry, "error": 99.0}  # the default configuration is the one that is promoted

    monkeypatch.setattr(SupervisedTrainer, "_epoch", diverging)
    outcome = evaluate(task_of(study))
    assert isinstance(outcome, Result)
    # bracket 1 keeps 3, 1 and 1 epochs; each of the two of bracket 0 loses its first one with its second
    assert outcome.cost["epochs"] == 3 + 2 and outcome.cost["epochs_lost"] == 2
    trained = len(epochs)
    assert evaluate(task_of(study)).values == outcome.values and len(epochs) == trained


def test_a_candidate_that_diverges_everywhere(study: Study) -> None:
    settings = replace(study.settings.training, lr=1e30, clip=None, momentum=0.99)
    space = {"weight_decay": study.settings.hyperband.space["weight_decay"]}
    hyperband = replace(study.settings.hyperband, space=space)
    outcome = evaluate(task_of(study, training=settings, hyperband=hyperband))
    assert isinstance(outcome, Failure) and outcome.kind == "nan" and "must be finite" in outcome.message


def test_proposed_epochs_override_the_budget(study: Study) -> None:
    task = task_of(study)
    outcome = evaluate(replace(task, proposal=replace(task.proposal, epochs=1)))
    assert isinstance(outcome, Result) and outcome.cost["epochs"] == 1 and len(outcome.curve) == 1


def test_the_epochs_log_counts_every_epoch(study: Study) -> None:
    assert isinstance(evaluate(task_of(study)), Result)
    assert len((study.folder / "scratch" / "00000" / EPOCHS_LOG).read_text().splitlines()) == EPOCHS


def test_the_trained_model_gives_the_recorded_error(study: Study) -> None:
    from nas.data import load
    from nas.trainer import evaluate as validate

    x, y = load(study.folder / "data", "validation", torch.device("cpu"))
    for trial in study.trials:
        weights, digest = study.folder / trial.outcome.weights, trial.outcome.weights_sha256
        model = load_model(study.space, trial.architecture, weights, digest)
        assert validate(model, x, y)["error"] == trial.values["error"]


def test_broken_weights_are_named(study: Study) -> None:
    trial, other = study.trials[:2]
    path = study.folder / trial.outcome.weights
    digest = trial.outcome.weights_sha256
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"00000\.safetensors must have sha256 .* cut short or changed"):
        load_model(study.space, trial.architecture, path, digest)
    with pytest.raises(WeightsError, match=r"00000\.safetensors must hold the network's tensors"):
        load_model(study.space, trial.architecture, path)
    with pytest.raises(WeightsError, match="must hold the network's tensors"):
        load_model(study.space, trial.architecture, study.folder / other.outcome.weights)
    path.unlink()
    with pytest.raises(WeightsError, match="must exist"):
        load_model(study.space, trial.architecture, path, digest)


OWN = """
from nas import Measurement, Objective
def together(subjects):
    return [Measurement(float(sum(p.abs().sum() for p in s.model.parameters()))) for s in subjects]
def weight_norm():
    return Objective("weight_norm", measure=lambda s: together([s])[0], measure_together=together,
                     calibrate=lambda: {"unit": 2.0})
"""


def test_an_objective_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_objective.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    settings = tables(workers=1) | {
        "objectives": [{"name": "error"}, {"name": "own_objective:weight_norm"}],
    }
    with Study.create(tmp_path / "study", settings) as study:
        study.run(2)
        assert study.front() and study.remeasured() == {
            t.id: {"weight_norm": t.values["weight_norm"]} for t in study.front()
        }
        assert study.remeasure_failure() is None
        trial = study.front()[0]
        (study.folder / trial.outcome.weights).unlink()
        gone = remeasure(
            Remeasure(
                ((trial.id, trial.architecture, trial.outcome.weights),),
                "weight_norm",
                study.settings,
                str(study.folder),
                {},
            )
        )
        assert isinstance(gone, Failure) and "must exist" in gone.message
    sys.modules.pop("own_objective", None)
