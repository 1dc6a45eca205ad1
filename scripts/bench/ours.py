"""A searcher of ours as a method: a study in memory, told what the table says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.tables import Table
from nas import Objective, Study
from nas.protocols import Searcher
from nas.trial import Trial


class Own:
    """Told all values; or, with `cost_known`, all that the benchmark's exact objectives do not know."""

    def __init__(self, table: Table, seed: int, searcher: Searcher[Any], cost_known: bool) -> None:
        self._names = table.objectives
        self._space = table.space
        self._exact = table.exact if cost_known else {}
        objectives = [Objective(name, exact=self._exact.get(name)) for name in self._names]
        identity = table.benchmark.identity
        self._study = Study.in_memory(self._space, objectives, searcher, seed, identity=identity)

    def ask(self) -> Trial | None:
        trial = self._study.ask()
        return trial if isinstance(trial, Trial) else None

    def code(self, candidate: Trial) -> str:
        return str(self._space.code(candidate.architecture))

    def tell(self, candidate: Trial, losses: NDArray[np.float64]) -> None:
        values = zip(self._names, losses.tolist(), strict=True)
        self._study.tell(candidate, {name: value for name, value in values if name not in self._exact})
