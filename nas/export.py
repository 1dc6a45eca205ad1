"""Trained candidates as files to deploy, each reloaded from disk and compared with the trained model.

Importing this module loads no torch; exporting does.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.architecture import Architecture
from nas.data import DataInfo, read_info
from nas.data import load as load_data
from nas.formats import ARCHITECTURE, CHECK, FORMATS, ExportError, Format, load
from nas.protocols import SearchSpace
from nas.report.picture import svg
from nas.selection import state
from nas.trial import Result, Trial
from nas.weights import WeightsError, file_sha256, load_model

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Validation = tuple[Tensor, Tensor]
    from nas.formats import Recipe, Run

__all__ = [
    "Check",
    "ExportError",
    "Exported",
    "export_transferred",
    "export_trial",
    "export_trials",
    "failures",
    "load",
    "transfer",
]

STAGING = ".partial"
PICTURE = "architecture.svg"
BATCH_SIZES = (1, 4, 7)
"""An artefact must run at each of these, and at `BATCH` and what is left, over the validation part."""
BATCH = 256
UNTRAINED = 1e-3
"""Largest relative difference of an untrained network's logits, whose rounding errors nothing has tamed."""


@dataclass(frozen=True)
class Check:
    """How a file, reloaded from disk, compares with the trained model.

    Attributes:
        file: its name in the folder of the trial; `<file>.failed` if not ok.
        max_difference: largest |difference| of the logits; None if it could not be found or is not finite.
        relative_difference: the same, divided by the largest |logit| of the trained model.
        error: percent of the validation images that the reloaded file gets wrong.
        ok: whether the file runs at all batch sizes and agrees.
        message: why not, naming the file; empty if ok.
    """

    file: str
    max_difference: float | None = None
    relative_difference: float | None = None
    error: float | None = None
    ok: bool = False
    message: str = ""


@dataclass(frozen=True)
class Exported:
    """What became of a trial's export.

    Attributes:
        folder: of the trial; it is left as it was if `message` is not empty.
        checks: one a format.
        message: why there was nothing to export, e.g. that the weights are gone.
    """

    trial_id: int
    folder: Path
    checks: tuple[Check, ...] = ()
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether every file was written and agrees."""
        return not self.message and all(check.ok for check in self.checks)


def failures(exported: Sequence[Exported]) -> list[str]:
    """One line for each trial and file that failed; empty if all is well."""
    return [
        message
        for trial in exported
        for message in (trial.message, *(check.message for check in trial.checks))
        if message
    ]


# --- exporting -------------------------------------------------------------------------------------


def export_trials(
    trials: Sequence[Trial],
    space: SearchSpace,
    study_folder: Path,
    out: Path,
    validation: Validation | None = None,
    formats: Sequence[str] = tuple(FORMATS),
    space_recipe: Recipe | None = None,
    done: Callable[[Exported], object] | None = None,
) -> list[Exported]:
    """`export_trial` for many: one that fails does not keep the others from being written.

    Args:
        done: called after each trial, e.g. to show progress.

    Returns:
        An entry a trial; see `failures`.

    Raises:
        ValueError, ExportError, nas.data.DataError: as `export_trial`, of what holds for all of them.
    """
    if validation is None:
        validation = _data(study_folder, "validation")
    exported = []
    for trial in trials:
        exported.append(export_trial(trial, space, study_folder, out, validation, formats, space_recipe))
        if done is not None:
            done(exported[-1])
    return exported


def export_trial(
    trial: Trial,
    space: SearchSpace,
    study_folder: Path,
    out: Path,
    validation: Validation | None = None,
    formats: Sequence[str] = tuple(FORMATS),
    space_recipe: Recipe | None = None,
) -> Exported:
    """Writes `out/trial-00042`: the written form and its picture, the network in each format, `check.json`.

    Each file is written under a temporary name, reloaded from there, run on the validation images at
    several batch sizes and compared with the trained model; then it gets its name, or `<name>.failed`.
    `check.json` is written last, so a folder that has it is complete. It replaces an earlier export, but
    for good files of which the new one fails.

    Args:
        study_folder: holds `data/`, and the weights that the trial's result names.
        validation: normalised inputs `float32[n, *input_shape]` and labels `int64[n]`; the study's if None.
        formats: some of "safetensors", "onnx", "pt2".
        space_recipe: name and options that make the space again, for `load`.

    Returns:
        The checks, or why this trial cannot be exported: that is no exception.

    Raises:
        ValueError: there is no such format.
        ExportError: `out` cannot be written.
        nas.data.DataError: the study's data set is broken.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ValueError(f"formats must be of {', '.join(FORMATS)}, but got {unknown}")
    _made(out)
    info = read_info(study_folder / "data")
    if validation is None:
        validation = _data(study_folder, "validation")
    folder = out / f"trial-{trial.id:05d}"
    try:
        kinds = [FORMATS[name] for name in formats]
        checks = _export(trial, space, study_folder, folder, validation, kinds, info, space_recipe)
    except Exception as error:
        message = str(error) if isinstance(error, ExportError) else f"trial {trial.id}: {_text(error)}"
        return Exported(trial.id, folder, message=message)
    return Exported(trial.id, folder, checks)


