"""Searchers as published systems set them: functions whose arguments are open to change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from nas.searchers.bayesian import BayesianOptimization
from nas.searchers.nsga2 import NSGA2

SOME_GENE = 1 - 1 / math.e
"""Probability that some gene mutates where each of many, n, does with probability 1 / n: 1 - (1 - 1/n)^n."""


def nsganet(
    population: int = 40,
    offspring: int | None = 40,
    crossover: float = 1.0,
    mutation: float = SOME_GENE,
    tournament: Literal["rank", "dominance"] = "dominance",
) -> NSGA2:
    """NSGA-Net (Lu et al. 2019, "NSGA-Net: Neural Architecture Search using Multi-Objective Genetic
    Algorithm").

    Settings of its code (ianwhale/nsga-net, `search/evolution_search.py`, with the operators of pymoo 0.3.0):
    population and offspring 40, tournament by dominance then crowding, two points for every pair, polynomial
    mutation of each gene with probability 1 / n. The points are the space's affair (`crossover` of the
    spaces), and a mutation is one change of the space.

    Raises:
        ValueError: as of `NSGA2`, whose attributes the arguments are.
    """
    return NSGA2(population, offspring, crossover, mutation, tournament)


def nemo(
    population: int = 100,
    offspring: int | None = None,
    crossover: float = 0.9,
    mutation: float = SOME_GENE,
    tournament: Literal["rank", "dominance"] = "rank",
) -> NSGA2:
    """NEMO (Kim et al. 2017, "NEMO: Neuro-Evolution with Multiobjective Optimization of Deep Neural Network
    for Speed and Accuracy"): plain NSGA-II over error and inference time.

    No code of it is public, so the numbers are NSGA-II's own (Deb et al. 2002, section V): population 100,
    generations, crossover .9, mutation of each gene with probability 1 / n.

    Raises:
        ValueError: as of `NSGA2`, whose attributes the arguments are.
    """
    return NSGA2(population, offspring, crossover, mutation, tournament)


def nas_bowl(
    initial: int = 30,
    samples: int = 1,
    blocks: Sequence[str] = ("ops", "wiring", "wiring2"),
    acquisition: str = "ehvi",
) -> BayesianOptimization:
    """NAS-BOWL (Ru et al. 2021, "Interpretable Neural Architecture Search via Bayesian Optimisation with
    Weisfeiler-Lehman Kernels").

    A Gaussian process over Weisfeiler-Lehman labels alone, h up to 2 as in its code (xingchenwan/nasbowl:
    30 first trials, log of the error, expected improvement, candidates half by mutation of the best). The
    kernel is this package's, with a length of its own for each h, in place of a search for one h.

    Raises:
        ValueError: as of `BayesianOptimization`, whose attributes the arguments are.
    """
    return BayesianOptimization(initial, samples, blocks, acquisition)
