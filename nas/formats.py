"""The files a trained network is exported as: how each is written, and how a user would load it.

Importing this module loads no torch; writing and reading does.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import registry
from nas.architecture import Architecture
from nas.protocols import SearchSpace
from nas.weights import WeightsError, load_model

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Run = Callable[[Tensor], Tensor]

ARCHITECTURE, WEIGHTS, CHECK = "architecture.json", "weights.safetensors", "check.json"
Recipe = Mapping[str, Any]
"""{"name", "options"} that make a space."""
TOLERANCE = 1e-5
"""Largest difference of the logits, relative to the largest logit of the trained model."""


class ExportError(RuntimeError):
    """A model cannot be exported, or an exported one not be loaded; the message names the file or trial."""


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        write: (model in eval mode, example inputs of more than one image, metadata, path) -> None.
        read: (folder, space) -> logits of a batch, in the way a user would load the file.
        tolerance: as `TOLERANCE`.
    """

    file: str
    write: Callable[[torch.nn.Module, Tensor, Mapping[str, str], Path], object]
    read: Callable[[Path, SearchSpace], Run]
    tolerance: float = TOLERANCE


def _write_weights(model: torch.nn.Module, x: Tensor, metadata: Mapping[str, str], path: Path) -> None:
    from safetensors.torch import save

    path.write_bytes(save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))


def load(folder: str | Path, space: SearchSpace | None = None) -> torch.nn.Module:
    """The exported model of a folder, from its architecture and weights, in eval mode, on the CPU.

    Args:
        folder: e.g. "runs/demo/models/trial-00016".
        space: the space it is of; None to make it as `check.json` says.

    Raises:
        ExportError: a file is missing, broken or of another space; the message names it.
    """
    folder = Path(folder)
    if space is None:
        space = _space(folder / CHECK)
    path = folder / ARCHITECTURE
    try:
        architecture = Architecture.from_json(path.read_text(encoding="utf-8"))
        space.check(architecture)
    except (OSError, ValueError) as error:
        raise ExportError(
            f"{path} must hold an architecture of the space {space.name!r}, but {error}; export it again"
        ) from error
    try:
        return load_model(space, architecture, folder / WEIGHTS)
    except WeightsError as error:
        raise ExportError(f"{error}; or export it again") from error


def _space(path: Path) -> SearchSpace:
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))["space"]
        space: SearchSpace = registry.make("space", recipe["name"], recipe["options"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{path} must say how to make the space, but {type(error).__name__}: {error}; pass `space`"
        ) from error
    return space


def _write_onnx(model: torch.nn.Module, x: Tensor, metadata: Mapping[str, str], path: Path) -> None:
    import onnx
    import torch

    with _quiet():
        program = torch.onnx.export(
            model,
            (x,),
            dynamo=True,
            opset_version=18,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["input"],
            output_names=["logits"],
            verbose=False,
        )
    if program is None:
        raise ExportError("torch.onnx.export must give a program, but got None")
    proto = program.model_proto
    for part in (proto.graph, *proto.graph.node):
        part.ClearField("metadata_props")  # stack traces with paths of this machine
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.save(proto, path)


def _read_onnx(folder: Path, space: SearchSpace) -> Run:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        folder / FORMATS["onnx"].file, options, providers=["CPUExecutionProvider"]
    )
    return lambda x: torch.from_numpy(session.run(["logits"], {"input": x.numpy()})[0])


def _write_pt2(model: torch.nn.Module, x: Tensor, metadata: Mapping[str, str], path: Path) -> None:
    import torch

    with _quiet():
        program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)
        torch.export.save(program, path)


def _read_pt2(folder: Path, space: SearchSpace) -> Run:
    import torch

    with _quiet():
        return torch.export.load(folder / FORMATS["pt2"].file).module()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what torch's exporters say about their own insides."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, UserWarning):
            warnings.filterwarnings(
                "ignore", category=category, module=r"(torch|onnxscript|onnx_ir|copyreg)\b"
            )
        yield


FORMATS = {
    "safetensors": Format(WEIGHTS, _write_weights, load, 0.0),
    "onnx": Format("model.onnx", _write_onnx, _read_onnx),
    "pt2": Format("model.pt2", _write_pt2, _read_pt2),
}
