"""NAS-Bench-Macro: all rows of the published table."""

from __future__ import annotations

import gzip
import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.architecture import Architecture, InvalidArchitecture
from search_spaces.nasbench_macro import NASBenchMacroSpace

CODES = ["".join(digits) for digits in product("012", repeat=8)]
NETWORKS = 9 * 21 * 21
"""Within a stage a later identity is a no-op: 9, 21 and 21 sequences of 2, 3 and 3 blocks."""


@pytest.fixture(scope="module")
def table() -> dict[str, dict[str, Any]]:
    folder = os.environ.get("NAS_DATA")
    if not folder:
        pytest.skip("NAS_DATA is not set: it names the folder with nasbench_macro.json.gz")
    with gzip.open(Path(folder) / "nasbench_macro.json.gz", "rt") as file:
        return dict(json.load(file))


@pytest.fixture(scope="module")
def space() -> NASBenchMacroSpace:
    return NASBenchMacroSpace()


@pytest.mark.parametrize(
    ("code", "macs", "params"),
    [("22212220", 85_164_544, 1_985_514), ("22212202", 85_164_544, 1_985_514)],
)
def test_golden_rows(space: NASBenchMacroSpace, code: str, macs: int, params: int) -> None:
    """Su et al. 2021, the best network and its twin."""
    cost = space.cost(space.decode(code))
    assert (cost.macs, cost.params) == (macs, params)


def test_golden_extremes(space: NASBenchMacroSpace) -> None:
    """The ranges of the published columns."""
    costs = [space.cost(space.decode(code)) for code in ("0" * 8, "2" * 8)]
    assert [cost.macs for cost in costs] == [7_713_280, 105_660_928]
    assert [cost.params for cost in costs] == [387_882, 2_932_586]


def test_params_and_macs_of_all_rows(space: NASBenchMacroSpace, table: dict[str, dict[str, Any]]) -> None:
    """The table's "flops" are multiply-accumulates."""
    assert sorted(table) == CODES
    wrong = [
        code
        for code, row in table.items()
        if (cost := space.cost(space.decode(code))).params != row["params"] or cost.macs != row["flops"]
    ]
    assert wrong == []


def test_rows_of_one_network_are_alike(space: NASBenchMacroSpace, table: dict[str, dict[str, Any]]) -> None:
    networks: dict[str, set[tuple[Any, ...]]] = {}
    for code, row in table.items():
        key = space.canonical(space.decode(code)).key
        networks.setdefault(key, set()).add((row["mean_acc"], row["params"], row["flops"]))
    assert len(networks) == NETWORKS
    assert all(len(rows) == 1 for rows in networks.values())


def test_all_codes_round_trip_encode_apart_and_make_3969_networks(space: NASBenchMacroSpace) -> None:
    encoded, written, networks = set(), set(), set()
    for code in CODES:
        arch = space.decode(code)
        assert space.code(arch) == code
        encoded.add(tuple(space.encode(arch)))
        written.add(arch.key)
        networks.add(space.canonical(arch).key)
    assert len(encoded) == len(written) == len(CODES) == space.size() == 6561
    assert len(networks) == NETWORKS == 3969


def test_canonical_is_the_first_op_of_a_stage_and_no_later_identity(space: NASBenchMacroSpace) -> None:
    def short(code: str) -> tuple[str, ...]:
        stages = (code[:2], code[2:5], code[5:])
        return tuple(stage[0] + stage[1:].replace("0", "") for stage in stages)

    keys: dict[tuple[str, ...], str] = {}
    for code in CODES[::7]:
        key = space.canonical(space.decode(code)).key
        assert keys.setdefault(short(code), key) == key
    assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize(
    "text", ["", "2221222", "222122200", "2221222x", "2221 220", "22212223", "２2212220"]
)
def test_a_wrong_code_is_refused(space: NASBenchMacroSpace, text: str) -> None:
    with pytest.raises(InvalidArchitecture, match="a code must be 8 digits of 012, but got"):
        space.decode(text)


def test_a_form_that_is_not_written_by_the_space_is_refused(space: NASBenchMacroSpace) -> None:
    arch = space.decode("00000000")
    with pytest.raises(InvalidArchitecture, match="must hold 8 choices, but it ends after 3"):
        space.code(space.canonical(arch))
    data = arch.to_dict()
    data["graphs"][0]["nodes"][3]["params"]["width"] = 32
    with pytest.raises(
        InvalidArchitecture,
        match=r"node 3 \(identity\): .* {'stride': 2, 'width': 128}, but got .* 'width': 32}",
    ):
        space.check(Architecture.from_dict(data))
    data = arch.to_dict()
    data["graphs"][0]["nodes"][0]["op"] = "identity"
    with pytest.raises(InvalidArchitecture, match=r"node 0 \(identity\): .* writes 'input' here"):
        space.code(Architecture.from_dict(data))


def test_samples_and_mutations_are_uniform(space: NASBenchMacroSpace) -> None:
    from scipy import stats

    rng = np.random.default_rng(0)
    digits = np.array([[int(d) for d in space.code(space.sample(rng))] for _ in range(1500)])
    for column in digits.T:
        assert stats.chisquare(np.bincount(column, minlength=3)).pvalue > 0.001
    arch = space.decode("01201201")
    children = [space.code(space.mutate(arch, rng)) for _ in range(1600)]
    assert len(set(children)) == 16
    assert {space.code(other) for other in space.neighbors(arch)} == set(children)
    assert stats.chisquare(list({c: children.count(c) for c in children}.values())).pvalue > 0.001


def test_crossover_takes_a_run_of_blocks(space: NASBenchMacroSpace) -> None:
    rng = np.random.default_rng(0)
    a, b = space.decode("0" * 8), space.decode("2" * 8)
    codes = {space.code(space.crossover(a, b, rng)) for _ in range(500)}
    assert codes == {"0" * i + "2" * (j - i) + "0" * (8 - j) for i in range(8) for j in range(i + 1, 9)}
