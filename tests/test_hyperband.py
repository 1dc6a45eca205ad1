"""Hyperband: golden tables, the walk against a slow reference, failures, and resuming after any stop."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nas.hpo import Bracket, Rung, Tuned, brackets, hyperband, sample_config
from nas.settings import Choice, Range, SettingsError

Loss = Callable[[int, int, int], float]


def rungs(*table: Bracket) -> list[list[tuple[int, int]]]:
    return [[(rung.configs, rung.epochs) for rung in bracket.rungs] for bracket in table]


# --- the table -------------------------------------------------------------------------------------


def test_the_printed_table_of_81() -> None:
    """Li et al. 2018, table 1."""
    table = brackets(81)
    assert [bracket.s for bracket in table] == [4, 3, 2, 1, 0]
    assert rungs(*table) == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(27, 3), (9, 9), (3, 27), (1, 81)],
        [(9, 9), (3, 27), (1, 81)],
        [(6, 27), (2, 81)],
        [(5, 81)],
    ]


def test_the_formula_of_81() -> None:
    """Li et al. 2018, algorithm 1: n = ceil((s_max + 1) / (s + 1) * eta^s), n_i = floor(n / eta^i)."""
    assert rungs(*brackets(81, table="formula")) == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


@pytest.mark.parametrize(
    ("r", "eta", "expected"),
    [
        (1, 3, [[(1, 1)]]),
        (2, 3, [[(1, 2)]]),
        (9, 3, [[(9, 1), (3, 3), (1, 9)], [(3, 3), (1, 9)], [(3, 9)]]),
        (10, 3, [[(9, 1), (3, 3), (1, 10)], [(3, 3), (1, 10)], [(3, 10)]]),
        (26, 3, [[(9, 2), (3, 8), (1, 26)], [(3, 8), (1, 26)], [(3, 26)]]),
        (4, 2, [[(4, 1), (2, 2), (1, 4)], [(2, 2), (1, 4)], [(3, 4)]]),
    ],
)
def test_other_budgets(r: int, eta: int, expected: list[list[tuple[int, int]]]) -> None:
    assert rungs(*brackets(r, eta)) == expected


def test_s_max_is_computed_in_integers() -> None:
    assert math.floor(math.log(243) / math.log(3)) == 4  # the trap
    assert brackets(243)[0].s == 5
    for power in range(1, 12):
        assert brackets(3**power)[0].s == power
        assert brackets(3**power - 1)[0].s == power - 1


@given(st.integers(1, 500), st.integers(2, 6), st.sampled_from(["printed", "formula"]))
def test_every_table_is_sound(r: int, eta: int, table: str) -> None:
    for bracket in brackets(r, eta, table):  # type: ignore[arg-type]
        assert len(bracket.rungs) == bracket.s + 1
        assert bracket.rungs[-1].epochs == r
        assert all(rung.configs >= 1 and rung.epochs >= 1 for rung in bracket.rungs)
        for before, after in zip(bracket.rungs, bracket.rungs[1:], strict=False):
            assert after.configs <= before.configs
            assert after.epochs > before.epochs


def test_count_takes_the_first_brackets() -> None:
    assert brackets(27, count=1) == brackets(27)[:1]
    assert brackets(27, count=99) == brackets(27)


@pytest.mark.parametrize(("r", "eta"), [(0, 3), (9, 1), (-1, 3)])
def test_a_senseless_table_is_refused(r: int, eta: int) -> None:
    with pytest.raises(SettingsError, match=rf"max_epochs={r}, eta={eta}"):
        brackets(r, eta)


# --- the walk --------------------------------------------------------------------------------------


class Fits:
    """A training that remembers its checkpoints: epochs are trained once, a known rung returns at once."""

    def __init__(self, loss: Loss, stop_after: int | None = None) -> None:
        self.loss, self.stop_after = loss, stop_after
        self.checkpoints: dict[tuple[int, int], int] = {}
        self.epochs = 0
        self.calls: list[tuple[int, int, int]] = []

    def __call__(self, s: int, index: int, epochs: int) -> float:
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((s, index, epochs))
        done = self.checkpoints.get((s, index), 0)
        assert epochs >= done, "a walk never goes back"
        self.epochs += epochs - done
        self.checkpoints[s, index] = epochs
        return self.loss(s, index, epochs)


def random_loss(seed: int, failing: float = 0.0, levels: int = 5) -> Loss:
    """A loss that depends on (bracket, index, epochs) only; few levels, so that ties are common."""

    def loss(s: int, index: int, epochs: int) -> float:
        rng = np.random.default_rng([seed, s, index, epochs])
        if rng.random() < failing:
            return float(rng.choice([np.nan, np.inf, -np.inf]))
        return float(rng.integers(levels))

    return loss


def slow_walk(table: tuple[Bracket, ...], loss: Loss) -> tuple[Tuned | None, list[tuple[int, int, int]], int]:
    """The same by the words of the paper: train, sort, keep the top; every rung from the start."""
    found: list[tuple[float, int, int, int]] = []
    fits = []
    epochs: dict[tuple[int, int], int] = {}
    for order, bracket in enumerate(table):
        pool = list(range(bracket.rungs[0].configs))
        for i, rung in enumerate(bracket.rungs):
            for config in pool:
                fits.append((bracket.s, config, rung.epochs))
                epochs[bracket.s, config] = rung.epochs
            sound = [c for c in pool if math.isfinite(loss(bracket.s, c, rung.epochs))]
            keep = bracket.rungs[i + 1].configs if i + 1 < len(bracket.rungs) else len(sound)
            pool = sorted(
                sorted(sound, key=lambda c, e=rung.epochs, s=bracket.s: (loss(s, c, e), c))[:keep]  # type: ignore[misc]
            )
        found += [(loss(bracket.s, c, bracket.rungs[-1].epochs), order, c, bracket.s) for c in pool]
    total = sum(epochs.values())
    best = min(found, default=None)
    return (None if best is None else Tuned(best[3], best[2], best[0])), fits, total


@pytest.mark.parametrize("failing", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("table", ["printed", "formula"])
@pytest.mark.parametrize("r", [1, 5, 9, 27])
def test_the_walk_equals_the_slow_reference(r: int, table: str, failing: float) -> None:
    for seed in range(5):
        schedule = brackets(r, table=table)  # type: ignore[arg-type]
        loss = random_loss(seed, failing)
        fits = Fits(loss)
        expected, calls, epochs = slow_walk(schedule, loss)
        assert hyperband(schedule, fits) == expected
        assert fits.calls == calls
        assert fits.epochs == epochs


def test_the_best_of_each_rung_is_promoted_and_nothing_is_trained_twice() -> None:
    """Configuration 5 is the best one: the walk must find it in the first bracket's last rung."""
    fits = Fits(lambda s, index, epochs: abs(index - 5) + 1 / epochs)
    tuned = hyperband(brackets(9), fits)
    assert tuned == Tuned(2, 5, 1 / 9)
    assert fits.epochs == 9 * 1 + 3 * 2 + 1 * 6 + 3 * 3 + 1 * 6 + 3 * 9
    assert [index for s, index, epochs in fits.calls if (s, epochs) == (2, 3)] == [4, 5, 6]
    assert len(fits.calls) == len(set(fits.calls))