def _export(
    trial: Trial,
    space: SearchSpace,
    study_folder: Path,
    folder: Path,
    validation: Validation,
    formats: Sequence[Format],
    info: DataInfo,
    space_recipe: Recipe | None,
) -> tuple[Check, ...]:
    result = _result(trial)
    model = _trained(trial, space, study_folder)
    reference = _Reference.of(model, *validation)
    return _write(
        trial,
        space,
        folder,
        model,
        reference,
        formats,
        {name: json.dumps(getattr(info, name)) for name in ("classes", "scale", "mean", "std")},
        {
            "space": space_recipe,
            "values": dict(result.values),
            "hparams": dict(result.hparams),
            "validation_error": reference.error(reference.logits),
            "preprocessing": {
                "input": f"float32 [batch, {', '.join(map(str, info.input_shape))}]",
                "formula": "(x * scale - mean) / std",
                "scale": info.scale,
                "mean": info.mean,
                "std": info.std,
                "classes": info.classes,
            },
        },
    )


def export_transferred(
    trial: Trial,
    space: SearchSpace,
    out: Path,
    seed: int,
    space_recipe: Recipe,
    formats: Sequence[str] = tuple(FORMATS),
) -> Exported:
    """Writes `out/trial-00042`: the trial's architecture as a network of `space`, with first weights.

    The same cells on another template: other inputs, classes, stem, width or depth. It is to be trained;
    its files are checked like those of a trained one, on noise and to `UNTRAINED`.

    Args:
        space: the one to transfer to, of the same family.
        seed: of the weights and of the noise.
        space_recipe: name and options that make `space`.

    Returns:
        The checks, or why this architecture cannot be transferred: that is no exception.

    Raises:
        ExportError: `out` cannot be written.
    """
    import torch

    from nas.trainer import seeded

    folder = _made(out) / f"trial-{trial.id:05d}"
    try:
        arch = transfer(trial.architecture, space)
        moved = replace(trial, proposal=replace(trial.proposal, architecture=arch))
        with seeded(seed):
            model = space.build(space.canonical(arch))
            x = torch.randn(8, *space.input_shape)
        reference = _Reference.of(model.eval(), x, torch.zeros(len(x), dtype=torch.int64))
        report = {"space": space_recipe, "trained": False, "cost": asdict(space.cost(space.canonical(arch)))}
        kinds = [replace(FORMATS[name], tolerance=UNTRAINED) for name in formats]
        return Exported(trial.id, folder, _write(moved, space, folder, model, reference, kinds, {}, report))
    except Exception as error:
        return Exported(trial.id, folder, message=f"trial {trial.id}: {_text(error)}")


def transfer(arch: Architecture, space: SearchSpace) -> Architecture:
    """The same graphs as an architecture of another space of the family, e.g. a cell on another template.

    Args:
        space: its `adopted`, where it has one, says what becomes of an architecture's parameters.

    Raises:
        InvalidArchitecture: `space` does not write such graphs; node and rule are named.
    """
    adopted = getattr(space, "adopted", None)
    moved: Architecture = adopted(arch) if adopted else Architecture(space.name, arch.graphs, arch.params)
    space.check(moved)
    return moved


def _write(
    trial: Trial,
    space: SearchSpace,
    folder: Path,
    model: torch.nn.Module,
    reference: _Reference,
    formats: Sequence[Format],
    metadata: dict[str, str],
    report: dict[str, Any],
) -> tuple[Check, ...]:
    """The files of one network, each reloaded and compared; `check.json` holds `report` and the checks."""
    metadata = {"trial": str(trial.id), "paretonas": version("paretonas"), **metadata}
    staging = folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        (staging / ARCHITECTURE).write_text(trial.architecture.to_json(), encoding="utf-8")
        (staging / PICTURE).write_text(svg(trial.architecture), encoding="utf-8")
        checks = []
        for kind in formats:
            try:
                kind.write(model, reference.batches[1], metadata, staging / kind.file)
                check = reference.check(kind.read(staging, space), folder / kind.file, kind.tolerance)
            except Exception as error:
                message = f"{folder / kind.file} must be written, load and run, but {_text(error)}"
                check = Check(kind.file, message=message)
            if not check.ok and (staging / kind.file).exists():
                (staging / kind.file).replace(staging / f"{kind.file}.failed")
            checks.append(check)
        whole = {
            "trial": trial.id,
            **report,
            "checks": [asdict(check) for check in checks],
            "sha256": {path.name: file_sha256(path) for path in sorted(staging.iterdir())},
            "versions": {name: version(name) for name in ("paretonas", "torch", "onnx", "onnxruntime")},
        }
        (staging / CHECK).write_text(json.dumps(whole, indent=2), encoding="utf-8")
        _replace_files(staging, folder, formats)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return tuple(checks)


