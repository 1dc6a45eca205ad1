"""The kinds of crossover: which genes a child takes from its second parent, and how often."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from search_spaces.crossover import CROSSOVERS, common, point, stage, two_point, uniform
from search_spaces.genetic_cnn import GeneticCNNSpace
from search_spaces.nasbench201 import NASBench201Space
from search_spaces.nsganet import NSGANetSpace

STAGES = np.array([0, 0, 0, 1, 2, 2])
A, B = np.zeros(6, dtype=np.int64), np.ones(6, dtype=np.int64)
DRAWS = 6000

Mask = tuple[int, ...]


def drawn(kind: str, a: NDArray[np.int64] = A, b: NDArray[np.int64] = B) -> Counter[Mask]:
    """The masks of `DRAWS` crossovers."""
    rng = np.random.default_rng(0)
    stages = STAGES[: len(a)]
    return Counter(tuple(map(int, CROSSOVERS[kind](a, b, stages, rng))) for _ in range(DRAWS))


def equally_likely(counts: Counter[Mask], expected: set[Mask]) -> bool:
    return set(counts) == expected and bool(stats.chisquare(list(counts.values())).pvalue > 0.001)


def segment(first: int, last: int) -> Mask:
    return tuple(int(first <= i < last) for i in range(6))


def test_one_point_takes_what_is_behind_a_cut() -> None:
    """Five cuts; each parent gives at least one gene."""
    assert equally_likely(drawn("point"), {segment(cut, 6) for cut in range(1, 6)})


def test_two_points_take_what_is_between_two_different_cuts() -> None:
    assert equally_likely(drawn("two_point"), {segment(*cuts) for cuts in combinations(range(7), 2)})


def test_uniform_takes_every_subset_equally_often() -> None:
    assert equally_likely(drawn("uniform"), set(product((0, 1), repeat=6)))


def test_stage_takes_whole_graphs() -> None:
    expected = {(x, x, x, y, z, z) for x, y, z in product((0, 1), repeat=3)}
    assert equally_likely(drawn("stage"), expected)


def test_common_takes_every_subset_of_a_size_equally_often() -> None:
    """From no ones and six ones: their number is uniform between the two, and each set as likely."""
    counts = drawn("common")
    sizes = Counter(sum(mask) for mask in counts.elements())
    assert set(sizes) == set(range(7))
    assert stats.chisquare(list(sizes.values())).pvalue > 0.001
    of_three = Counter({mask: n for mask, n in counts.items() if sum(mask) == 3})
    assert equally_likely(of_three, {m for m in product((0, 1), repeat=6) if sum(m) == 3})


@pytest.mark.parametrize("a", list(product((0, 1), repeat=4)))
def test_common_keeps_what_is_shared_and_the_number_of_ones_between_the_parents(a: Mask) -> None:
    rng = np.random.default_rng(0)
    one = np.array(a)
    for bits in product((0, 1), repeat=4):
        other = np.array(bits)
        fewest, most = sorted((sum(a), sum(bits)))
        seen = set()
        for _ in range(40):
            child = np.where(common(one, other, STAGES, rng), other, one)
            assert (child == one)[one == other].all()
            seen.add(int(child.sum()))
        assert min(seen) >= fewest
        assert max(seen) <= most
        if most - fewest <= 2:
            assert seen == set(range(fewest, most + 1))


def test_common_draws_a_coin_where_genes_are_no_bits() -> None:
    """Genes 0 and 1 differ in other choices than 0 and 1; gene 2 is shared; 3 and 4 are bits."""
    one, other = np.array([2, 0, 3, 1, 0]), np.array([1, 2, 3, 0, 1])
    masks = drawn("common", one, other)
    children = {tuple(np.where(mask, other, one).tolist()) for mask in masks}
    assert children == {
        (x, y, 3, *bits) for x, y, bits in product((2, 1), (0, 2), ((1, 0), (0, 1)))
    }  # exactly one of the two bits is set, as in both parents
    assert stats.chisquare(list(masks.values())).pvalue > 0.001


@pytest.mark.parametrize("kind", sorted(CROSSOVERS))
def test_the_rng_decides_and_parents_stay(kind: str) -> None:
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, 3, 6), rng.integers(0, 3, 6)
    kept = one.copy(), other.copy()

    def masks() -> list[list[bool]]:
        rng = np.random.default_rng(2)
        return [CROSSOVERS[kind](one, other, STAGES, rng).tolist() for _ in range(20)]

    assert masks() == masks()
    assert len({tuple(mask) for mask in masks()}) > 1
    assert all(type(value) is bool and len(mask) == 6 for mask in masks() for value in mask)
    np.testing.assert_array_equal(one, kept[0])
    np.testing.assert_array_equal(other, kept[1])


@pytest.mark.parametrize("cross", [point, two_point, uniform, stage, common])
def test_one_gene_and_none_can_be_crossed(cross: object) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        mask = cross(A[:1], B[:1], STAGES[:1], rng)  # type: ignore[operator]
        assert mask.shape == (1,)
        assert mask.dtype == np.bool_
    assert cross(A[:0], B[:0], STAGES[:0], rng).shape == (0,)  # type: ignore[operator]


# --- in a space ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(CROSSOVERS))
def test_every_gene_of_a_child_is_a_parents(kind: str) -> None:
    space = NASBench201Space(crossover=kind)
    rng = np.random.default_rng(0)
    parents = [space.sample(rng) for _ in range(40)]
    for a, b in pairwise(parents):
        child = space.code(space.crossover(a, b, rng))
        assert all(gene in both for gene, *both in zip(child, space.code(a), space.code(b), strict=True))


def test_genetic_cnn_swaps_whole_stages_by_default() -> None:
    space = GeneticCNNSpace()
    rng = np.random.default_rng(0)
    a, b = space.decode("0-00|0-00-000|0-00-000-0000"), space.decode("1-11|1-11-111|1-11-111-1111")
    children = Counter(space.code(space.crossover(a, b, rng)) for _ in range(2000))
    halves = [(x, y) for x, y in zip(space.code(a).split("|"), space.code(b).split("|"), strict=True)]
    assert set(children) == {"|".join(stages) for stages in product(*halves)}
    assert stats.chisquare(list(children.values())).pvalue > 0.001


def test_nsganet_keeps_the_number_of_ones_between_the_parents_by_default() -> None:
    space = NSGANetSpace()
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = space.sample(rng), space.sample(rng)
        bits = [space.code(arch) for arch in (a, b, space.crossover(a, b, rng))]
        fewest, most = sorted(code.count("1") for code in bits[:2])
        assert fewest <= bits[2].count("1") <= most
        assert all(x != y or x == z for x, y, z in zip(*bits, strict=True))
