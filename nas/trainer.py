"""Supervised training of one network on data that live on the device as one tensor.

Epoch e draws all its randomness from (seed, e) and the learning rate is a function of the step, so a
training continued from a checkpoint goes on bit for bit (on one machine's CPU and thread count).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from nas.architecture import Scalar
from nas.device import unshared
from nas.protocols import Diverged
from nas.seeding import Purpose, integer_seed
from nas.settings import Augmentation, TrainingSettings

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class SupervisedTrainer:
    """A `nas.protocols.Trainer` that minimises cross entropy.

    Attributes:
        train, validation: normalised inputs `float32[n, *input_shape]` and labels `int64[n]`, on one device.
        settings: the defaults of what `hparams` may override.
        horizon: epochs of the full schedule of learning rates, Hyperband's R.
        augment: what training batches go through, if they are images.
        turn: entered around each epoch, to wait while others need the machine alone.
        log: called with each new entry of the curve.
        teacher: a network, in eval mode on the data's device, whose logits are to be matched (mean squared
            error, Ba & Caruana 2014) instead of the labels; None to learn the labels.
        frozen: layers, by name, that stay as they are, running statistics too.
        momentum: what the optimizer's state starts from, by parameter and kind ("momentum_buffer", "exp_avg"
            …); parameters that are missing start from nothing.
    """

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    settings: TrainingSettings
    horizon: int
    augment: Augmentation = "none"
    turn: Callable[[], AbstractContextManager[None]] = unshared
    log: Callable[[Metrics], object] | None = None
    teacher: nn.Module | None = None
    frozen: frozenset[str] = frozenset()
    momentum: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def fit(
        self, model: nn.Module, hparams: Mapping[str, Scalar], epochs: int, seed: int, checkpoint: Path
    ) -> Sequence[Metrics]:
        """Trains `model` until `epochs` are done, from `checkpoint` if there is one, and renews that file.

        The checkpoint is written once, after the last epoch asked for: what a kill interrupts is trained
        again. If it already has `epochs`, its weights are loaded and nothing is trained. A broken one is
        deleted and training starts anew.

        Args:
            model: with the weights to start from; trained in place, moved to the data's device.
            hparams: override lr, momentum (beta1 of AdamW), weight_decay, label_smoothing of the settings.
            epochs: in all, counted from the very first; at most `horizon`.
            seed: of shuffling, augmentation and dropout.
            checkpoint: a safetensors file of this configuration alone, the same for all its rungs.

        Returns:
            An entry an epoch: "epoch" (from 1), "lr" (of its last step), "train_loss" (smoothed labels),
            "validation_loss" and "error" (percent of the validation part).

        Raises:
            Diverged: a loss is not finite; the checkpoint is left as it was.
            ValueError: a wrong hyperparameter or number of epochs, or the checkpoint is of another
                configuration or has more epochs than asked for.
        """
        if not 1 <= epochs <= self.horizon:
            raise ValueError(
                f"`1 <= epochs <= horizon` must hold, but got ({epochs=}, horizon={self.horizon})"
            )
        if unknown := set(hparams) - set(TrainingSettings.TUNABLE):
            raise ValueError(f"hparams must be of {TrainingSettings.TUNABLE}, but got {sorted(unknown)}")
        overrides: dict[str, Any] = dict(hparams)
        settings = replace(self.settings, **overrides)
        model.to(self.train[0].device)
        optimizer = _optimizer(model, settings, self.frozen)
        if self.momentum:
            _begin_with(optimizer, _trained(model, self.frozen), self.momentum)
        configuration = {
            "training": asdict(settings),
            "augment": self.augment,
            "horizon": self.horizon,
            "seed": seed,
        }
        curve = _load(checkpoint, model, optimizer, configuration)
        if len(curve) > epochs:
            raise ValueError(
                f"`epochs` must not be fewer than {checkpoint} has, but got ({epochs=}, "
                f"trained={len(curve)}); ask for more, or delete it to train anew"
            )
        if len(curve) < epochs:
            for epoch in range(len(curve), epochs):
                with self.turn(), seeded(integer_seed(seed, Purpose.TRAIN, epoch)):
                    curve.append(self._epoch(model, optimizer, settings, epoch))
                if self.log is not None:
                    self.log(curve[-1])
            _save(checkpoint, model, optimizer, configuration, curve)
        return curve

    def _epoch(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, settings: TrainingSettings, epoch: int
    ) -> Metrics:
        """One pass over the training images; `epoch` counts from 0."""
        x, y = self.train
        batch_size = min(settings.batch_size, len(x))
        steps = len(x) // batch_size  # an incomplete batch at the end is left out
        order = torch.randperm(len(x), device=x.device)
        total = torch.zeros((), device=x.device)
        lr = 0.0
        model.train()
        for name in self.frozen:
            model.get_submodule(name).eval()
        for step in range(steps):
            batch = order[step * batch_size : (step + 1) * batch_size]
            lr = settings.lr * lr_share(settings.schedule, epoch * steps + step, self.horizon * steps)
            for group in optimizer.param_groups:
                group["lr"] = lr
            inputs = augmented(x.index_select(0, batch), self.augment)
            loss = self._loss(model(inputs), inputs, y.index_select(0, batch), settings.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
            total += loss.detach()
        train_loss = _finite(total.item() / steps, "training", epoch, lr)
        metrics = evaluate(model, *self.validation)
        validation_loss = _finite(metrics["loss"], "validation", epoch, lr)
        return {
            "epoch": epoch + 1,
            "lr": lr,
            "train_loss": train_loss,
            "validation_loss": validation_loss,
            "error": metrics["error"],
        }

    def _loss(self, logits: Tensor, x: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        """Of a batch: cross entropy with the labels, or distance to the teacher's logits."""
        if self.teacher is None:
            return F.cross_entropy(logits, y, label_smoothing=label_smoothing)
        with torch.no_grad():
            wanted = self.teacher(x)
        return F.mse_loss(logits, wanted)


