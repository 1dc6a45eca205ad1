"""Where data come from: each source as labels and a function that reads the images asked for.

An "image" may also be a row of a table or a series, see `_npz`.
"""

from __future__ import annotations

import difflib
import functools
import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.errors import DataError
from nas.settings import DataSettings

Array = NDArray[Any]
TORCHVISION = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


@dataclass(frozen=True)
class Source:
    """Labelled images.

    Attributes:
        y: `int64[n]`, indices into `classes`.
        classes: the names of the labels.
        read: (indices `int64[k]`) -> images `[k, C, H, W]`, series `[k, C, L]` or rows `[k, features]`;
            uint8, or float32 and finite.
        scale: what pixels are multiplied by to be about 0..1.
        test: the source's own test part, if it has one; same classes, shape, dtype and scale.
    """

    y: NDArray[np.int64]
    classes: tuple[str, ...]
    read: Callable[[NDArray[np.int64]], Array]
    scale: float
    test: Source | None = None


def open_source(settings: DataSettings) -> Source:
    """The source that the settings name, checked as far as that needs no decoding.

    Raises:
        DataError: an unknown name, a missing or broken path, or data that make no sense.
    """
    openers: Mapping[str, Callable[[], Source]] = {
        "digits": _digits,
        **{name: functools.partial(_torchvision, name, settings.path or "data") for name in TORCHVISION},
        "folder": lambda: _folder(_existing(settings), settings.image_size),
        "npz": lambda: _npz(_existing(settings)),
    }
    if settings.name not in openers:
        near = difflib.get_close_matches(settings.name.lower(), openers, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"`data.name` must be one of {', '.join(openers)}, but got {settings.name!r}{hint}")
    source = openers[settings.name]()
    present = np.unique(source.y)
    if len(present) < 2:
        only = "".join(f": {source.classes[label]!r}" for label in present)
        raise DataError(
            f"the data set {settings.name!r} must have images of at least 2 classes, but got {len(present)}"
            f"{only}; add images of another class"
        )
    return source


def _existing(settings: DataSettings) -> Path:
    if settings.path is None:
        raise DataError(f"`data.path` must be given for {settings.name!r}; set it in the study file")
    path = Path(settings.path).expanduser()
    if not path.exists():
        raise DataError(f"`data.path` must exist, but {path.absolute()} does not; correct it")
    return path


# --- arrays in memory --------------------------------------------------------------------------------


def _in_memory(
    x: Array, y: Array, x_test: Array | None = None, y_test: Array | None = None, layout: str | None = None
) -> Source:
    """A source of arrays; see `_npz` for what they may be."""
    layout = layout or _layout(x)
    images, labels = _images("x_train", x, layout), _labels("y_train", y)
    values = np.unique(labels).tolist()
    train = _part("train", images, labels, values)
    if x_test is None or y_test is None:
        return train
    test_images = _images("x_test", x_test, layout)
    if (test_images.shape[1:], test_images.dtype) != (images.shape[1:], images.dtype):
        raise DataError(
            f"x_test must be like x_train, {images.shape[1:]} of {images.dtype}, but got "
            f"{test_images.shape[1:]} of {test_images.dtype}; bring both into one form"
        )
    test = _part("test", test_images, _labels("y_test", y_test), values)
    return replace(train, test=test)


def _part(name: str, images: Array, labels: Array, values: list[Any]) -> Source:
    if len(images) != len(labels):
        raise DataError(
            f"x_{name} and y_{name} must have one length, but got {len(images)} images and {len(labels)} "
            "labels; write both anew"
        )
    index = {value: i for i, value in enumerate(values)}
    y = np.array([index.get(label, -1) for label in labels.tolist()], dtype=np.int64)
    if (y < 0).any():
        first = int((y < 0).argmax())
        raise DataError(
            f"labels in y_{name} must also be in y_train, but got {labels[first]} at index {first}; "
            "drop those images or add the class to the training part"
        )
    scale = 1 / 255 if images.dtype == np.uint8 else 1.0
    return Source(y, tuple(map(str, values)), images.__getitem__, scale)


