"""Tables and series from the .npz to exported files: real studies, and what their data may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.data import DataError, load, prepare
from nas.evaluator import space_recipe
from nas.export import error_on_test_part, export_trials, failures
from nas.export import load as load_exported
from nas.formats import FORMATS
from nas.report import write_report
from nas.report.of_study import report_view
from nas.settings import DataSettings, SettingsError
from nas.study import Study

CPU = torch.device("cpu")
MLP = {"name": "search_spaces.mlp:MLPSpace", "depth": [1, 3], "widths": [16, 32]}
CHAIN = {"name": "chain", "depth": [1, 2], "widths": [8], "kernels": [3, 5], "stem": 8, "head": 0}


def blobs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes in six features of very different scales: float32[n, 6], int64[n]."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.standard_normal((n, 6)) + 3 * np.eye(3)[y][:, [0, 1, 2, 0, 1, 2]]
    return (x * 10.0 ** np.arange(-3, 3)).astype(np.float32), y


def waves(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes of frequencies on two channels: float32[n, 2, 40], int64[n]."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    turns = 2 * np.pi * (rng.random((n, 2, 1)) + np.arange(40) * (y[:, None, None] + 1) * 2 / 40)
    return (np.sin(turns) + 0.3 * rng.standard_normal((n, 2, 40))).astype(np.float32), y


def npz(path: Path, make: Any, **more: Any) -> dict[str, Any]:
    (x, y), (x_test, y_test) = make(240, 0), make(60, 1)
    np.savez(path / "data.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test, **more)
    return {"name": "npz", "path": str(path / "data.npz")}


def tables(data: dict[str, Any], space: dict[str, Any], *objectives: str) -> dict[str, Any]:
    return {
        "study": {"seed": 1},
        "space": space,
        "searcher": {"name": "nsga2", "population": 2},
        "objectives": [{"name": name} for name in ("error", "params", *objectives)],
        "data": data,
        "training": {"batch_size": 16},
        "hyperband": {"max_epochs": 2},
        "run": {"trials": 3, "workers": 0, "timeout_s": 120},
    }


@pytest.mark.parametrize(
    ("make", "more", "space", "objectives", "shape"),
    [
        (blobs, {}, MLP, ("latency_ms",), (6,)),
        (waves, {"layout": "NCL"}, CHAIN, (), (2, 40)),
    ],
)
def test_a_study_trains_measures_and_exports(
    tmp_path: Path, make: Any, more: Any, space: Any, objectives: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    settings = tables(npz(tmp_path, make, **more), space, *objectives)
    with Study.create(tmp_path / "study", settings) as study:
        assert study.space.input_shape == shape
        study.run()
        assert len(study.trials) == 3 and all(trial.ok for trial in study.trials)
        assert min(trial.values["error"] for trial in study.trials) < 40  # chance is 67
        for trial in study.trials:
            arch = study.space.canonical(trial.architecture)
            assert trial.values["params"] == study.space.cost(arch).params
            assert all(trial.values[name] > 0 for name in objectives)
        front = study.front()
        recipe = space_recipe(study.settings, shape, 3)
        out = tmp_path / "models"
        exported = export_trials(front, study.space, study.folder, out, space_recipe=recipe)
        assert failures(exported) == [] and len(exported) == len(front)
        write_report(tmp_path / "report.html", report_view(study, tmp_path / "report.html"))
        assert " x ".join(map(str, shape)) in (tmp_path / "report.html").read_text(encoding="utf-8")
        test_error = error_on_test_part(front[0], study.space, study.folder)

    folder = exported[0].folder
    x, y = make(60, 1)  # the test part, prepared as check.json says
    said = json.loads((folder / "check.json").read_text())["preprocessing"]
    assert said["input"] == f"float32 [batch, {', '.join(map(str, shape))}]"
    mean, std = (np.reshape(said[name], (-1, *(1,) * (len(shape) - 1))) for name in ("mean", "std"))
    inputs = torch.from_numpy(((x * said["scale"] - mean) / std).astype(np.float32))
    with torch.no_grad():
        logits = load_exported(folder)(inputs)
        for kind in FORMATS.values():
            found = kind.read(folder, study.space)(inputs)
            torch.testing.assert_close(found, logits, rtol=0, atol=1e-4 * float(logits.abs().max()))
    assert 100 * float((logits.argmax(1).numpy() != y).mean()) == pytest.approx(test_error)


# --- data -------------------------------------------------------------------------------------------


def test_features_are_normalised_one_by_one(tmp_path: Path) -> None:
    x, y = blobs(90, 2)
    x[:, 3] = 7  # a constant feature
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y)
    info = prepare(DataSettings(name="npz", path=str(tmp_path / "data.npz")), 0, tmp_path / "data")
    train = np.load(tmp_path / "data" / "train_x.npy").astype(np.float64)
    assert info.input_shape == (6,) and train.shape == (info.counts["train"], 6)
    assert info.mean == pytest.approx(train.mean(0))
    assert info.std == pytest.approx(np.where(np.arange(6) == 3, 1.0, train.std(0)))
    got, _ = load(tmp_path / "data", "train", CPU)
    np.testing.assert_allclose(got.numpy(), (train - info.mean) / info.std, atol=1e-5)


@pytest.mark.parametrize("layout", ["NCL", "NLC", "nlc"])
def test_series_are_normalised_by_channel(tmp_path: Path, layout: str) -> None:
    x, y = waves(90, 3)
    x[:, 1] = 5 * x[:, 1] + 2
    stored = x if layout == "NCL" else x.transpose(0, 2, 1)
    np.savez(tmp_path / "data.npz", x_train=stored, y_train=y, layout=layout)
    info = prepare(DataSettings(name="npz", path=str(tmp_path / "data.npz")), 0, tmp_path / "data")
    train = np.load(tmp_path / "data" / "train_x.npy").astype(np.float64)
    assert info.input_shape == (2, 40)
    assert {row.tobytes() for row in train.astype(np.float32)} <= {row.tobytes() for row in x}
    assert info.mean == pytest.approx(train.mean((0, 2)))
    assert info.std == pytest.approx(train.std((0, 2)))
    got, _ = load(tmp_path / "data", "test", CPU)
    test = np.load(tmp_path / "data" / "test_x.npy")
    want = (test - np.array(info.mean)[:, None]) / np.array(info.std)[:, None]
    np.testing.assert_allclose(got.numpy(), want, atol=1e-5)


BYTES = np.random.default_rng(0).integers(0, 256, (60, 9)).astype(np.uint8)


def test_a_table_of_bytes_is_one_if_it_says_so(tmp_path: Path) -> None:
    """Without a layout it may be images that were flattened."""
    arrays = {"x_train": BYTES, "y_train": np.arange(60) % 3}
    settings = DataSettings(name="npz", path=str(tmp_path / "data.npz"))
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match=r"x_train must be \[n, H, W\].*\(60, 9\) of uint8.*'NF' for a table"):
        prepare(settings, 0, tmp_path / "data")
    np.savez(tmp_path / "data.npz", **arrays, layout="NF")
    info = prepare(settings, 0, tmp_path / "data")
    assert info.input_shape == (9,) and info.scale == 1 / 255


BROKEN = blobs(60, 0)[0]
BROKEN[[4, 9], 2] = np.nan


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": BROKEN}, r"x_train must be finite, but 2 of 60 .* the first at index 4"),
        ({"x_train": blobs(60, 0)[0], "layout": "NCL"}, r"but got 'NCL' for shape \(60, 6\); series are NCL"),
        ({"x_train": waves(60, 0)[0], "layout": "NF"}, r"but got 'NF' for shape \(60, 2, 40\)"),
        ({"x_train": blobs(60, 0)[0], "x_test": np.ones((5, 7), np.float32)}, r"x_test must be like x_train"),
        ({"x_train": blobs(60, 0)[0], "x_test": BYTES[:5, :6]}, r"x_test must be like x_train.* of uint8"),
        ({"x_train": np.zeros((60, 0), np.float32)}, r"x_train must be numbers, and some.*\(60, 0\)"),
    ],
)  # fmt: skip
def test_bad_tables_and_series(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    labels = {"y_train": np.arange(60) % 3}
    if "x_test" in arrays:
        labels["y_test"] = np.arange(5) % 3
    np.savez(tmp_path / "data.npz", **arrays, **labels)
    with pytest.raises(DataError, match=message):
        prepare(DataSettings(name="npz", path=str(tmp_path / "data.npz")), 0, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("make", "more", "space", "shape"),
    [(blobs, {}, MLP, r"\(6,\)"), (waves, {"layout": "NCL"}, CHAIN, r"\(2, 40\)")],
)
def test_augmentation_of_what_is_no_image_is_refused_at_the_start(
    tmp_path: Path, make: Any, more: Any, space: Any, shape: str
) -> None:
    data = npz(tmp_path, make, **more) | {"augment": "shift"}
    with pytest.raises(SettingsError, match=rf"`data.augment` must be 'none' .* got 'shift' .* {shape}"):
        Study.create(tmp_path / "study", tables(data, space))
    with Study.create(tmp_path / "study", tables(data | {"augment": "none"}, space)):
        pass  # what the failed creation left is no hindrance


def test_a_space_that_does_not_fit_the_data_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"input_shape must be \(channels, length\) or .* but got \(6,\)"):
        Study.create(tmp_path / "study", tables(npz(tmp_path, blobs), CHAIN))
