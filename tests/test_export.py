"""Exported files, reloaded and compared; which trials are exported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file, save_file

from nas import export
from nas.architecture import Architecture, Graph, Node
from nas.data import load as load_data
from nas.data import prepare, read_info
from nas.export import Check, Exported, ExportError, Format
from nas.report.picture import svg
from nas.settings import DataSettings
from nas.trial import Failure, Proposal, Result, Trial
from nas.weights import file_sha256, load_model
from search_spaces.chain import ChainSpace

SPACE = ChainSpace(input_shape=(1, 8, 8))
CPU = torch.device("cpu")
ALWAYS = {"architecture.json", "architecture.svg", "check.json"}
NAMES = {"safetensors": "weights.safetensors", "onnx": "model.onnx", "pt2": "model.pt2"}


def chain(*blocks: tuple[str, dict[str, Any], int | None]) -> Architecture:
    """Blocks of (op, parameters, id of the node whose value is added behind it)."""
    nodes = [Node(0, "input")]
    for op, params, skip in blocks:
        nodes.append(Node(len(nodes), op, (nodes[-1].id,), tuple(params.items())))
        if skip is not None:
            nodes.append(Node(len(nodes), "add", (nodes[-1].id, skip)))
    arch = Architecture("chain", (("net", Graph(tuple(nodes))),))
    SPACE.check(arch)
    return arch


BLOCKS = (
    chain(
        ("mbconv", {"width": 16, "kernel": 5, "expand": 4, "stride": 1}, 0),
        ("sepconv", {"width": 24, "kernel": 3, "stride": 2}, None),
        ("identity", {"width": 24, "stride": 1}, 3),
        ("identity", {"width": 8, "stride": 2}, None),
    ),
    chain(("identity", {"width": 8, "stride": 1}, None), ("conv", {"width": 8, "kernel": 3, "stride": 1}, 1)),
)


@dataclass(frozen=True)
class Made:
    """A study folder made by hand, and its export."""

    folder: Path
    out: Path
    trials: list[Trial]
    exported: list[Exported]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Trials 0 and 1 of `BLOCKS`, 2 and 3 drawn; 4 failed, 5 has no weights, 6 a cut-short file, 7 none."""
    folder = tmp_path_factory.mktemp("study")
    prepare(DataSettings(), 0, folder / "data")
    x, _ = load_data(folder / "data", "train", CPU)
    (folder / "weights").mkdir()
    rng = np.random.default_rng(0)
    trials = []
    for i, arch in enumerate((*BLOCKS, *(SPACE.sample(rng) for _ in range(5)))):
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(i)
            model = SPACE.build(SPACE.canonical(arch))
        for images in torch.split(x[:256], 64):
            model(images)  # in train mode: running statistics of batch norm
        name = f"weights/{i}.safetensors"
        save_file(model.state_dict(), folder / name)
        digest = file_sha256(folder / name)
        result = Result({"error": 10.0 - i, "params": 100.0 * i}, weights=name, weights_sha256=digest)
        trials.append(Trial(i, Proposal(arch), result))
    trials[4] = replace(trials[4], outcome=Failure("oom", "too large"))
    trials[5] = replace(trials[5], outcome=Result({"error": 1.0, "params": 1.0}))
    cut = folder / "weights/6.safetensors"
    cut.write_bytes(cut.read_bytes()[:1000])
    trials.append(replace(trials[0], id=7, outcome=replace(trials[0].outcome, weights="weights/7.none")))
    out = folder / "models"
    return Made(folder, out, trials, export.export_trials(trials, SPACE, folder, out))


@pytest.fixture
def alone(made: Made, tmp_path: Path) -> Callable[..., tuple[Exported, Path]]:
    """Exports trial 1 again, into a folder of its own."""

    def run(formats: Sequence[str] = ("safetensors", "onnx", "pt2")) -> tuple[Exported, Path]:
        exported = export.export_trial(made.trials[1], SPACE, made.folder, tmp_path, formats=formats)
        return exported, tmp_path / "trial-00001"

    return run


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- what is written -------------------------------------------------------------------------------


