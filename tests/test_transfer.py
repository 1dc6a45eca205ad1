"""A found cell on another template: one call, and one option of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nas.architecture import InvalidArchitecture
from nas.cli import app
from nas.export import export_transferred, load, transfer
from nas.study import Study
from nas.trial import Proposal, Trial
from search_spaces.darts import DARTSSpace
from search_spaces.mobilenetv3 import MobileNetV3Space
from search_spaces.nasbench201 import NASBench201Space
from search_spaces.nasnet import NASNetSpace


@pytest.mark.parametrize("family", [DARTSSpace, NASNetSpace])
def test_the_same_cells_stand_on_small_and_on_large_images(family: type) -> None:
    small = family((3, 16, 16), 10)
    large = family((3, 64, 64), 100, template="imagenet")
    arch = small.sample(np.random.default_rng(0))
    moved = transfer(arch, large)
    assert moved.graphs == arch.graphs
    with torch.device("meta"):
        assert large.build(large.canonical(moved)).eval()(torch.empty(1, 3, 64, 64)).shape == (1, 100)
    assert transfer(moved, small) == arch


def test_a_resolution_that_is_not_there_becomes_the_highest() -> None:
    small, large = MobileNetV3Space((3, 8, 8)), MobileNetV3Space((3, 32, 32))
    arch = small.sample(np.random.default_rng(0))
    moved = transfer(arch, large)
    assert moved.graphs == arch.graphs
    assert moved.param("resolution") == 32


def test_another_family_is_refused() -> None:
    arch = NASBench201Space().decode("333132")
    with pytest.raises(InvalidArchitecture, match=r"graphs must be \('normal', 'reduction'\)"):
        transfer(arch, DARTSSpace())


def test_files_of_a_transferred_network_load_by_themselves(tmp_path: Path) -> None:
    arch = NASBench201Space((3, 8, 8), cells=1, width=4).decode("333132")
    options = {"input_shape": [3, 12, 12], "classes": 7, "cells": 2, "width": 8}
    space = NASBench201Space((3, 12, 12), 7, cells=2, width=8)
    recipe = {"name": "nasbench201", "options": options}
    exported = export_transferred(Trial(3, Proposal(arch)), space, tmp_path, 0, recipe)
    assert exported.ok, exported
    check = json.loads((exported.folder / "check.json").read_text())
    assert check["trained"] is False
    assert check["cost"]["params"] == space.cost(space.canonical(arch)).params
    model = load(exported.folder)
    assert model(torch.zeros(2, 3, 12, 12)).shape == (2, 7)
    again = export_transferred(Trial(3, Proposal(arch)), space, tmp_path / "again", 0, recipe)
    weights = [folder / "weights.safetensors" for folder in (exported.folder, again.folder)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_option_of_the_command_line(tmp_path: Path) -> None:
    tables = {
        "space": {"name": "nasbench201", "cells": 1, "width": 4},
        "searcher": "random",
        "objectives": [{"name": "error"}, {"name": "params"}],
        "data": {"name": "digits", "limit": 150},
        "hyperband": {"max_epochs": 1},
        "run": {"trials": 1, "workers": 0, "timeout_s": 120},
    }
    with Study.create(tmp_path / "study", tables) as study:
        study.run()
    (tmp_path / "large.toml").write_text("input_shape = [3, 16, 16]\nclasses = 5\nwidth = 8\n")
    command = ["export", str(tmp_path / "study"), "--transfer", str(tmp_path / "large.toml")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert load(tmp_path / "study" / "transferred" / "trial-00000")(torch.zeros(2, 3, 16, 16)).shape == (2, 5)
    (tmp_path / "large.toml").write_text("width = 0")
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code != 0
    assert "`width >= 1 and cells >= 1` must hold" in str(refused.exception or refused.output)
