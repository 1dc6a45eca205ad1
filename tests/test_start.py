"""What a candidate's configurations begin with: inherited, distilled, with momentum, once for all of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas import Failure, Result, Study
from nas.data import load
from nas.evaluator import Task, evaluate
from nas.settings import TrainingSettings
from nas.start import DISTILLED, FILE, Lender, Start, started
from nas.trainer import SupervisedTrainer
from nas.trial import Proposal
from nas.weights import WeightsError, load_model, momentum_file
from tests.studies import tables


@pytest.fixture(scope="module")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A study of two trained candidates that keeps momentum; its folder is not written into."""
    folder = tmp_path_factory.mktemp("lent") / "study"
    given = tables() | {"training": {"inherit": "weights+momentum"}}
    with Study.create(folder, given) as study:
        study.run(2)
        yield study


def trainer_of(study: Study) -> SupervisedTrainer:
    train, validation = (
        load(study.folder / "data", part, torch.device("cpu")) for part in ("train", "validation")
    )
    return SupervisedTrainer(train, validation, TrainingSettings(), 3)


def lender_of(study: Study, trial_id: int = 0) -> Lender:
    trial = study.trials[trial_id]
    assert isinstance(trial.outcome, Result) and trial.outcome.weights is not None
    return Lender(trial.architecture, trial.outcome.weights, trial.outcome.weights_sha256)


def begin(study: Study, architecture: Any, scratch: Path, distill: int = 0, **changes: Any) -> Start:
    lender = replace(lender_of(study), **changes)
    scratch.mkdir(exist_ok=True)
    return started(architecture, lender, study.space, trainer_of(study), study.folder, scratch, 3, 7, distill)


def children(study: Study) -> tuple[Any, Any]:
    """A child with a larger function-preserving kernel or width, and one with a layer less or changed."""
    space: Any = study.space
    parent = study.trials[0].architecture
    kept = changed = None
    for child in space.neighbors(parent):
        note = begin(study, child, study.folder.parent / "probe").note
        shutil.rmtree(study.folder.parent / "probe")
        if note.endswith("function kept") and not note.startswith("the same"):
            kept = child
        if note.endswith("function changed"):
            changed = child
        if kept is not None and changed is not None:
            return kept, changed
    raise AssertionError("the parent has no such neighbours")


def logits(study: Study, architecture: Any, weights: Any) -> torch.Tensor:
    model = study.space.build(study.space.canonical(architecture))
    model.load_state_dict(weights)
    with torch.no_grad():
        return model.eval()(trainer_of(study).validation[0])


def test_distillation_only_where_the_function_changed_and_brings_it_nearer(
    lent: Study, tmp_path: Path
) -> None:
    kept, changed = children(lent)
    parent = load_model(lent.space, lent.trials[0].architecture, lent.folder / lender_of(lent).weights)
    with torch.no_grad():
        wanted = parent(trainer_of(lent).validation[0])
    exact = begin(lent, kept, tmp_path / "kept", distill=3)
    assert exact.distilled == 0
    assert not (tmp_path / "kept" / DISTILLED).exists()
    assert torch.allclose(logits(lent, kept, exact.weights), wanted, atol=1e-4)
    before = begin(lent, changed, tmp_path / "before")
    after = begin(lent, changed, tmp_path / "after", distill=3)
    assert (before.distilled, after.distilled) == (0, 3)
    assert after.note.endswith("distilled for 3 epoch(s)")
    away = [float((logits(lent, changed, s.weights) - wanted).square().mean()) for s in (before, after)]
    assert away[1] < 0.5 * away[0]


def test_what_still_agrees_with_the_parent_is_frozen(lent: Study, tmp_path: Path) -> None:
    _, changed = children(lent)
    before = begin(lent, changed, tmp_path / "before").weights
    after = begin(lent, changed, tmp_path / "after", distill=1).weights
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("stem.")} <= same  # nothing comes before the stem
    assert any(name.startswith("head.") for name in before.keys() - same)