def test_every_file_is_written_and_agrees(made: Made):
    for trial, exported in zip(made.trials[:4], made.exported[:4], strict=True):
        assert exported.ok, exported
        assert exported.folder == made.out / f"trial-{trial.id:05d}"
        assert files(exported.folder) == {*ALWAYS, *NAMES.values()}
        assert [check.file for check in exported.checks] == list(NAMES.values())
        assert [check.max_difference for check in exported.checks][::2] == [0, 0]
        assert all(check.relative_difference <= 1e-5 for check in exported.checks)
        text = (exported.folder / "architecture.json").read_text()
        assert Architecture.from_json(text) == trial.architecture
        assert (exported.folder / "architecture.svg").read_text(encoding="utf-8") == svg(trial.architecture)


def test_a_stranger_can_feed_every_file_at_any_batch_size(made: Made):
    x, y = load_data(made.folder / "data", "validation", CPU)
    for trial, exported in zip(made.trials[:4], made.exported[:4], strict=True):
        weights = made.folder / trial.outcome.weights
        trained = load_model(SPACE, trial.architecture, weights)
        session = ort.InferenceSession(exported.folder / "model.onnx", providers=["CPUExecutionProvider"])
        program = torch.export.load(exported.folder / "model.pt2").module()
        rebuilt = export.load(exported.folder, SPACE)
        assert not rebuilt.training
        for size in (1, 4, 7, len(x)):
            with torch.no_grad():
                logits = trained(x[:size])
                assert torch.equal(rebuilt(x[:size]), logits)
                assert (program(x[:size]) - logits).abs().max() <= 1e-5 * logits.abs().max()
            found = torch.from_numpy(session.run(None, {"input": x[:size].numpy()})[0])
            assert (found - logits).abs().max() <= 1e-5 * logits.abs().max()
        wrong = 100 * (logits.argmax(1) != y).double().mean().item()
        assert [check.error for check in exported.checks] == pytest.approx([wrong] * 3)


def test_the_report_says_what_the_files_are(made: Made):
    info = read_info(made.folder / "data")
    folder = made.exported[0].folder
    report = json.loads((folder / "check.json").read_text())
    assert report["trial"] == 0
    assert report["values"] == {"error": 10.0, "params": 0.0}
    assert [Check(**check) for check in report["checks"]] == list(made.exported[0].checks)
    assert report["validation_error"] == made.exported[0].checks[0].error
    assert report["preprocessing"]["input"] == "float32 [batch, 1, 8, 8]"
    for name in ("classes", "mean", "std"):
        assert tuple(report["preprocessing"][name]) == getattr(info, name)
    assert report["preprocessing"]["scale"] == info.scale
    assert set(report["versions"]) == {"paretonas", "torch", "onnx", "onnxruntime"}
    assert report["sha256"] == {name: file_sha256(folder / name) for name in files(folder) - {"check.json"}}


def test_the_onnx_file_carries_its_metadata_and_no_paths(made: Made):
    info = read_info(made.folder / "data")
    path = made.exported[1].folder / "model.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["trial"] == "1"
    assert metadata["paretonas"]
    assert tuple(json.loads(metadata["classes"])) == info.classes
    assert (json.loads(metadata["scale"]), json.loads(metadata["mean"])) == (info.scale, list(info.mean))
    assert json.loads(metadata["std"]) == list(info.std)
    for name in ("model.onnx", "model.pt2"):
        assert b"modules.py" not in path.with_name(name).read_bytes()


def test_one_trial_that_fails_keeps_none_of_the_others_from_being_written(made: Made):
    assert [exported.ok for exported in made.exported] == [True] * 4 + [False] * 4
    lines = export.failures(made.exported)
    assert lines == [exported.message for exported in made.exported[4:]]
    assert lines[0] == "trial 4 must have a result, but it failed (oom: too large); choose another"
    assert lines[1] == "trial 5 must name a weights file, but has none; evaluate it again"
    assert "trial 6: weights file" in lines[2]
    assert "6.safetensors must have sha256" in lines[2]
    assert "cut short" in lines[2]
    assert "7.none must exist" in lines[3]
    assert files(made.out) == {f"trial-{i:05d}" for i in range(4)}