def _layout(x: Array) -> str:
    """The order of the axes of `x`: channels are the one of axes 1 and 3 that has 1 to 4 entries."""
    if x.ndim == 2 and x.dtype != np.uint8:  # those would be pixels, flattened
        return "NF"
    if x.ndim == 3:
        return "NHW"
    first, last = (x.ndim == 4 and 1 <= x.shape[axis] <= 4 for axis in (1, 3))
    if first == last:
        raise DataError(
            "x_train must be [n, H, W], [n, H, W, C] or [n, C, H, W], channels being the one of axes 1 and 3 "
            f"that has 1 to 4 entries, but got {x.shape} of {x.dtype}; reshape it, or add layout='NCHW' or "
            "'NHWC' (or 'NF' for a table)"
        )
    return "NCHW" if first else "NHWC"


def _images(name: str, x: Array, layout: str) -> Array:
    """`[n, C, H, W]`, `[n, C, L]` or `[n, features]`: uint8 as it is, else float32, checked to be finite."""
    if layout not in LAYOUTS or x.ndim != len(layout):
        raise DataError(
            f"{name} must be laid out as NHW, NHWC or NCHW, but got {layout!r} for shape {x.shape}; "
            "series are NCL or NLC, tables NF"
        )
    if x.size == 0 or x.dtype.kind not in "iuf":
        raise DataError(
            f"{name} must be numbers, and some, but got shape {x.shape} of {x.dtype}; store pixels"
        )
    if layout == "NHW":
        x = x[:, None]
    elif "C" in layout:
        x = np.moveaxis(x, layout.index("C"), 1)
    if x.dtype == np.uint8:
        return x
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    broken = ~np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
    if broken.any():
        raise DataError(
            f"pixels of {name} must be finite, but {int(broken.sum())} of {len(x)} images hold NaN or "
            f"infinity, the first at index {int(broken.argmax())}; repair or drop them"
        )
    return x


def _labels(name: str, y: Array) -> Array:
    """`[n]` integers or strings."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iuUS":
        raise DataError(
            f"{name} must be [n] integers (or strings), one label an image, but got shape {y.shape} of "
            f"{y.dtype}; store class numbers, e.g. y.astype(int) or one_hot.argmax(1)"
        )
    return np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y


def _digits() -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    source = _in_memory(digits.images.astype(np.uint8), digits.target)
    return replace(source, scale=1 / 16)


def _torchvision(name: str, folder: str) -> Source:
    import torchvision

    kind = getattr(torchvision.datasets, TORCHVISION[name])
    try:
        train, test = (
            kind(str(Path(folder).expanduser()), train=part, download=True) for part in (True, False)
        )
    except Exception as error:  # whatever a half download or a proxy brings about
        raise DataError(
            f"{name} must be in {Path(folder).absolute()} or downloadable, but {type(error).__name__}: "
            f"{' '.join(str(error).split())}; connect to the network, or copy the data set there as "
            "torchvision stores it"
        ) from error
    source = _in_memory(
        np.asarray(train.data), np.asarray(train.targets), np.asarray(test.data), np.asarray(test.targets)
    )
    return replace(source, classes=tuple(map(str, train.classes)))


# --- .npz --------------------------------------------------------------------------------------------

LAYOUTS = ("NF", "NCL", "NLC", "NHW", "NHWC", "NCHW")
NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "layout", "jpeg", "offsets", "labels", "classes")


def _npz(path: Path) -> Source:
    """An .npz in one of two forms.

    Numbers: `x_train`, `y_train` and maybe `x_test`, `y_test`. Images are `[n, H, W]`, `[n, H, W, C]` or
    `[n, C, H, W]`: channels are the one of axes 1 and 3 that has 1 to 4 entries; where that is both or
    neither, a string `layout` ("NCHW" or "NHWC") decides. Tables are `[n, features]`, of uint8 with the
    layout "NF" only. Series have a layout, "NCL" for `[n, C, length]` or "NLC". uint8 is taken for 0..255,
    all other numbers as they are. Labels are integers or strings; classes are their sorted values.

    JPEG: `jpeg` uint8, all files end to end, image i = bytes offsets[i]:offsets[i + 1]; `labels` are
    indices into `classes`. All images of one size, taken as RGB.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in NPZ_ARRAYS if name in archive.files}
            stored = archive.files
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path} must be a whole .npz without pickled objects, but {type(error).__name__}: {error}; "
            "write it anew"
        ) from error
    for form in (("jpeg", "offsets", "labels", "classes"), ("x_train", "y_train")):
        if all(name in arrays for name in form):
            break
    else:
        raise DataError(
            f"{path} must hold x_train, y_train[, x_test, y_test] or jpeg, offsets, labels, classes, but got "
            f"{', '.join(stored) or 'nothing'}; rename its arrays"
        )
    if "jpeg" in form:
        return _jpeg(path, *(arrays[name] for name in form))
    if ("x_test" in arrays) != ("y_test" in arrays):
        raise DataError(f"{path} must hold both x_test and y_test or neither, but got one; add the other")
    layout = str(arrays["layout"]).upper() if "layout" in arrays else None
    return _in_memory(
        arrays["x_train"], arrays["y_train"], arrays.get("x_test"), arrays.get("y_test"), layout
    )