def test_a_start_is_made_once_and_read_again(
    lent: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, changed = children(lent)
    first = begin(lent, changed, tmp_path / "s", distill=1)
    monkeypatch.setattr("nas.start.load_model", None)  # calling it would fail
    again = begin(lent, changed, tmp_path / "s", distill=1)
    assert (again.share, again.distilled, again.note) == (first.share, first.distilled, first.note)
    assert again.weights.keys() == first.weights.keys()
    assert all(torch.equal(again.weights[name], first.weights[name]) for name in first.weights)
    assert {n: list(k) for n, k in again.momentum.items()} == {n: list(k) for n, k in first.momentum.items()}
    monkeypatch.undo()
    path = tmp_path / "s" / FILE
    path.write_bytes(path.read_bytes()[:-50])  # broken: made anew, the same
    anew = begin(lent, changed, tmp_path / "s", distill=1)
    assert all(torch.equal(anew.weights[name], first.weights[name]) for name in first.weights)


def test_a_distillation_that_diverges_is_undone(lent: Study, tmp_path: Path) -> None:
    _, changed = children(lent)
    before = begin(lent, changed, tmp_path / "before").weights
    lender, trainer = lender_of(lent), trainer_of(lent)
    wild = replace(trainer, settings=TrainingSettings(lr=1e30, clip=None))
    (tmp_path / "wild").mkdir()
    start = started(changed, lender, lent.space, wild, lent.folder, tmp_path / "wild", 3, 7, 2)
    assert start.distilled == 0
    assert all(torch.equal(start.weights[name], before[name]) for name in before)


def test_momentum_comes_through_the_same_map(lent: Study, tmp_path: Path) -> None:
    path = lent.folder / lender_of(lent).weights
    assert momentum_file(path).exists()
    kept, _ = children(lent)
    start = begin(lent, kept, tmp_path / "m")
    module = lent.space.build(lent.space.canonical(kept))
    shapes = {name: p.shape for name, p in module.named_parameters()}
    assert set(start.momentum) == set(shapes)
    assert all(start.momentum[name]["momentum_buffer"].shape == shape for name, shape in shapes.items())
    moved = sum(float(kinds["momentum_buffer"].abs().sum()) for kinds in start.momentum.values())
    assert moved > 0
    same = begin(lent, lent.trials[0].architecture, tmp_path / "same")  # the parent's own, unchanged
    from safetensors.torch import load_file

    old = load_file(momentum_file(path))
    for name in shapes.keys() & same.momentum.keys():
        if f"momentum_buffer:{name}" in old:
            assert torch.equal(same.momentum[name]["momentum_buffer"], old[f"momentum_buffer:{name}"])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_begins_with_the_momentum_it_is_given(tmp_path: Path, optimizer: Any) -> None:
    """One step from a state and one step of a run that has come to it are the same."""
    x, y = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3
    settings = TrainingSettings(optimizer, "cosine", 64, lr=0.01, label_smoothing=0.0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    trainer = SupervisedTrainer((x, y), (x, y), settings, 2)
    trainer.fit(net, {}, 1, 0, tmp_path / "one")
    from nas.trainer import recorded_momentum

    momentum = recorded_momentum(tmp_path / "one", net)
    assert set(momentum) == {"1.weight", "1.bias"}
    twins = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)) for _ in range(2)]
    for twin in twins:
        twin.load_state_dict(net.state_dict())
    replace(trainer, momentum=momentum).fit(twins[0], {}, 1, 0, tmp_path / "with")
    trainer.fit(twins[1], {}, 1, 0, tmp_path / "without")
    state = recorded_momentum(tmp_path / "with", net)
    kind = "momentum_buffer" if optimizer == "sgd" else "exp_avg"
    beta = 0.9
    fresh = recorded_momentum(tmp_path / "without", net)
    for name in momentum:  # the same gradient on top of what was there (Adam's fresh average starts at 0 too)
        assert torch.allclose(state[name][kind], beta * momentum[name][kind] + fresh[name][kind], atol=1e-6)
    assert not torch.equal(twins[0][1].weight, twins[1][1].weight)


# --- through the evaluator --------------------------------------------------------------------------------


def task_of(study: Study, architecture: Any, lender: Lender | None) -> Task:
    proposal = Proposal(architecture, (0,), "mutate")
    return Task(7, proposal, study.settings, str(study.folder), "scratch/00007", {}, lender)


def test_a_child_counts_its_distillation_and_says_what_it_took_over(lent: Study, tmp_path: Path) -> None:
    shutil.copytree(lent.folder, tmp_path / "study")
    with Study.open(tmp_path / "study") as study:
        _, changed = children(study)
        outcome = evaluate(task_of(study, changed, lender_of(study)))
        assert isinstance(outcome, Result)
        assert outcome.cost["epochs_distilled"] == 1
        assert outcome.cost["epochs"] == 3 + 2 + 6 + 1
        assert outcome.cost["epochs_lost"] == 0
        assert 0 < outcome.inherited <= 1
        assert outcome.note.endswith("distilled for 1 epoch(s)")
        again = evaluate(task_of(study, changed, lender_of(study)))
        assert isinstance(again, Result)
        assert (again.weights_sha256, again.note) == (outcome.weights_sha256, outcome.note)


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_parent_without_weights_is_named_and_the_child_starts_from_nothing(
    lent: Study, tmp_path: Path, damage: str
) -> None:
    shutil.copytree(lent.folder, tmp_path / "study")
    with Study.open(tmp_path / "study") as study:
        lender = lender_of(study)
        path = study.folder / lender.weights
        path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-9])
        kept, _ = study.space.neighbors(study.trials[0].architecture)[:2]
        with pytest.raises(WeightsError):
            begin(study, kept, tmp_path / "s")
        outcome = evaluate(task_of(study, kept, lender))
        assert not isinstance(outcome, Failure)
        assert isinstance(outcome, Result)
        assert outcome.inherited == 0
        assert outcome.note.startswith("started from nothing: weights file ")