def test_exporting_again_replaces_what_was_there_and_prints_nothing(
    made: Made, alone: Callable[..., tuple[Exported, Path]], capfd: pytest.CaptureFixture[str]
):
    folder = alone(["safetensors"])[1]
    for stale in ("model.onnx.failed", "model.pt2", "weights.safetensors", "notes.txt"):
        (folder / stale).write_text("stale")
    (folder / ".partial").mkdir()
    (folder / ".partial/junk").touch()
    exported, _ = alone(["safetensors", "onnx"])
    assert exported.ok
    assert files(folder) == {*ALWAYS, "model.onnx", "weights.safetensors", "notes.txt"}
    assert export.load(folder, SPACE)
    first = {name: (folder / name).read_bytes() for name in files(folder)}
    exported, _ = alone(["safetensors", "onnx"])
    assert exported.checks == made.exported[1].checks[:2]
    assert {name: (folder / name).read_bytes() for name in files(folder)} == first
    assert capfd.readouterr() == ("", "")


def test_lost_weights_leave_an_earlier_export_as_it_was(made: Made, tmp_path: Path):
    formats = ["safetensors"]
    export.export_trial(made.trials[0], SPACE, made.folder, tmp_path, formats=formats)
    folder = tmp_path / "trial-00000"
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    lost = replace(made.trials[7], id=0)
    assert not export.export_trial(lost, SPACE, made.folder, tmp_path, formats=formats).ok
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before


# --- files that do not agree -----------------------------------------------------------------------


def nudged_weights(path: Path) -> None:
    """The smallest change that float32 can hold, of one output's bias."""
    state = load_file(path)
    state["head.linear.bias"] = torch.nextafter(state["head.linear.bias"], torch.tensor(torch.inf))
    save_file(state, path)


def nudged_onnx(path: Path) -> None:
    model = onnx.load(path)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "head.linear.bias")
    bias.raw_data = (np.frombuffer(bias.raw_data, np.float32) + np.float32(1e-3)).tobytes()
    onnx.save(model, path)


def nan_onnx(path: Path) -> None:
    model = onnx.load(path)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "head.linear.bias")
    bias.raw_data = np.full(10, np.nan, np.float32).tobytes()
    onnx.save(model, path)


def fixed_batch(path: Path) -> None:
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, path)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def spoilt(monkeypatch: pytest.MonkeyPatch, name: str, spoil: Callable[[Path], object]) -> None:
    """Makes the writer of a format spoil its files."""
    kind: Format = export.FORMATS[name]

    def write(*args: Any) -> None:
        kind.write(*args)
        spoil(args[-1])

    monkeypatch.setitem(export.FORMATS, name, replace(kind, write=write))


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("safetensors", nudged_weights, "must agree with the torch model to 0 of max |logit|"),
        ("onnx", nudged_onnx, "must agree with the torch model to 1e-05 of max |logit|"),
        ("onnx", nan_onnx, "differs by nan"),
        ("onnx", fixed_batch, "must be written, load and run"),
        ("onnx", cut_short, "must be written, load and run"),
        ("pt2", cut_short, "must be written, load and run"),
    ],
)
def test_a_file_that_does_not_agree_is_set_aside_and_named(
    monkeypatch: pytest.MonkeyPatch,
    alone: Callable[..., tuple[Exported, Path]],
    name: str,
    spoil: Callable[[Path], object],
    says: str,
):
    spoilt(monkeypatch, name, spoil)
    formats = list(dict.fromkeys(("safetensors", name)))
    exported, folder = alone(formats)
    check = exported.checks[-1]
    assert not check.ok
    assert not exported.ok
    assert export.failures([exported]) == [check.message]
    assert str(folder / NAMES[name]) in check.message
    assert says in check.message
    kept = {NAMES[other] for other in formats} - {NAMES[name]}
    assert files(folder) == {*ALWAYS, f"{NAMES[name]}.failed", *kept}
    assert all(other.ok for other in exported.checks[:-1])
    report = json.loads((folder / "check.json").read_text())
    assert [Check(**entry) for entry in report["checks"]] == list(exported.checks)