def test_ties_go_to_the_first() -> None:
    fits = Fits(lambda s, index, epochs: 1.0)
    assert hyperband(brackets(9), fits) == Tuned(2, 0, 1.0)
    assert [index for s, index, epochs in fits.calls if (s, epochs) == (2, 3)] == [0, 1, 2]


def test_a_failed_configuration_is_never_promoted() -> None:
    sound = {(2, 4), (1, 1), (0, 2)}
    fits = Fits(lambda s, index, epochs: 3.0 - s if (s, index) in sound else math.nan)
    assert hyperband(brackets(9), fits) == Tuned(2, 4, 1.0)
    assert [(s, i) for s, i, e in fits.calls if e == 9 and s] == [(2, 4), (1, 1)]


def test_a_rung_without_survivors_ends_its_bracket_only() -> None:
    fits = Fits(lambda s, index, epochs: 1.0 if s == 0 else math.nan)
    assert hyperband(brackets(9), fits) == Tuned(0, 0, 1.0)
    everywhere = Fits(lambda s, index, epochs: math.inf)
    assert hyperband(brackets(9), everywhere) is None
    late = Fits(lambda s, index, epochs: math.nan if epochs == 9 else 1.0)
    assert hyperband(brackets(9), late) is None


@pytest.mark.parametrize("failing", [0.0, 0.3])
def test_resuming_after_a_stop_at_any_fit_gives_the_same(failing: float) -> None:
    """Called again with the checkpoints of the first run: same winner, no epoch trained twice."""
    schedule = brackets(9)
    for seed in range(3):
        whole = Fits(random_loss(seed, failing))
        expected = hyperband(schedule, whole)
        for stop in range(len(whole.calls)):
            fits = RestingFits(random_loss(seed, failing), stop)
            with pytest.raises(KeyboardInterrupt):
                hyperband(schedule, fits)
            fits.stop_after = None
            assert hyperband(schedule, fits) == expected
            assert fits.epochs == whole.epochs
            assert sorted(fits.trained) == sorted(set(fits.trained))


