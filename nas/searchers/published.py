"""NSGA-II as published systems set it: functions that give an `NSGA2`, each setting open to change."""

from __future__ import annotations

import math
from typing import Literal

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