def test_a_writer_that_raises_is_a_failure_of_its_file_only(
    monkeypatch: pytest.MonkeyPatch, alone: Callable[..., tuple[Exported, Path]]
):
    def write(*_: Any) -> None:
        raise OSError("no space left\non device")

    monkeypatch.setitem(export.FORMATS, "pt2", replace(export.FORMATS["pt2"], write=write))
    exported, folder = alone(["pt2", "safetensors"])
    assert [check.ok for check in exported.checks] == [False, True]
    assert exported.checks[0].message.endswith("but OSError: no space left on device")
    assert files(folder) == {*ALWAYS, "weights.safetensors"}


def test_wrong_settings_are_errors_at_the_start(made: Made, tmp_path: Path):
    with pytest.raises(ValueError, match=r"formats must be of safetensors, onnx, pt2, but got \['tflite'\]"):
        export.export_trial(made.trials[0], SPACE, made.folder, tmp_path, formats=["tflite"])
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="file must be a folder that can be written"):
        export.export_trials(made.trials, SPACE, made.folder, tmp_path / "file")


# --- loading and testing ---------------------------------------------------------------------------


def test_loading_a_broken_folder_names_the_file(alone: Callable[..., tuple[Exported, Path]]):
    _, folder = alone(["safetensors"])
    other = ChainSpace(input_shape=(1, 8, 8), widths=(48,))
    with pytest.raises(ExportError, match=r"architecture\.json must hold an architecture of the space"):
        export.load(folder, other)
    cut_short(folder / "weights.safetensors")
    with pytest.raises(ExportError, match=r"weights\.safetensors must hold the network's tensors"):
        export.load(folder, SPACE)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ExportError, match=r"weights\.safetensors must exist"):
        export.load(folder, SPACE)
    (folder / "architecture.json").write_text("{")
    with pytest.raises(ExportError, match=r"architecture\.json must hold"):
        export.load(folder, SPACE)


def test_a_good_file_outlives_a_failed_export(
    alone: Callable[..., tuple[Exported, Path]], monkeypatch: pytest.MonkeyPatch
):
    _, folder = alone(("safetensors", "pt2"))
    good = {name: file_sha256(folder / name) for name in ("weights.safetensors", "model.pt2")}

    def broken(*_: Any) -> None:
        raise RuntimeError("interrupted")

    for name in ("safetensors", "pt2"):
        monkeypatch.setitem(export.FORMATS, name, replace(export.FORMATS[name], write=broken))
    exported, _ = alone(("safetensors", "pt2"))
    assert not exported.ok and len(export.failures([exported])) == 2
    assert {name: file_sha256(folder / name) for name in good} == good


def test_a_model_loads_without_its_space(made: Made, tmp_path: Path):
    recipe = {"name": "chain", "options": {"input_shape": [1, 8, 8], "classes": 10}}
    trial = made.trials[2]
    exported = export.export_trial(
        trial, SPACE, made.folder, tmp_path, formats=["safetensors"], space_recipe=recipe
    )
    theirs, ours = export.load(exported.folder), export.load(exported.folder, SPACE)
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True))
    with pytest.raises(ExportError, match=r"check\.json must say how to make the space"):
        export.load(made.exported[0].folder)


def test_the_test_error_is_of_the_test_part(made: Made):
    x, y = load_data(made.folder / "data", "test", CPU)
    model = export.load(made.exported[0].folder, SPACE)
    with torch.no_grad():
        wrong = 100 * (model(x).argmax(1) != y).double().mean().item()
    assert export.error_on_test_part(made.trials[0], SPACE, made.folder) == pytest.approx(wrong)
    with pytest.raises(ExportError, match="trial 4 must have a result"):
        export.error_on_test_part(made.trials[4], SPACE, made.folder)


def test_importing_loads_no_torch():
    code = "import nas.export, sys; sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
