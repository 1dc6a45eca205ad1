"""The data set of a study: read and split once, then kept as plain arrays in a folder.

Each part has its own files, so that a search need never open the test part.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.data.errors import DataError
from nas.data.sources import open_source
from nas.data.splits import split, subset
from nas.seeding import Purpose, stream
from nas.settings import DataSettings

if TYPE_CHECKING:
    import torch

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class DataInfo:
    """What a prepared data set is. A normalised image is (x * scale - mean) / std.

    Attributes:
        name: of the source.
        input_shape: (C, H, W) of images, (C, length) of series, (features,) of tables.
        classes: names of the labels 0, 1, …
        counts: images by part.
        scale: brings stored pixels to about 0..1.
        mean, std: per channel (or feature) of the scaled train part; the std of a constant one is given as 1.
        sha256: hex digest of the six .npy files, x before y, train, validation, test.
    """

    name: str
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    counts: Mapping[Part, int]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str

    def to_json(self) -> str:
        """As text; floats come back exactly."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> DataInfo:
        """The inverse of `to_json`.

        Raises:
            ValueError, TypeError, KeyError: it is not such a text.
        """
        fields = json.loads(text)
        for name in ("input_shape", "classes", "mean", "std"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


def prepare(settings: DataSettings, seed: int, folder: Path) -> DataInfo:
    """Reads, checks and splits the source and writes it into `folder`; does nothing if that was done.

    The folder appears whole or not at all: it is written beside its place and renamed.

    Args:
        settings: the source, and how it is split: stratified, into train, validation and test; a test
            part of the source's own is taken as it is.
        seed: of the split, and of the choice of `settings.limit` images.
        folder: gets `{train,validation,test}_{x,y}.npy` (x `[n, *input_shape]`, uint8 or float32; y
            `int64[n]`) and `info.json`.

    Raises:
        DataError: the source cannot be used, or `folder` holds something else.
    """
    if (folder / "info.json").exists():
        return read_info(folder)
    if folder.exists() and any(folder.iterdir()):
        raise DataError(
            f"{folder} must be a prepared data set, empty or absent, but it has no info.json; remove it"
        )
    arrays, classes, scale = _read(settings, seed)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for part in PARTS:
        for axis, array in zip("xy", arrays[part], strict=True):
            np.save(partial / f"{part}_{axis}.npy", np.ascontiguousarray(array), allow_pickle=False)
    x, _ = arrays["train"]
    mean, std = _moments(x, scale)
    counts: dict[Part, int] = {part: len(y) for part, (_, y) in arrays.items()}
    info = DataInfo(settings.name, x.shape[1:], classes, counts, scale, mean, std, _digest(partial))
    (partial / "info.json").write_text(info.to_json())
    partial.replace(folder)
    return info


def _read(
    settings: DataSettings, seed: int
) -> tuple[dict[Part, tuple[NDArray[Any], NDArray[np.int64]]], tuple[str, ...], float]:
    """Images and labels by part, the classes and the scale of a source."""
    source = open_source(settings)
    rng = stream(seed, Purpose.SPLIT)
    chosen = subset(source.y, settings.limit, rng)
    shares = [settings.validation] if source.test else [settings.validation, settings.test]
    parts = [chosen[i] for i in split(source.y[chosen], source.classes, shares, rng)]
    read = [(source.read(indices), source.y[indices]) for indices in parts]
    if source.test:
        read.append((source.test.read(np.arange(len(source.test.y))), source.test.y))
    for part, (x, _) in zip(PARTS, read, strict=True):
        if x.shape[1:] != read[0][0].shape[1:]:
            raise DataError(f"images must have one shape, but got {x.shape[1:]} in {part}; resize them")
    return dict(zip(PARTS, read, strict=True)), source.classes, source.scale


def _moments(x: NDArray[Any], scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of `x[n, C, …] * scale` by channel, in float64 a chunk at a time."""
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axis=axes, dtype=np.float64)
    squares = np.zeros_like(mean)
    for chunk in np.array_split(x, -(-len(x) // 1024)):
        squares += np.square(chunk - _by_channel(mean, x.ndim)).sum(axis=axes)
    std = np.sqrt(squares / (x.size / len(mean))) * scale
    constant = x.min(axis=axes) == x.max(axis=axes)
    return tuple((mean * scale).tolist()), tuple(np.where(constant, 1.0, std).tolist())


def _by_channel(values: ArrayLike, ndim: int) -> NDArray[np.float64]:
    """One number a channel, as `[C, 1, …]` that broadcasts with a batch of so many axes."""
    return np.reshape(np.asarray(values, dtype=np.float64), (-1, *(1,) * (ndim - 2)))


def read_info(folder: Path) -> DataInfo:
    """What the data set in `folder` is.

    Raises:
        DataError: there is no `info.json`, or it is broken.
    """
    path = folder / "info.json"
    try:
        return DataInfo.from_json(path.read_text())
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} must describe a prepared data set, but {type(error).__name__}: {error}; "
            f"{_remedy(folder)}"
        ) from error


def _digest(folder: Path) -> str:
    """sha256 over the six arrays."""
    digest = hashlib.sha256()
    for part in PARTS:
        for axis in "xy":
            with (folder / f"{part}_{axis}.npy").open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def check(folder: Path) -> None:
    """Raises `DataError` unless the arrays in `folder` are, byte for byte, those that were prepared."""
    try:
        whole = _digest(folder) == read_info(folder).sha256
    except OSError as error:
        raise DataError(f"the data set in {folder} must be whole, but {error}; {_remedy(folder)}") from error
    if not whole:
        raise DataError(
            f"the data set in {folder} must be as it was prepared, but its digest differs; {_remedy(folder)}"
        )


def _remedy(folder: Path) -> str:
    return f"remove {folder} to prepare it anew"


def load(folder: Path, part: Part, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """One part on a device: normalised inputs `float32[n, *input_shape]` and labels `int64[n]`.

    Raises:
        DataError: a file is missing, cut short or not of this data set; the message names it.
    """
    import torch

    info = read_info(folder)
    count = info.counts[part]
    x = torch.from_numpy(_array(folder / f"{part}_x.npy", (count, *info.input_shape))).to(device)
    y = torch.from_numpy(_array(folder / f"{part}_y.npy", (count,))).to(device)
    mean, std = (
        torch.tensor(_by_channel(values, x.ndim), dtype=torch.float32, device=device)
        for values in (info.mean, info.std)
    )
    return x.float().mul_(info.scale).sub_(mean).div_(std), y


def _array(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    remedy = _remedy(path.parent)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} must be a whole .npy file, but {type(error).__name__}: {error}; {remedy}"
        ) from error
    if array.shape != shape:
        raise DataError(f"{path} must have shape {shape} as info.json says, but got {array.shape}; {remedy}")
    return np.asarray(array)
