"""Training: schedules, augmentation, exact continuation, checkpoints, divergence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from nas.data import load, prepare
from nas.protocols import Diverged, Trainer
from nas.settings import Augmentation, DataSettings, SettingsError, TrainingSettings
from nas.trainer import SupervisedTrainer, augmented, evaluate, lr_share, moved, reach, seeded

Data = tuple[Tensor, Tensor]


def network(classes: int = 3, channels: int = 1, width: int = 4) -> nn.Module:
    """All that carries state: batch norm, dropout, a bias."""
    with seeded(5):
        return nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(8 * width, classes),
        )


def data(n: int, seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 8, 8, generator=generator), torch.arange(n) % 3


def trainer(
    settings: TrainingSettings | None = None, horizon: int = 9, augment: Augmentation = "shift+flip"
) -> SupervisedTrainer:
    return SupervisedTrainer(
        data(70), data(20, 1), settings or TrainingSettings(batch_size=16), horizon, augment
    )


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    for (name, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


# --- schedules --------------------------------------------------------------------------------------


def test_cosine_closed_form() -> None:
    assert [lr_share("cosine", step, 4) for step in range(4)] == pytest.approx(
        [(1 + math.cos(math.pi * time)) / 2 for time in (1 / 8, 3 / 8, 5 / 8, 7 / 8)]
    )
    assert lr_share("cosine", 0, 1) == pytest.approx(0.5)


def test_one_cycle_rises_from_a_25th_peaks_at_30_percent_and_falls_to_nothing() -> None:
    shares = [lr_share("one-cycle", step, 1000) for step in range(1000)]
    assert shares[0] == pytest.approx(0.04, abs=0.002) and shares[-1] == pytest.approx(0, abs=1e-4)
    assert max(range(1000), key=shares.__getitem__) in (299, 300)
    assert max(shares) == pytest.approx(1, abs=0.002)
    assert shares[:300] == sorted(shares[:300]) and shares[300:] == sorted(shares[300:], reverse=True)
    assert shares[649] + shares[650] == pytest.approx(1)  # half-way down


def test_the_optimizer_steps_with_the_scheduled_lr(tmp_path: Path) -> None:
    """One bias that only ever sees gradient 1/2, -1/2 moves by the sum of the learning rates."""

    class Bias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.b = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:  # its derivative of the loss is -1, whatever b
            zero = (self.b - self.b.detach()) * 2
            return torch.stack([zero, torch.zeros_like(zero)]).expand(len(x), 2)

    settings = TrainingSettings("sgd", "cosine", 2, 0.1, 0.0, 0.01, 0.0, None)
    few = (torch.zeros(6, 1), torch.zeros(6, dtype=torch.int64))
    model = Bias()
    curve = SupervisedTrainer(few, few, settings, 4).fit(model, {}, 4, 0, tmp_path / "c")
    lrs = [0.1 * lr_share("cosine", step, 12) for step in range(12)]
    assert model.b.item() == pytest.approx(sum(lrs))
    assert [entry["lr"] for entry in curve] == [lrs[2], lrs[5], lrs[8], lrs[11]]
    assert curve[0]["train_loss"] == pytest.approx(math.log(2)) and curve[0]["epoch"] == 1


# --- augmentation -------------------------------------------------------------------------------------


def test_moved_against_a_loop_over_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 3, 16, 9, generator=generator)
    down = torch.randint(-reach(16), reach(16) + 1, (12,), generator=generator)
    right = torch.randint(-reach(9), reach(9) + 1, (12,), generator=generator)
    flip = torch.rand(12, generator=generator) < 0.5
    want = torch.zeros_like(x)
    for i in range(12):
        image = x[i].flip(-1) if flip[i] else x[i]
        for row in range(16):
            for column in range(9):
                from_row, from_column = row - int(down[i]), column - int(right[i])
                if 0 <= from_row < 16 and 0 <= from_column < 9:
                    want[i, :, row, column] = image[:, from_row, from_column]
    assert torch.equal(moved(x, down, right, flip), want)
    assert len(set(down.tolist())) == 5 and len(set(right.tolist())) == 3 and 0 < flip.sum() < 12


def test_augmented_draws_every_shift_and_half_the_flips() -> None:
    side = 16
    x = torch.zeros(4000, 1, side, side)
    x[:, :, 8, 3] = 1  # one lit pixel off the middle
    with seeded(0):
        places = augmented(x, "shift+flip").flatten(1).argmax(1)
        unflipped = augmented(x, "shift").flatten(1).argmax(1)
    columns = places % side
    assert set((places // side).tolist()) == {6, 7, 8, 9, 10}
    assert set(columns.tolist()) == {1, 2, 3, 4, 5, 10, 11, 12, 13, 14}
    assert (columns > 7).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert set((unflipped % side).tolist()) == {1, 2, 3, 4, 5}
    vectors = torch.randn(4, 7)
    assert augmented(vectors, "none") is vectors


def test_seeded_restores_the_global_generator() -> None:
    torch.default_generator.manual_seed(1)
    expected = torch.rand(3)
    torch.default_generator.manual_seed(1)
    with seeded(7):
        one = torch.rand(3)
    with pytest.raises(RuntimeError), seeded(7):
        assert torch.equal(torch.rand(3), one)
        raise RuntimeError
    assert torch.equal(torch.rand(3), expected)


# --- continuation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        TrainingSettings("sgd", "one-cycle", 16),
        TrainingSettings("adamw", "cosine", 16, lr=0.01),
        TrainingSettings("sgd", "cosine", 16, momentum=0.0, clip=None),
    ],
)
def test_1_3_9_epochs_are_bit_identical_to_9(tmp_path: Path, settings: TrainingSettings) -> None:
    at_once, expected = network(), trainer(settings)
    curve = expected.fit(at_once, {"lr": 0.02}, 9, 4, tmp_path / "one")
    for epochs in (1, 3, 9):
        model = network()  # as in a new process
        torch.default_generator.manual_seed(epochs)  # whatever the global state is
        part = trainer(settings).fit(model, {"lr": 0.02}, epochs, 4, tmp_path / "rungs")
        assert part == curve[:epochs]
    assert_same_weights(model, at_once)
    assert (tmp_path / "rungs").read_bytes() == (tmp_path / "one").read_bytes()


def test_another_seed_is_another_training(tmp_path: Path) -> None:
    one, other = (trainer().fit(network(), {}, 1, seed, tmp_path / str(seed)) for seed in (1, 2))
    assert one != other


def test_a_kill_in_the_middle_of_a_rung_loses_only_that_rung(tmp_path: Path) -> None:
    expected = network()
    curve = trainer().fit(expected, {}, 9, 4, tmp_path / "one")
    trainer().fit(network(), {}, 3, 4, tmp_path / "rungs")
    rung = (tmp_path / "rungs").read_bytes()

    @contextmanager
    def power_cut() -> Iterator[None]:
        epochs.append(len(epochs))
        if len(epochs) == 4:
            raise KeyboardInterrupt
        yield

    epochs: list[int] = []
    doomed = SupervisedTrainer(
        data(70), data(20, 1), TrainingSettings(batch_size=16), 9, "shift+flip", power_cut
    )
    with pytest.raises(KeyboardInterrupt):
        doomed.fit(network(), {}, 9, 4, tmp_path / "rungs")
    assert (tmp_path / "rungs").read_bytes() == rung
    (tmp_path / "rungs.partial").write_bytes(rung[:100])  # killed while writing

    model = network()
    assert trainer().fit(model, {}, 9, 4, tmp_path / "rungs") == curve
    assert_same_weights(model, expected)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one", "rungs"]


def test_a_finished_rung_is_loaded_and_nothing_is_trained(tmp_path: Path) -> None:
    trained = network()
    curve = trainer().fit(trained, {}, 2, 4, tmp_path / "c")
    stamp = (tmp_path / "c").stat().st_mtime_ns
    seen: list[object] = []
    again = SupervisedTrainer(
        data(70), data(20, 1), TrainingSettings(batch_size=16), 9, "shift+flip", log=seen.append
    )
    model = network()
    assert again.fit(model, {}, 2, 4, tmp_path / "c") == curve and not seen
    assert_same_weights(model, trained)
    assert (tmp_path / "c").stat().st_mtime_ns == stamp
    assert again.fit(model, {}, 4, 4, tmp_path / "c")[2:] == seen


@pytest.mark.parametrize("damage", ["cut short", "empty", "noise", "no header"])
def test_a_broken_checkpoint_starts_anew(tmp_path: Path, damage: str) -> None:
    path, expected = tmp_path / "c", network()
    curve = trainer().fit(expected, {}, 2, 4, path)
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut short": content[:-10],
            "empty": b"",
            "noise": b"\xff" * 100,
            "no header": (2).to_bytes(8, "little") + b"{}",
        }[damage]
    )
    model = network()
    assert trainer().fit(model, {}, 2, 4, path) == curve
    assert_same_weights(model, expected)


def test_a_checkpoint_is_one_safetensors_file_that_says_what_it_is(tmp_path: Path) -> None:
    model = network()
    trainer().fit(model, {"lr": 0.05}, 1, 4, tmp_path / "trial" / "c.safetensors")
    with safe_open(tmp_path / "trial" / "c.safetensors", framework="pt") as file:
        assert '"lr": 0.05' in file.metadata()["training"]
        assert torch.equal(file.get_tensor("model.0.weight"), model[0].weight)
        names = set(file.keys())
    assert sum(name.startswith("optimizer.") for name in names) == len(list(model.parameters()))


def test_tied_weights_survive(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        with seeded(6):
            shared = nn.Linear(3, 3)
        return nn.Sequential(network(), shared, nn.ReLU(), shared)

    at_once, model = tied(), tied()
    trainer().fit(at_once, {}, 3, 4, tmp_path / "one")
    trainer().fit(tied(), {}, 1, 4, tmp_path / "rungs")
    trainer().fit(model, {}, 3, 4, tmp_path / "rungs")
    assert_same_weights(model, at_once)


def test_wrong_calls(tmp_path: Path) -> None:
    trainer().fit(network(), {}, 2, 4, tmp_path / "c")
    with pytest.raises(ValueError, match=r"must not be fewer .*epochs=1, trained=2.*ask for more"):
        trainer().fit(network(), {}, 1, 4, tmp_path / "c")
    with pytest.raises(ValueError, match="must be a checkpoint of"):
        trainer().fit(network(), {"lr": 0.3}, 2, 4, tmp_path / "c")
    with pytest.raises(ValueError, match=r"`1 <= epochs <= horizon` .*epochs=10, horizon=9"):
        trainer().fit(network(), {}, 10, 4, tmp_path / "c")
    with pytest.raises(ValueError, match=r"got \['depth'\]"):
        trainer().fit(network(), {"depth": 3}, 2, 4, tmp_path / "c")
    with pytest.raises(SettingsError, match=r"0 < training\.lr < inf"):
        trainer().fit(network(), {"lr": -1.0}, 2, 4, tmp_path / "c")


# --- the loop -----------------------------------------------------------------------------------------


def test_an_epoch_against_a_plain_loop(tmp_path: Path) -> None:
    """SGD with Nesterov momentum (Sutskever et al. 2013, as PyTorch writes it), by hand."""
    (x, y), lr, mu, decay = data(8), 0.1, 0.9, 0.01

    def linear() -> nn.Module:
        with seeded(0):
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    settings = TrainingSettings("sgd", "cosine", 64, lr, mu, decay, 0.1, 0.5)
    model, plain = linear(), linear()
    SupervisedTrainer((x, y), (x, y), settings, 3).fit(model, {}, 3, 0, tmp_path / "c")
    params = list(plain.parameters())
    buffers = [torch.zeros_like(param) for param in params]
    smoothed = torch.full((8, 3), 0.1 / 3)
    smoothed[torch.arange(8), y] += 0.9
    for step in range(3):
        loss = -(smoothed * plain(x).log_softmax(1)).sum(1).mean()
        gradients = torch.autograd.grad(loss, params)
        norm = torch.sqrt(sum((g**2).sum() for g in gradients))
        rate = lr * (1 + math.cos(math.pi * (step + 0.5) / 3)) / 2
        with torch.no_grad():
            for param, gradient, buffer in zip(params, gradients, buffers, strict=True):
                step_gradient = gradient * min(1, 0.5 / norm) + (decay if param.ndim > 1 else 0) * param
                buffer.mul_(mu).add_(step_gradient)
                param.sub_(rate * (step_gradient + mu * buffer))
    for got, want in zip(model.parameters(), params, strict=True):
        assert torch.allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_norms_and_biases_do_not_decay(tmp_path: Path, optimizer: str) -> None:
    settings = TrainingSettings(optimizer, batch_size=16, lr=1e-3, weight_decay=0.0)
    with_decay, without = network(), network()
    for param in (*with_decay.parameters(), *without.parameters()):
        if param.ndim == 1:
            nn.init.ones_(param)
    trainer(settings).fit(without, {}, 1, 0, tmp_path / "a")
    trainer(settings).fit(with_decay, {"weight_decay": 300.0}, 1, 0, tmp_path / "b")
    for one, other in zip(with_decay.parameters(), without.parameters(), strict=True):
        shrunk = one.norm() < 0.95 * other.norm()
        assert shrunk == (one.ndim > 1)


def test_the_turn_is_held_for_each_epoch(tmp_path: Path) -> None:
    events: list[str] = []

    @contextmanager
    def turn() -> Iterator[None]:
        events.append("enter")
        yield
        events.append("leave")

    SupervisedTrainer(
        data(70),
        data(20),
        TrainingSettings(),
        3,
        turn=turn,
        log=lambda entry: events.append(str(entry["epoch"])),
    ).fit(network(), {}, 2, 0, tmp_path / "c")
    assert events == ["enter", "leave", "1", "enter", "leave", "2"]


def test_divergence_is_reported_with_epoch_and_lr(tmp_path: Path) -> None:
    settings = TrainingSettings("sgd", "cosine", 16, clip=None)
    with pytest.raises(
        Diverged, match=r"training loss must be finite, but got (nan|inf) in epoch 1 at lr .*e\+"
    ):
        trainer(settings).fit(network(), {"lr": 1e30}, 9, 0, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    broken = torch.full((4, 1, 8, 8), math.nan), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(Diverged, match=r"validation loss must be finite, but got nan in epoch 1 at lr"):
        SupervisedTrainer(data(70), broken, TrainingSettings(), 3).fit(network(), {}, 1, 0, tmp_path / "c")


def test_a_single_small_batch_is_used_and_a_last_one_dropped(tmp_path: Path) -> None:
    seen: list[int] = []
    model = network()
    model.register_forward_pre_hook(
        lambda module, args: seen.append(len(args[0])) if module.training else None
    )
    SupervisedTrainer(data(5), data(4), TrainingSettings(), 1).fit(model, {}, 1, 0, tmp_path / "a")
    SupervisedTrainer(data(70), data(4), TrainingSettings(batch_size=32), 1).fit(
        model, {}, 1, 0, tmp_path / "b"
    )
    assert seen == [5, 32, 32]


def test_evaluate_against_one_pass_and_restores_the_mode() -> None:
    model, (x, y) = network(), data(2500)
    for mode in (True, False):
        model.train(mode)
        got = evaluate(model, x, y)
        assert model.training == mode
    with torch.no_grad():
        logits = model(x)
    assert got["loss"] == pytest.approx(nn.functional.cross_entropy(logits, y).item(), rel=1e-5)
    assert got["error"] == 100 * (logits.argmax(1) != y).sum().item() / 2500
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_satisfies_the_protocol() -> None:
    role: Trainer = trainer()
    assert role


def test_learns_digits_in_seconds(tmp_path: Path) -> None:
    info = prepare(DataSettings(), 0, tmp_path / "data")
    parts = [load(tmp_path / "data", part, torch.device("cpu")) for part in ("train", "validation")]
    model = network(len(info.classes), width=12)
    curve = SupervisedTrainer(*parts, TrainingSettings(batch_size=32), 8, "shift").fit(
        model, {}, 8, 0, tmp_path / "c"
    )
    assert curve[-1]["error"] < 6
    assert evaluate(model, *parts[1])["error"] == curve[-1]["error"]
