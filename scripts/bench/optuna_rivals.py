"""Optuna's samplers through ask and tell, each place of a code a categorical parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.tables import Table

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial


class Optuna:
    """`sampler`: (seed) -> Optuna's sampler."""

    def __init__(self, table: Table, seed: int, sampler: Callable[[int], BaseSampler]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._places: dict[str, BaseDistribution] = {
            f"place {i}": optuna.distributions.CategoricalDistribution(letters)
            for i, letters in enumerate(table.places)
        }
        directions = [optuna.study.StudyDirection.MINIMIZE for _ in table.objectives]
        self._study = optuna.create_study(directions=directions, sampler=sampler(seed))

    def ask(self) -> Trial:
        return self._study.ask(self._places)

    def code(self, candidate: Trial) -> str:
        return "".join(candidate.params[name] for name in self._places)

    def tell(self, candidate: Trial, losses: NDArray[np.float64]) -> None:
        self._study.tell(candidate, losses.tolist())


def tpe(seed: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed)


def gp(seed: int) -> BaseSampler:
    import torch  # noqa: F401  (Optuna would load it in the first ask, whose time is measured)
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed)


def nsga2(seed: int) -> BaseSampler:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(population_size=20, seed=seed)