def _jpeg(path: Path, jpeg: Array, offsets: Array, labels: Array, classes: Array) -> Source:
    y = _labels("labels", labels)
    bounded = offsets.dtype.kind in "iu" and offsets.shape == (len(y) + 1,)
    if not (bounded and offsets[0] >= 0 and offsets[-1] <= jpeg.size and (offsets[1:] >= offsets[:-1]).all()):
        raise DataError(
            f"offsets in {path} must be {len(y) + 1} rising integers (labels + 1) within the {jpeg.size} "
            f"bytes of jpeg, but got shape {offsets.shape} of {offsets.dtype}; write the file anew"
        )
    if wrong := set(y.tolist()) - set(range(len(classes))):
        raise DataError(
            f"labels in {path} must be integers from 0 to {len(classes) - 1}, indices into classes, but got "
            f"{sorted(wrong)[:5]}; write them anew"
        )

    def read(indices: NDArray[np.int64]) -> Array:
        images = []
        for i in indices:
            file = io.BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes())
            images.append(_rgb(file, f"image {i} of {path}"))
            if images[-1].shape != images[0].shape:
                raise DataError(
                    f"image {i} of {path} must be {images[0].shape[1:]} like image {indices[0]}, but got "
                    f"{images[-1].shape[1:]}; resize it"
                )
        return np.stack(images)

    return Source(y.astype(np.int64), tuple(map(str, classes)), read, 1 / 255)


# --- image folder ------------------------------------------------------------------------------------


def _folder(path: Path, size: int) -> Source:
    """One sub-folder a class, images directly in it; other files are skipped by their extension."""
    if not path.is_dir():
        raise DataError(f"`data.path` must be a folder with one sub-folder a class, but got the file {path}")
    classes = sorted(
        entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    files: list[Path] = []
    y: list[int] = []
    for label, name in enumerate(classes):
        images = sorted(file for file in (path / name).iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise DataError(
                f"every sub-folder of {path} must hold the images of one class, but {name!r} has none "
                f"directly in it; put images there ({', '.join(sorted(IMAGE_SUFFIXES))}) or remove it"
            )
        files += images
        y += [label] * len(images)

    def read(indices: NDArray[np.int64]) -> Array:
        return np.stack([_rgb(files[i], str(files[i]), size) for i in indices])

    return Source(np.array(y, dtype=np.int64), tuple(classes), read, 1 / 255)


def _rgb(file: Path | io.BytesIO, name: str, size: int | None = None) -> Array:
    """One image as `uint8[3, H, W]`, resized to `size` x `size` if given."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":  # more than 8 bits: a conversion would clip
                raise ValueError(f"it has mode {image.mode}")
            rgb = image.convert("RGB")
        if size is not None:
            rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(rgb).transpose(2, 0, 1)
    except Exception as error:  # Pillow's decoders raise whatever they meet
        raise DataError(
            f"{name} must be a whole image of 8 bits a channel, but {type(error).__name__}: {error}; "
            "repair or remove it"
        ) from error
