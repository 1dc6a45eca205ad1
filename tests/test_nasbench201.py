"""NAS-Bench-201 against the published table, and the networks behind its strings."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from nas.architecture import Architecture, InvalidArchitecture
from search_spaces.nasbench201 import NASBench201Space

OFFICIAL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"


@pytest.fixture(scope="module")
def space() -> NASBench201Space:
    return NASBench201Space()


@pytest.fixture(scope="module")
def table(nas_data: Path) -> list[dict[str, str]]:
    with gzip.open(nas_data / "nasbench201.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


def test_all_strings_round_trip_to_5425_networks(
    space: NASBench201Space, table: list[dict[str, str]]
) -> None:
    """The number of networks is that of Dong & Yang's table once dead ops, zeros and skips are gone."""
    keys: Counter[str] = Counter()
    for row in table:
        arch = space.decode(row["arch"])
        assert space.code(arch) == row["arch"]
        keys[space.canonical(arch).key] += 1
    assert len(table) == space.size() == 15_625
    assert len(keys) == 5_425
    assert keys[space.canonical(space.decode("000000")).key] == 341  # no path from input to output


def test_params_and_macs_of_every_row(space: NASBench201Space, table: list[dict[str, str]]) -> None:
    for row in table:
        cost = space.cost(space.decode(row["arch"]))
        assert (cost.params, cost.macs) == (int(row["params_c10"]), int(row["conv_macs_c10"])), row["arch"]


@pytest.mark.slow
def test_built_networks_count_what_the_table_says(
    space: NASBench201Space, table: list[dict[str, str]]
) -> None:
    for row in np.random.default_rng(0).choice(np.array(table, dtype=object), 200, replace=False):
        check_built(space, row)


def test_some_built_networks_count_what_the_table_says(
    space: NASBench201Space, table: list[dict[str, str]]
) -> None:
    for row in np.random.default_rng(1).choice(np.array(table, dtype=object), 12, replace=False):
        check_built(space, row)


def check_built(space: NASBench201Space, row: dict[str, str]) -> None:
    with torch.device("meta"):
        model = space.build(space.decode(row["arch"])).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 32, 32))
    assert sum(p.numel() for p in model.parameters()) == int(row["params_c10"])
    assert counter.get_total_flops() == 2 * int(row["conv_macs_c10"])


def test_the_official_string_and_the_digits_are_the_same(space: NASBench201Space) -> None:
    arch = space.decode(OFFICIAL)
    assert space.code(arch) == "334131"
    assert space.decode("334131") == arch


@pytest.mark.parametrize(
    "text",
    ["", "33313", "3331325", "333135", "٣33132", "|nor_conv_3x3~0|", OFFICIAL.replace("~2", "~1"),
     OFFICIAL.replace("nor_conv_3x3", "conv"), OFFICIAL.replace("+", ""), OFFICIAL + "+|none~0|"],
)  # fmt: skip
def test_what_is_no_code_is_refused(space: NASBench201Space, text: str) -> None:
    with pytest.raises(InvalidArchitecture, match="a code must be 6 digits of 01234"):
        space.decode(text)


def test_what_sees_only_zeros_is_gone(space: NASBench201Space) -> None:
    """2>3 is a convolution, but nothing reaches node 2."""
    network = space.canonical(space.decode("300303")).graph("cell")
    assert [node.op for node in network] == ["input", "nor_conv_3x3"]
    nothing = space.canonical(space.decode("330000")).graph("cell")
    assert [node.op for node in nothing] == ["input", "none"]


def test_sums_of_sums_are_sums(space: NASBench201Space) -> None:
    """pool(x) + (3x3(x) + 1x1(x)) is one sum of three."""
    network = space.canonical(space.decode("231401")).graph("cell")
    assert [node.op for node in network] == ["input", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "add"]
    assert len(network.output.inputs) == 3


def test_one_shared_convolution_is_not_two(space: NASBench201Space) -> None:
    """conv(x) read twice, and two convolutions of x."""
    shared, separate = space.decode("301011"), space.decode("330011")
    keys = [space.canonical(arch).key for arch in (shared, separate)]
    assert keys[0] != keys[1]


def test_samples_are_uniform(space: NASBench201Space) -> None:
    rng = np.random.default_rng(0)
    codes = [space.code(space.sample(rng)) for _ in range(3000)]
    for edge in range(6):
        assert stats.chisquare(list(Counter(code[edge] for code in codes).values())).pvalue > 0.001


def test_a_mutation_is_one_of_24_neighbours_equally_often(space: NASBench201Space) -> None:
    rng = np.random.default_rng(0)
    arch = space.decode("012340")
    drawn = Counter(space.code(space.mutate(arch, rng)) for _ in range(4800))
    assert set(drawn) == {space.code(other) for other in space.neighbors(arch)}
    assert len(drawn) == 24
    assert stats.chisquare(list(drawn.values())).pvalue > 0.001


def test_an_edited_cell_names_node_and_rule(space: NASBench201Space) -> None:
    data = space.decode("333132").to_dict()
    data["graphs"][0]["nodes"][5]["inputs"] = [3]
    with pytest.raises(InvalidArchitecture, match=r"node 8 \(add\): .* with inputs \(2, 3\) .* got \(3,\)"):
        space.check(Architecture.from_dict(data))
    data = space.decode("333132").to_dict()
    data["graphs"][0]["nodes"][1]["op"] = "add"
    with pytest.raises(InvalidArchitecture, match=r"node 1 \(add\): 0>1 must be one of .* but got 'add'"):
        space.check(Architecture.from_dict(data))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (3, 3, 32)}, "must be at least 4"),
        ({"width": 0}, "`width >= 1 and cells >= 1` must hold, but got width=0"),
        ({"cells": 1.5}, "cells=1.5"),
        ({"crossover": "both"}, "crossover must be one of"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NASBench201Space(**arguments)  # type: ignore[arg-type]