def _finite(loss: float, part: str, epoch: int, lr: float) -> float:
    if not math.isfinite(loss):
        raise Diverged(
            f"the {part} loss must be finite, but got {loss} in epoch {epoch + 1} at lr {lr:.3g}; lower lr"
        )
    return loss


@torch.inference_mode()
def evaluate(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """Cross entropy "loss" (mean) and "error" (percent) of `model` in eval mode; its mode is restored.

    Args:
        model: on the device of the data.
        x: `float32[n, *input_shape]`, normalised.
        y: `int64[n]`.
    """
    training = model.training
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=x.device)
    wrong = torch.zeros((), dtype=torch.int64, device=x.device)
    for images, labels in zip(torch.split(x, 1024), torch.split(y, 1024), strict=True):
        logits = model(images)
        loss += F.cross_entropy(logits, labels, reduction="sum")
        wrong += (logits.argmax(1) != labels).sum()
    model.train(training)
    return {"loss": loss.item() / len(y), "error": 100 * wrong.item() / len(y)}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch's global generators (of CUDA too, once in use) and restores them afterwards.

    This is the only place that touches a global generator: `nn.init` and `nn.Dropout` take no other.
    """
    in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if in_use else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield


def lr_share(schedule: str, step: int, total_steps: int) -> float:
    """Learning rate of a step, counted from 0, as a share of its peak: the schedule at the step's middle.

    "cosine" falls from 1 to 0 (SGDR without restarts, Loshchilov & Hutter 2017). "one-cycle" rises
    linearly from 1/25 over the first 30 % of the steps, then falls to 0 as a cosine (Smith & Topin 2018).

    Example:
        >>> [round(lr_share("cosine", step, 3), 3) for step in range(3)]
        [0.933, 0.5, 0.067]
    """
    time = (step + 0.5) / total_steps
    warmup = 0.3 if schedule == "one-cycle" else 0.0
    if time < warmup:
        return 0.04 + 0.96 * time / warmup
    return (1 + math.cos(math.pi * (time - warmup) / (1 - warmup))) / 2


def augmented(x: Tensor, kind: Augmentation) -> Tensor:
    """A batch `[n, C, H, W]`, each image shifted by up to an eighth of its side, and flipped or not."""
    if kind == "none":
        return x
    n, _, height, width = x.shape
    down, right = (
        torch.randint(-reach(side), reach(side) + 1, (n,), device=x.device) for side in (height, width)
    )
    flip = torch.rand(n, device=x.device) < (0.5 if kind == "shift+flip" else 0.0)
    return moved(x, down, right, flip)


def reach(side: int) -> int:
    """The largest shift of augmentation, in pixels."""
    return max(1, side // 8)


def moved(x: Tensor, down: Tensor, right: Tensor, flip: Tensor) -> Tensor:
    """A batch mirrored left to right where `flip`, then moved, zeros (the mean colour) coming in.

    One gather for all images.

    Args:
        x: `[n, C, H, W]`.
        down, right: `int64[n]`, pixels within +-`reach` of H, of W.
        flip: `bool[n]`.
    """
    n, channels, height, width = x.shape
    pad_y, pad_x = reach(height), reach(width)
    image = torch.arange(n, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[:, None, None]
    row = torch.arange(height, device=x.device) - down[:, None]  # [n, H]
    column = torch.arange(width, device=x.device) - right[:, None]  # [n, W]
    column = torch.where(flip[:, None], width - 1 - column, column)
    padded = F.pad(x, (pad_x, pad_x, pad_y, pad_y))
    return padded[image, channel, row[:, None, :, None] + pad_y, column[:, None, None, :] + pad_x]


def _trained(model: nn.Module, frozen: frozenset[str] = frozenset()) -> list[tuple[str, nn.Parameter]]:
    """The parameters that an optimizer has, by name and in its order: what decays comes first."""
    params = [
        (name, param)
        for name, param in model.named_parameters()
        if param.requires_grad and name.rpartition(".")[0] not in frozen
    ]
    return [pair for pair in params if pair[1].ndim > 1] + [pair for pair in params if pair[1].ndim <= 1]


def _optimizer(model: nn.Module, settings: TrainingSettings, frozen: frozenset[str]) -> torch.optim.Optimizer:
    """The optimizer; biases and the scales of norms (all that is not a matrix or a kernel) do not decay."""
    params = [param for _, param in _trained(model, frozen)]
    groups = [
        {"params": [param for param in params if param.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [param for param in params if param.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.999))
    nesterov = settings.momentum > 0
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov)


def _begin_with(
    optimizer: torch.optim.Optimizer,
    params: Sequence[tuple[str, nn.Parameter]],
    momentum: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Gives the optimizer of these parameters a state before its first step."""
    state = {
        i: {kind: tensor.clone() for kind, tensor in momentum[name].items()}
        for i, (name, _) in enumerate(params)
        if name in momentum
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def recorded_momentum(checkpoint: Path, model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """The optimizer's state in a checkpoint of `model`, by parameter and kind, on the CPU.

    Raises:
        OSError, SafetensorError: the file cannot be read.
    """
    found: dict[str, dict[str, Tensor]] = {}
    names = [name for name, _ in _trained(model)]
    with safe_open(checkpoint, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  not a dict
            kind, _, rest = key.partition(".")
            if kind == "optimizer":
                i, _, name = rest.partition(".")
                found.setdefault(names[int(i)], {})[name] = file.get_tensor(key)
    return found


# --- checkpoints: one safetensors file, its header says what it is ---------------------------------


def _save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    configuration: Mapping[str, Any],
    curve: Sequence[Metrics],
) -> None:
    """Writes weights ("model.NAME") and optimizer state ("optimizer.PARAMETER.NAME"), whole or not at all."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in state.items() if torch.is_tensor(value)}
    separate = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    save_file(separate, partial, {"training": json.dumps({"configuration": configuration, "curve": curve})})
    partial.replace(path)


def recorded_curve(checkpoint: Path) -> list[Metrics]:
    """The learning curve in a checkpoint; empty if there is none or it is broken."""
    try:
        with safe_open(checkpoint, framework="pt") as file:
            curve: list[Metrics] = json.loads(file.metadata()["training"])["curve"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return []
    return curve


def _load(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, configuration: Mapping[str, Any]
) -> list[Metrics]:
    """Loads what `_save` wrote and returns its curve: empty if there is no such file or it is broken."""
    if not path.exists():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
            curve: list[Metrics] = header["curve"]
            trained = header["configuration"]
    except (SafetensorError, KeyError, TypeError, ValueError):
        path.unlink()
        return []
    if trained != configuration:
        raise ValueError(
            f"{path} must be a checkpoint of {configuration}, but got one of {trained}; delete it"
        )
    weights: dict[str, Tensor] = {}
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, name = key.split(".", 1)
        if kind == "model":
            weights[name] = tensor
        else:
            i, name = name.split(".", 1)
            state.setdefault(int(i), {})[name] = tensor
    model.load_state_dict(weights)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return curve
