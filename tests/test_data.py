"""Data sets: sources, splits, the frozen folder, and every bad input."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from nas.data import DataError, DataInfo, load, prepare, read_info
from nas.data.prepared import PARTS
from nas.data.sources import open_source
from nas.data.splits import split, subset
from nas.seeding import Purpose, stream
from nas.settings import DataSettings

CPU = "cpu"


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def labels(n: int, classes: int = 3) -> np.ndarray:
    return np.arange(n) % classes


def npz(path: Path, **arrays: Any) -> DataSettings:
    np.savez(path / "data.npz", **arrays)
    return DataSettings(name="npz", path=str(path / "data.npz"))


def jpeg_arrays(n: int, size: int = 8) -> tuple[dict[str, np.ndarray], list[bytes]]:
    files = []
    for i in range(n):
        buffer = io.BytesIO()
        Image.fromarray(pixels(size, size, 3, seed=i)).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    arrays = {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": labels(n).astype(np.uint8),
        "classes": np.array(["ant", "bee", "cat"]),
    }
    return arrays, files


def image_folder(path: Path, n: int = 6) -> DataSettings:
    for name in ("dog", "cat"):
        (path / name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(pixels(10, 12, 3, seed=i)).save(path / name / f"{i}.png")
        (path / name / "notes.txt").write_text("no image")
    return DataSettings(name="folder", path=str(path), image_size=8)


# --- splits --------------------------------------------------------------------------------------


def test_split_closed_form() -> None:
    y = np.repeat([0, 1], [100, 20])
    train, validation, test = split(y, ["a", "b"], [0.15, 0.2], np.random.default_rng(0))
    assert [np.bincount(y[part]).tolist() for part in (train, validation, test)] == [
        [65, 13],
        [15, 3],
        [20, 4],
    ]


@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=5),
    shares=st.tuples(st.floats(0.01, 0.33), st.floats(0.01, 0.33)),
    seed=st.integers(0, 5),
)
def test_split_is_a_partition_with_every_class_in_every_part(
    counts: list[int], shares: tuple[float, float], seed: int
) -> None:
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    parts = split(y, [str(c) for c in range(len(counts))], shares, np.random.default_rng(seed))
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
    for part in parts:
        assert set(y[part]) == set(range(len(counts)))
    for share, part in zip(shares, parts[1:], strict=True):
        sizes = np.bincount(y[part], minlength=len(counts))
        assert (np.abs(sizes - np.maximum(1, share * np.array(counts))) <= 1).all()


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=5), limit=st.integers(1, 160))
@example(counts=[1, 1, 2, 2, 15], limit=4)
def test_subset_is_stratified_and_exact(counts: list[int], limit: int) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    chosen = subset(y, limit, np.random.default_rng(limit))
    assert len(chosen) == min(limit, len(y)) == len(set(chosen))
    kept = np.bincount(y[chosen], minlength=len(counts))
    assert (np.abs(kept - np.array(counts) * min(1, limit / len(y))) <= 1).all()


def test_split_depends_on_the_seed_alone() -> None:
    y = labels(90)
    one, same, other = (split(y, "abc", [0.2], stream(seed, Purpose.SPLIT)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[1], other[1])


# --- the frozen folder -----------------------------------------------------------------------------


def test_digits_end_to_end(tmp_path: Path) -> None:
    info = prepare(DataSettings(), 3, tmp_path / "data")
    assert info.input_shape == (1, 8, 8) and info.scale == 1 / 16
    assert info.classes == tuple("0123456789") and sum(info.counts.values()) == 1797
    assert np.load(tmp_path / "data" / "train_x.npy").dtype == np.uint8
    x, y = load(tmp_path / "data", "train", CPU)
    assert tuple(x.shape) == (info.counts["train"], 1, 8, 8) and str(x.dtype) == "torch.float32"
    assert str(y.dtype) == "torch.int64" and len(y) == len(x)
    assert abs(x.mean().item()) < 1e-5 and abs(x.std(correction=0).item() - 1) < 1e-5


def test_every_image_is_in_one_part_with_its_own_label(tmp_path: Path) -> None:
    x, y = pixels(60, 5, 5), labels(60)
    prepare(npz(tmp_path, x_train=x, y_train=y), 0, tmp_path / "data")
    seen = {}
    for part in PARTS:
        images, classes = (np.load(tmp_path / "data" / f"{part}_{axis}.npy") for axis in "xy")
        seen |= {image.tobytes(): label for image, label in zip(images, classes, strict=True)}
    assert seen == {image.tobytes(): label for image, label in zip(x, y, strict=True)}


def test_normalisation_against_float64_by_hand(tmp_path: Path) -> None:
    x = pixels(60, 3, 6, 6)
    x[:, 1] = 7  # a constant channel
    info = prepare(npz(tmp_path, x_train=x, y_train=labels(60)), 0, tmp_path / "data")
    train = np.load(tmp_path / "data" / "train_x.npy") / 255
    assert info.mean == pytest.approx(train.mean((0, 2, 3)))
    assert info.std == pytest.approx([train[:, 0].std(), 1, train[:, 2].std()])
    got, _ = load(tmp_path / "data", "test", CPU)
    test = np.load(tmp_path / "data" / "test_x.npy") / 255
    want = (test - np.array(info.mean)[:, None, None]) / np.array(info.std)[:, None, None]
    assert np.allclose(got.numpy(), want, atol=1e-6)


def test_constant_float_channel_is_left_alone(tmp_path: Path) -> None:
    x = np.full((60, 4, 4), 0.1)
    x[::2, 0, 0] = 0.3
    both = np.stack([x, np.full_like(x, 0.1)], axis=1)
    info = prepare(npz(tmp_path, x_train=both, y_train=labels(60), layout="nchw"), 0, tmp_path / "data")
    assert info.std[1] == 1
    got, _ = load(tmp_path / "data", "train", CPU)
    assert got[:, 1].abs().max() < 1e-6


def test_prepare_again_does_nothing_and_info_round_trips(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    info = prepare(DataSettings(limit=300), 1, folder)
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert prepare(DataSettings(limit=300), 1, folder) == info == read_info(folder)
    assert DataInfo.from_json(info.to_json()) == info
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    files = [folder / f"{part}_{axis}.npy" for part in PARTS for axis in "xy"]
    assert info.sha256 == hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def test_same_seed_same_bytes_other_seed_other(tmp_path: Path) -> None:
    one, same, other = (
        prepare(DataSettings(limit=300), seed, tmp_path / name).sha256
        for seed, name in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert one == same != other


def test_a_killed_preparation_leaves_no_half_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, save, saved = tmp_path / "data", np.save, []

    def killed(path: Path, *args: Any, **kwargs: Any) -> None:
        saved.append(path)
        if len(saved) == 3:
            raise KeyboardInterrupt
        save(path, *args, **kwargs)

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(DataSettings(limit=300), 1, folder)
    assert not folder.exists()
    info = prepare(DataSettings(limit=300), 1, folder)
    assert sum(info.counts.values()) == 300 and [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_importing_loads_no_heavy_module() -> None:
    heavy = ("torch", "torchvision", "sklearn", "PIL")
    code = f"import sys, nas.data; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("damage", ["missing", "cut short", "empty", "another"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "data"
    prepare(DataSettings(limit=300), 1, folder)
    path = folder / "validation_x.npy"
    if damage == "missing":
        path.unlink()
    elif damage == "another":
        np.save(path, np.zeros(3))
    else:
        path.write_bytes(path.read_bytes()[: 1000 if damage == "cut short" else 0])
    with pytest.raises(DataError, match=r"validation_x\.npy.*prepare it anew"):
        load(folder, "validation", CPU)
    assert len(load(folder, "train", CPU)[0])


def test_a_foreign_folder_or_broken_info_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(DataError, match=r"no info\.json"):
        prepare(DataSettings(), 1, tmp_path)
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(DataError, match=r"info\.json.*prepare it anew"):
        read_info(tmp_path)
    (tmp_path / "info.json").write_text('{"name": "digits"')
    with pytest.raises(DataError, match=r"info\.json.*prepare it anew"):
        prepare(DataSettings(), 1, tmp_path)


# --- .npz --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "order", "input_shape"),
    [
        ((60, 6, 7), None, (1, 6, 7)),
        ((60, 6, 7, 3), (0, 3, 1, 2), (3, 6, 7)),
        ((60, 3, 6, 7), (0, 1, 2, 3), (3, 6, 7)),
        ((60, 1, 6, 7), (0, 1, 2, 3), (1, 6, 7)),
    ],
)
def test_npz_layouts(
    tmp_path: Path, shape: tuple[int, ...], order: tuple[int, ...] | None, input_shape: tuple[int, ...]
) -> None:
    x = pixels(*shape)
    source = open_source(npz(tmp_path, x_train=x, y_train=labels(60)))
    got = source.read(np.arange(5))
    assert got.shape[1:] == input_shape
    assert np.array_equal(got, x[:5, None] if order is None else x[:5].transpose(order))


def test_npz_layout_can_be_said(tmp_path: Path) -> None:
    x = pixels(60, 3, 6, 3)
    with pytest.raises(DataError, match=r"\(60, 3, 6, 3\).*layout='NCHW'"):
        open_source(npz(tmp_path, x_train=x, y_train=labels(60)))
    for layout, shape in (("NCHW", (3, 6, 3)), ("NHWC", (3, 3, 6))):
        source = open_source(npz(tmp_path, x_train=x, y_train=labels(60), layout=layout))
        assert source.read(np.arange(2)).shape[1:] == shape


def test_npz_own_test_part_is_used_and_strings_are_mapped(tmp_path: Path) -> None:
    names = np.array(["dog", "cat", "eel"])
    x, x_test, y = pixels(60, 5, 5), pixels(9, 5, 5, seed=1), labels(60)
    settings = npz(tmp_path, x_train=x, y_train=names[y], x_test=x_test, y_test=names[labels(9)].astype("S"))
    info = prepare(settings, 0, tmp_path / "data")
    assert info.classes == ("cat", "dog", "eel")
    assert info.counts == {"train": 51, "validation": 9, "test": 9}
    assert np.array_equal(np.load(tmp_path / "data" / "test_x.npy")[:, 0], x_test)
    assert np.load(tmp_path / "data" / "test_y.npy").tolist() == [1, 0, 2] * 3


def test_npz_keeps_floats_and_limits_the_training_part_only(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 5, 5))
    settings = npz(
        tmp_path, x_train=x, y_train=labels(60)[:, None] * 7, x_test=x[:9], y_test=labels(9)[:, None] * 7
    )
    limited = DataSettings(name="npz", path=settings.path, limit=30)
    info = prepare(limited, 0, tmp_path / "data")
    assert sum(info.counts.values()) == 39 and info.counts["test"] == 9
    assert info.scale == 1 and info.classes == ("0", "7", "14")
    assert np.array_equal(np.load(tmp_path / "data" / "test_x.npy")[:, 0], x[:9].astype(np.float32))


def test_jpeg_form_decodes_what_is_chosen_only(tmp_path: Path) -> None:
    arrays, files = jpeg_arrays(60)
    want = {i: np.asarray(Image.open(io.BytesIO(file))).transpose(2, 0, 1) for i, file in enumerate(files)}
    settings = npz(tmp_path, **arrays)
    source = open_source(settings)
    assert source.classes == ("ant", "bee", "cat")
    assert np.array_equal(source.read(np.array([5, 17])), np.stack([want[5], want[17]]))

    chosen = subset(source.y, 30, stream(0, Purpose.SPLIT))
    broken = next(i for i in range(60) if i not in chosen)
    arrays["jpeg"] = arrays["jpeg"].copy()
    arrays["jpeg"][arrays["offsets"][broken] : arrays["offsets"][broken + 1]] = 0
    limited = DataSettings(name="npz", path=npz(tmp_path, **arrays).path, limit=30)
    assert sum(prepare(limited, 0, tmp_path / "data").counts.values()) == 30
    with pytest.raises(DataError, match=f"image {broken} of .*repair"):
        prepare(settings, 0, tmp_path / "all")
    assert not (tmp_path / "all").exists()


@pytest.mark.skipif("NAS_DATA" not in os.environ, reason="NAS_DATA is not set: no folder of measured data")
def test_real_cifar10_as_jpeg(tmp_path: Path) -> None:
    path = Path(os.environ["NAS_DATA"]) / "cifar10_train_jpeg.npz"
    info = prepare(DataSettings(name="npz", path=str(path), limit=200), 0, tmp_path / "data")
    assert info.input_shape == (3, 32, 32) and len(info.classes) == 10 and info.classes[0] == "airplane"
    assert info.counts == {"train": 140, "validation": 30, "test": 30}
    assert info.mean == pytest.approx([0.491, 0.482, 0.447], abs=0.04)  # of all 50,000, often printed
    assert info.std == pytest.approx([0.247, 0.243, 0.262], abs=0.04)


# --- image folder ------------------------------------------------------------------------------------


def test_image_folder(tmp_path: Path) -> None:
    settings = image_folder(tmp_path / "images")
    source = open_source(settings)
    assert source.classes == ("cat", "dog") and source.y.tolist() == [0] * 6 + [1] * 6
    first = Image.open(tmp_path / "images" / "cat" / "0.png").resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(source.read(np.array([0]))[0], np.asarray(first).transpose(2, 0, 1))
    info = prepare(settings, 0, tmp_path / "data")
    assert info.input_shape == (3, 8, 8) and info.counts == {"train": 8, "validation": 2, "test": 2}


def test_grey_and_palette_images_become_rgb(tmp_path: Path) -> None:
    image_folder(tmp_path)
    for mode in ("L", "P", "1", "RGBA"):
        Image.new(mode, (9, 9)).save(tmp_path / "cat" / f"mode {mode}.png")
    source = open_source(DataSettings(name="folder", path=str(tmp_path)))
    assert source.read(np.arange(len(source.y))).shape == (16, 3, 32, 32)


@pytest.mark.parametrize("damage", ["cut short", "text", "16 bits"])
def test_a_broken_image_is_named(tmp_path: Path, damage: str) -> None:
    settings = image_folder(tmp_path / "images")
    path = tmp_path / "images" / "dog" / "3.png"
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "text":
        path.write_text("no image at all")
    else:
        Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(path)
    with pytest.raises(DataError, match=r"dog/3\.png must be a whole image.*repair"):
        prepare(settings, 0, tmp_path / "data")


# --- torchvision ---------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    """The format of Y. LeCun's MNIST files: magic 0, 0, 8 (uint8), rank, then big-endian sizes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_from_real_idx_files(tmp_path: Path, name: str, folder: str) -> None:
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    x, x_test = pixels(60, 28, 28), pixels(20, 28, 28, seed=1)
    for part, images in (("train", x), ("t10k", x_test)):
        for kind, array in (
            ("images-idx3", images),
            ("labels-idx1", labels(len(images), 10).astype(np.uint8)),
        ):
            (raw / f"{part}-{kind}-ubyte").write_bytes(idx(array))
            (raw / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    info = prepare(DataSettings(name=name, path=str(tmp_path)), 0, tmp_path / "data")
    assert info.input_shape == (1, 28, 28) and info.counts == {"train": 50, "validation": 10, "test": 20}
    assert len(info.classes) == 10 and (name == "mnist" or info.classes[0] == "T-shirt/top")
    assert np.array_equal(np.load(tmp_path / "data" / "test_x.npy")[:, 0], x_test)


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_from_small_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, classes: int
) -> None:
    import torchvision

    kind = getattr(torchvision.datasets, name.upper())
    base = tmp_path / kind.base_folder
    base.mkdir()

    def write(file: str, content: dict[str, Any]) -> list[str]:
        (base / file).write_bytes(pickle.dumps(content))
        return [file, hashlib.md5((base / file).read_bytes(), usedforsecurity=False).hexdigest()]

    key = "labels" if classes == 10 else "fine_labels"
    images = {n: pixels(n, 3, 32, 32, seed=n) for n in (3 * classes, classes)}
    lists = [
        [write(f"batch_{n}", {"data": x.reshape(n, -1), key: labels(n, classes).tolist()})]
        for n, x in images.items()
    ]
    monkeypatch.setattr(kind, "train_list", lists[0])
    monkeypatch.setattr(kind, "test_list", lists[1])
    names = {kind.meta["key"]: [f"class {i}" for i in range(classes)]}
    monkeypatch.setattr(
        kind, "meta", kind.meta | dict(zip(("filename", "md5"), write("meta", names), strict=True))
    )
    info = prepare(DataSettings(name=name, path=str(tmp_path)), 0, tmp_path / "data")
    assert info.input_shape == (3, 32, 32) and info.classes[-1] == f"class {classes - 1}"
    assert info.counts == {"train": 2 * classes, "validation": classes, "test": classes}
    assert np.array_equal(np.load(tmp_path / "data" / "test_x.npy"), images[classes])


