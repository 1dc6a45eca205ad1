"""Streams: they differ by seed, purpose and ids, and stay what they are."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from nas.seeding import Purpose, integer_seed, stream


def test_golden_values() -> None:
    """A study that goes on after an update must draw what it would have drawn (this code, 2026)."""
    assert {purpose.name: int(purpose) for purpose in Purpose} == {
        "ASK": 0,
        "TOLD": 1,
        "SPLIT": 2,
        "HPARAMS": 3,
        "TRAIN": 4,
        "MEASURE": 5,
        "INHERIT": 6,
        "DISTIL": 7,
    }
    assert stream(7, Purpose.ASK, 3).integers(1 << 30, size=3).tolist() == GOLDEN_DRAWS
    assert integer_seed(7, Purpose.TRAIN, 3, 1) == GOLDEN_SEED


GOLDEN_DRAWS = [287237044, 1012771399, 90293212]
GOLDEN_SEED = 5756196116686817975


def test_equal_names_give_equal_draws() -> None:
    assert stream(5, Purpose.TOLD, 2).random() == stream(5, Purpose.TOLD, 2).random()


def test_streams_differ_by_seed_purpose_and_every_id() -> None:
    ids: list[tuple[int, ...]] = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0)]
    names = list(product((0, 1, 5), Purpose, ids))
    assert len({stream(seed, purpose, *key).integers(1 << 62) for seed, purpose, key in names}) == len(names)
    assert len({integer_seed(seed, purpose, *key) for seed, purpose, key in names}) == len(names)


def test_a_trailing_zero_is_an_id() -> None:
    """The trap: as entropy, (5, 0) and 5 are the same."""
    trapped = [np.random.default_rng(np.random.SeedSequence(entropy)).random() for entropy in (5, (5, 0))]
    assert trapped[0] == trapped[1]
    assert stream(5, Purpose.ASK).random() != stream(5, Purpose.ASK, 0).random()


def test_integer_seeds_have_63_bits_and_spread() -> None:
    seeds = [integer_seed(0, Purpose.TRAIN, i) for i in range(2000)]
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert np.mean(seeds) / (1 << 63) == pytest.approx(0.5, abs=0.05)
    assert len(set(seeds)) == len(seeds)


def test_streams_look_uniform() -> None:
    first = np.array([stream(0, Purpose.ASK, i).random() for i in range(1000)])
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.15
    assert first.mean() == pytest.approx(0.5, abs=0.05)