def _made(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{out} must be a folder that can be written, but {error}; name another") from error
    return out


def _replace_files(staging: Path, folder: Path, formats: Sequence[Format]) -> None:
    """Moves the files of an export over those of an earlier one, `check.json` last.

    Where a file failed its check, a good one of an earlier export stays.
    """
    for kind in FORMATS.values():
        (folder / f"{kind.file}.failed").unlink(missing_ok=True)
        if kind.file not in {wanted.file for wanted in formats}:
            (folder / kind.file).unlink(missing_ok=True)
    for path in sorted(staging.iterdir(), key=lambda path: path.name == CHECK):
        path.replace(folder / path.name)


@dataclass(frozen=True)
class _Reference:
    """What the trained model says.

    Attributes:
        batches: one of each of `BATCH_SIZES`, then the whole validation part.
        logits: `float32[all images of the batches, classes]`.
        y: labels of the validation part, the last rows of `logits`.
    """

    batches: Sequence[Tensor]
    logits: Tensor
    y: Tensor

    @classmethod
    def of(cls, model: torch.nn.Module, x: Tensor, y: Tensor) -> _Reference:
        import torch

        x = x.cpu()
        small = [x[torch.arange(size) % len(x)] for size in BATCH_SIZES]
        batches = [*small, *torch.split(x, BATCH)]
        return cls(batches, _logits(model, batches), y.cpu())

    def error(self, logits: Tensor) -> float:
        """Percent of the validation images that are wrong."""
        wrong = logits[-len(self.y) :].argmax(1) != self.y
        return 100 * wrong.double().mean().item()

    def check(self, run: Run, path: Path, tolerance: float) -> Check:
        """Compares what was reloaded."""
        logits = _logits(run, self.batches)
        if logits.shape != self.logits.shape:
            raise ExportError(
                f"its logits have shape {list(logits.shape)} instead of {list(self.logits.shape)}"
            )
        difference = (logits - self.logits).abs().max().item()
        relative = difference / max(self.logits.abs().max().item(), 1e-30)
        ok = relative <= tolerance  # False for NaN
        message = (
            f"{path} must agree with the torch model to {tolerance:g} of max |logit|, but differs by "
            f"{relative:.3g} (logits by up to {difference:.3g}); inspect {path.name}.failed"
        )
        return Check(
            file=path.name,
            max_difference=difference if math.isfinite(difference) else None,
            relative_difference=relative if math.isfinite(relative) else None,
            error=self.error(logits),
            ok=ok,
            message="" if ok else message,
        )


def _logits(run: Run, batches: Sequence[Tensor]) -> Tensor:
    import torch

    with torch.no_grad():
        return torch.cat([run(batch) for batch in batches])


def _trained(trial: Trial, space: SearchSpace, study_folder: Path) -> torch.nn.Module:
    """The trained model of a trial; raises `ExportError` or `WeightsError` if there is none."""
    result = _result(trial)
    if result.weights is None:
        raise ExportError(f"trial {trial.id} must name a weights file, but has none; evaluate it again")
    return load_model(space, trial.architecture, study_folder / result.weights, result.weights_sha256)


def _result(trial: Trial) -> Result:
    if not isinstance(trial.outcome, Result):
        raise ExportError(f"trial {trial.id} must have a result, but it {state(trial)}; choose another")
    return trial.outcome


def _data(study_folder: Path, part: Any) -> Validation:
    import torch

    return load_data(study_folder / "data", part, torch.device("cpu"))


def _text(error: Exception) -> str:
    """An error in one line; our own messages need no type in front."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, ExportError | WeightsError) else f"{type(error).__name__}: {text}"


# --- what comes after ------------------------------------------------------------------------------


def error_on_test_part(trial: Trial, space: SearchSpace, study_folder: Path) -> float:
    """Percent of the test images that the trained model gets wrong. To be looked at once, after the search.

    Raises:
        ExportError, WeightsError: the trial has no trained model.
        nas.data.DataError: the study's data set is broken.
    """
    from nas.trainer import evaluate

    return evaluate(_trained(trial, space, study_folder), *_data(study_folder, "test"))["error"]