def test_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", offline)
    with pytest.raises(DataError, match=r"Network is unreachable; connect to the network, or copy"):
        prepare(DataSettings(name="mnist", path=str(tmp_path)), 0, tmp_path / "data")


# --- bad input ---------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"x_train": pixels(60, 5, 5), "y_train": labels(60)}
SPOILT = np.zeros((60, 5, 5))
SPOILT[[7, 9, 9], 2, 1] = np.nan
SPOILT[12, 0, 0] = np.inf
JPEG = jpeg_arrays(12)[0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (GOOD | {"y_train": np.full(60, 4)}, r"at least 2 classes, but got 1: '4'"),
        (GOOD | {"x_train": SPOILT}, r"3 of 60 images hold NaN or infinity, the first at index 7"),
        (GOOD | {"x_train": SPOILT.astype(np.float64) + 1e300}, r"60 of 60 images .* index 0"),
        (GOOD | {"y_train": labels(60).astype(float)}, r"y_train must be \[n\] integers.*float64"),
        (GOOD | {"y_train": np.eye(3)[labels(60)]}, r"got shape \(60, 3\).*one_hot\.argmax"),
        (GOOD | {"y_train": labels(59)}, r"one length, but got 60 images and 59 labels"),
        (GOOD | {"y_train": np.repeat([0, 1], [58, 2])}, r"at least 3 images .* but got 2 of class '1'"),
        (GOOD | {"x_train": pixels(60, 25)}, r"x_train must be \[n, H, W\].*\(60, 25\)"),
        (GOOD | {"x_train": pixels(60, 9, 9, 9)}, r"x_train must be .*\(60, 9, 9, 9\)"),
        (GOOD | {"x_train": pixels(60, 0, 5)}, r"x_train must be numbers, and some.*\(60, 0, 5\)"),
        (GOOD | {"x_train": np.full((60, 5, 5), "a")}, r"x_train must be numbers.*<U1"),
        (GOOD | {"x_train": np.full((60, 5, 5), None)}, r"without pickled objects.*allow_pickle"),
        (GOOD | {"layout": "NWHC"}, r"laid out as NHW, NHWC or NCHW, but got 'NWHC'"),
        (GOOD | {"x_test": pixels(5, 5, 5)}, r"both x_test and y_test"),
        (GOOD | {"x_test": pixels(5, 5, 6), "y_test": labels(5)}, r"x_test must be like x_train"),
        (GOOD | {"x_test": np.zeros((5, 5, 5)), "y_test": labels(5)}, r"x_test must be like .*float32"),
        (GOOD | {"x_test": pixels(5, 5, 5), "y_test": labels(5, 4)}, r"also be in y_train.* 3 at index 3"),
        (GOOD | {"x_test": pixels(5, 5, 5), "y_test": labels(4)}, r"5 images and 4 labels"),
        ({"x": pixels(60, 5, 5), "y": labels(60)}, r"must hold x_train, y_train.*but got x, y; rename"),
        (JPEG | {"offsets": JPEG["offsets"][:-1]}, r"offsets in .* must be 13 rising integers"),
        (JPEG | {"offsets": JPEG["offsets"] + 9}, r"offsets in .* must be 13 rising integers"),
        (JPEG | {"labels": JPEG["labels"] + 1}, r"integers from 0 to 2.*but got \[3\]"),
        (JPEG | {"labels": np.zeros(0, int), "offsets": np.zeros(1, int)}, r"at least 2 classes, but got 0"),
        ({name: JPEG[name] for name in ("jpeg", "offsets")}, r"must hold .* but got jpeg, offsets"),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare(npz(tmp_path, **arrays), 0, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_jpegs_of_two_sizes(tmp_path: Path) -> None:
    arrays, _ = jpeg_arrays(12)
    small, _ = jpeg_arrays(12, size=6)
    mixed = {
        "jpeg": np.concatenate([arrays["jpeg"], small["jpeg"]]),
        "offsets": np.concatenate([arrays["offsets"], small["offsets"][1:] + arrays["jpeg"].size]),
        "labels": np.tile(arrays["labels"], 2),
        "classes": arrays["classes"],
    }
    with pytest.raises(DataError, match=r"image \d+ of .* must be \((6, 6|8, 8)\) like image \d+"):
        prepare(npz(tmp_path, **mixed), 0, tmp_path / "data")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut", b"\x93NUMPY"])
def test_a_broken_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.npz must be a whole \.npz.*write it anew"):
        open_source(DataSettings(name="npz", path=str(tmp_path / "data.npz")))


def test_an_npz_cut_short_and_an_npy(tmp_path: Path) -> None:
    settings = npz(tmp_path, **GOOD)
    path = tmp_path / "data.npz"
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DataError, match="must be a whole"):
        open_source(settings)
    with path.open("wb") as file:
        np.save(file, pixels(3, 3))
    with pytest.raises(DataError, match="must be a whole"):
        open_source(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DataSettings(name="fashion-mnist"), r"one of digits, mnist.*did you mean 'fashion_mnist'"),
        (DataSettings(name="CIFAR10"), r"did you mean 'cifar10'"),
        (DataSettings(name="npz"), r"`data\.path` must be given for 'npz'"),
        (DataSettings(name="folder", path="nowhere/at/all"), r"nowhere/at/all does not; correct it"),
        (DataSettings(limit=12), r"every class must have at least 3 images.*raise `data\.limit`"),
        (DataSettings(validation=0.5, test=0.499), r"lower the shares"),
    ],
)
def test_bad_settings(tmp_path: Path, settings: DataSettings, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare(settings, 0, tmp_path / "data")


def test_bad_folders(tmp_path: Path) -> None:
    settings = DataSettings(name="folder", path=str(tmp_path / "images"))
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="at least 2 classes, but got 0"):
        open_source(settings)
    image_folder(tmp_path / "images" / "train")  # images one level too deep
    with pytest.raises(DataError, match=r"'train' has none directly in it; put images there"):
        open_source(settings)
    file = tmp_path / "images" / "train" / "cat" / "0.png"
    with pytest.raises(DataError, match=r"must be a folder .* but got the file .*0\.png"):
        open_source(DataSettings(name="folder", path=str(file)))
