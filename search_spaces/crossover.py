"""Which genes a child takes from its second parent: the kinds of crossover, each one a law of a mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from nas.seeding import below

Alleles = NDArray[np.int64]
"""Which of its choices each gene has."""
Mask = NDArray[np.bool_]


def point(a: Alleles, b: Alleles, stages: Alleles, rng: np.random.Generator) -> Mask:
    """The genes behind one cut."""
    return np.asarray(np.arange(len(a)) >= rng.integers(1, max(len(a), 2)))


def two_point(a: Alleles, b: Alleles, stages: Alleles, rng: np.random.Generator) -> Mask:
    """The genes between two cuts."""
    mask = np.zeros(len(a), dtype=bool)
    if len(a):
        one, other = below(len(a) + 1, rng), below(len(a), rng)
        other += other >= one  # two different cuts
        mask[min(one, other) : max(one, other)] = True
    return mask


def uniform(a: Alleles, b: Alleles, stages: Alleles, rng: np.random.Generator) -> Mask:
    """Each gene, or not, by a fair coin."""
    return rng.random(len(a)) < 0.5


def stage(a: Alleles, b: Alleles, stages: Alleles, rng: np.random.Generator) -> Mask:
    """Whole graphs, each by a fair coin, as Genetic CNN swaps stages (Xie & Yuille 2017, section 3.2.3)."""
    return np.asarray((rng.random(int(stages.max(initial=0)) + 1) < 0.5)[stages])


def common(a: Alleles, b: Alleles, stages: Alleles, rng: np.random.Generator) -> Mask:
    """What both parents share stays; of the bits in which they differ so many are set that the child's
    number of ones lies between its parents' (NSGA-Net, Lu et al. 2019, section 3.2)."""
    differ = np.flatnonzero(a != b)
    bits = differ[np.maximum(a, b)[differ] == 1]
    ones = sorted((int(a[bits].sum()), int(b[bits].sum())))
    set_ones = rng.permutation(bits)[: rng.integers(ones[0], ones[1] + 1)]
    child = np.zeros(len(a), dtype=np.int64)
    child[set_ones] = 1
    mask = np.zeros(len(a), dtype=bool)
    mask[bits] = child[bits] == b[bits]
    others = np.setdiff1d(differ, bits)
    mask[others] = rng.random(len(others)) < 0.5
    return mask


CROSSOVERS: Mapping[str, Callable[[Alleles, Alleles, Alleles, np.random.Generator], Mask]] = {
    "point": point,
    "two_point": two_point,
    "uniform": uniform,
    "stage": stage,
    "common": common,
}
"""Kinds by name. Each takes the parents' alleles and the number of the graph of each gene."""