class RestingFits(Fits):
    """Fits whose checkpoints hold the whole curve, as the trainer's do: an earlier rung can be read again."""

    def __init__(self, loss: Loss, stop_after: int | None) -> None:
        super().__init__(loss, stop_after)
        self.trained: list[tuple[int, int, int]] = []

    def __call__(self, s: int, index: int, epochs: int) -> float:
        if self.checkpoints.get((s, index), 0) >= epochs:
            return self.loss(s, index, epochs)
        value = super().__call__(s, index, epochs)
        self.trained.append((s, index, epochs))
        return value


def test_the_schedule_is_data() -> None:
    """Any rungs can be walked: two of one size promote everything."""
    fits = Fits(lambda s, index, epochs: float(-index))
    tuned = hyperband([Bracket(7, (Rung(2, 1), Rung(2, 4)))], fits)
    assert tuned == Tuned(7, 1, -1.0)
    assert hyperband([], fits) is None


# --- drawing configurations ------------------------------------------------------------------------


def draws(domain: Range | Choice, n: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([sample_config({"lr": domain}, {}, rng)["lr"] for _ in range(n)])


def test_the_law_of_a_range() -> None:
    log = draws(Range(1e-4, 1e-1, log=True))
    assert stats.kstest(np.log10(log), stats.uniform(-4, 3).cdf).pvalue > 0.01
    flat = draws(Range(0.2, 0.9))
    assert stats.kstest(flat, stats.uniform(0.2, 0.7).cdf).pvalue > 0.01


def test_the_law_of_a_choice() -> None:
    values = draws(Choice((0.1, 0.2, 0.4)))
    assert stats.chisquare(np.unique(values, return_counts=True)[1]).pvalue > 0.01


@given(st.floats(1e-12, 1e6), st.floats(1, 10), st.integers(0, 100), st.booleans())
def test_draws_stay_in_their_range(low: float, factor: float, seed: int, log: bool) -> None:
    domain = Range(low, low * factor, log)
    value = sample_config({"lr": domain}, {}, np.random.default_rng(seed))["lr"]
    assert isinstance(value, float)
    assert domain.low <= value <= domain.high


def test_what_is_not_tuned_keeps_its_default_and_order_of_names_does_not_matter() -> None:
    defaults = {"lr": 0.1, "momentum": 0.9}
    one = {"lr": Range(0, 1), "momentum": Range(0, 1)}
    other = dict(reversed(one.items()))
    assert sample_config({}, defaults, np.random.default_rng(0)) == defaults
    assert sample_config(one, defaults, np.random.default_rng(0)) == sample_config(
        other, defaults, np.random.default_rng(0)
    )
    assert defaults == {"lr": 0.1, "momentum": 0.9}
