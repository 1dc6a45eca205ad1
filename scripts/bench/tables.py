"""Tables of measured architectures: where they are read, in which space, for which objectives."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from bench.metrics import Judge
from nas import Architecture
from nas.protocols import Identity
from objectives.cost import macs, params
from search_spaces.nasbench201 import NASBench201Space
from search_spaces.nasbench_macro import NASBenchMacroSpace

Values = Mapping[str, float]
Exact = Callable[[Architecture, Any], float]


@dataclass(frozen=True)
class Benchmark:
    """How a table is read: code -> objective name -> value, minimised; the first objective is the error.

    Attributes:
        files: in the folder of the tables; all of them are in the table's name by their hash.
        read: folder -> rows.
        space: with `decode(code)` and `code(arch)`.
        identity: what makes two candidates one.
        exact: objectives that need no training, for the methods named "… cost known"; None: the cost is
            known, but looked up in the table.
    """

    name: str
    files: tuple[str, ...]
    read: Callable[[Path], dict[str, Values]]
    space: Callable[[], Any]
    identity: Identity
    exact: Mapping[str, Exact | None] = field(default_factory=dict)


# --- readers -----------------------------------------------------------------------------------------

MACRO = "nasbench_macro.json.gz"
NASBENCH201, LATENCIES = "nasbench201.csv.gz", "nasbench201_latency.csv.gz"


def read_macro(folder: Path, columns: tuple[str, ...]) -> dict[str, Values]:
    """NAS-Bench-Macro: error on CIFAR-10 in percent, and `columns`."""
    rows = json.loads(gzip.decompress((folder / MACRO).read_bytes()))
    return {
        code: {"error": 100 - row["mean_acc"], **{c: row[c] for c in columns}} for code, row in rows.items()
    }


def read_nasbench201(
    folder: Path, files: tuple[str, ...], accuracy: str, columns: tuple[str, ...]
) -> dict[str, Values]:
    """NAS-Bench-201: 100 - the column `accuracy`, and `columns` of any of `files`, joined by their index."""
    joined: dict[str, dict[str, str]] = {}
    for name in files:
        with gzip.open(folder / name, "rt") as file:
            for row in csv.DictReader(file):
                joined.setdefault(row["index"], {}).update(row)
    return {
        row["arch"]: {"error": 100 - float(row[accuracy]), **{c: float(row[c]) for c in columns}}
        for row in joined.values()
    }


# --- benchmarks --------------------------------------------------------------------------------------


COSTS: Mapping[str, Exact | None] = {
    "params": params().exact,
    "flops": macs().exact,  # NAS-Bench-Macro's flops are MACs
    "params_c10": params(form="written").exact,
    "conv_macs_c10": macs(form="written").exact,
}
"""Columns that the spaces compute exactly."""


def _macro(name: str, *columns: str) -> Benchmark:
    read = partial(read_macro, columns=columns)
    return Benchmark(name, (MACRO,), read, NASBenchMacroSpace, "network", {c: COSTS[c] for c in columns})


def _nasbench201(name: str, *columns: str, accuracy: str = "c10_test_200") -> Benchmark:
    """Rows of one network have measurements of their own, so candidates differ by written form."""
    exact = {column: COSTS.get(column) for column in columns}
    files = (NASBENCH201, LATENCIES) if None in exact.values() else (NASBENCH201,)
    read = partial(read_nasbench201, files=files, accuracy=accuracy, columns=columns)
    return Benchmark(name, files, read, NASBench201Space, "written", exact)


BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        _macro("macro", "flops"),
        _macro("macro-3", "params", "flops"),
        _nasbench201("nasbench201-pixel3", "pixel3"),
        _nasbench201("nasbench201-flops", "conv_macs_c10"),
        _nasbench201("nasbench201-params", "params_c10"),
        _nasbench201("nasbench201-4", "params_c10", "conv_macs_c10", "raspi4"),
        _macro("macro-error"),
        _nasbench201("nasbench201-c10"),
        _nasbench201("nasbench201-c100", accuracy="c100_test_200"),
    )
}


class Table:
    """All candidates of a benchmark with their values.

    Attributes:
        name: of the benchmark and of the files' content, so that results of a changed table are not mixed.
        rows: code -> objective name -> value.
        objectives: names, in order.
        codes: in order.
        losses: `float64[n, m]`, of `codes`.
        places: for each place of a code, the letters that stand there.

    Raises:
        FileNotFoundError: a file of the benchmark is not in the folder.
    """

    def __init__(self, benchmark: Benchmark, folder: Path) -> None:
        paths = [folder / name for name in benchmark.files]
        if missing := [path for path in paths if not path.is_file()]:
            raise FileNotFoundError(
                f"no table at {missing[0]}: set NAS_DATA to the folder of the tables, or pass --data FOLDER"
            )
        content = blake2b(b"".join(path.read_bytes() for path in paths), digest_size=4).hexdigest()
        self.name = f"{benchmark.name}-{content}"
        self.benchmark = benchmark
        self.rows = benchmark.read(folder)
        self.space = benchmark.space()
        self.objectives = tuple(next(iter(self.rows.values())))
        self.codes = tuple(self.rows)
        self.losses = np.array([list(row.values()) for row in self.rows.values()], dtype=np.float64)
        self.places = [sorted(set(place)) for place in zip(*self.codes, strict=True)]
        self._index = {code: i for i, code in enumerate(self.codes)}

    def index(self, code: str) -> int:
        """The place of a code in `codes`."""
        return self._index[code]

    @cached_property
    def judge(self) -> Judge:
        return Judge(self.losses)

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """Code -> what makes two candidates the same."""
        if self.benchmark.identity == "written":
            return {code: code for code in self.codes}
        space = self.benchmark.space()  # that of the searches is not to remember them
        return {code: space.canonical(space.decode(code)).key for code in self.codes}

    @cached_property
    def exact(self) -> Mapping[str, Exact]:
        """What the benchmark's known costs are, by objective name."""
        return {
            name: function or partial(self._look_up, name=name)
            for name, function in self.benchmark.exact.items()
        }

    def _look_up(self, arch: Architecture, space: Any, name: str) -> float:
        return self.rows[space.code(arch)][name]
