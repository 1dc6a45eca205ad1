"""Surrogate models: what each promises, closed forms, slow references, bad rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator

from nas.surrogates import (
    MODELS,
    RBF,
    BestByCrossValidation,
    BoostedTrees,
    CARTs,
    GaussianProcess,
    MLPEnsemble,
    PairwiseRanking,
    RandomForest,
    model_of,
    quality,
)
from nas.surrogates.mlp import Nets
from nas.surrogates.model import Floats, Model, Normal, Unfit
from nas.surrogates.quality import judged, out_of_fold, rank_correlation
from nas.surrogates.ranking import differences, ranking

QUICK: dict[str, Model] = {
    "rbf": RBF(),
    "forest": RandomForest(trees=30),
    "carts": CARTs(trees=30),
    "boosted": BoostedTrees(members=3, trees=30),
    "mlp": MLPEnsemble(layers=3, epochs=60),
    "ranking": PairwiseRanking(),
    "gp": GaussianProcess(),
    "best": BestByCrossValidation((RBF(), PairwiseRanking()), folds=4),
}
every_model = pytest.mark.parametrize("model", QUICK.values(), ids=QUICK)


def one_hot(rows: int, rng: np.random.Generator, places: int = 6) -> Floats:
    return np.eye(3)[rng.integers(3, size=(rows, places))].reshape(rows, -1)


def some(rows: int, seed: int = 0) -> tuple[Floats, Floats]:
    """One-hot rows, targets that add up, with a product of two columns."""
    rng = np.random.default_rng(seed)
    x = one_hot(rows, rng)
    y = x @ np.random.default_rng(9).normal(size=x.shape[1]) + x[:, 0] * x[:, 4]
    return x, (y - y.mean()) / y.std()


# --- what every model promises ---------------------------------------------------------------------------


def test_all_models_are_tested() -> None:
    assert set(QUICK) == set(MODELS)
    assert all(type(model_of(name)) is type(model) for name, model in QUICK.items())
    assert model_of(QUICK["rbf"]) is QUICK["rbf"]
    with pytest.raises(ValueError, match="model must be one of best, boosted"):
        model_of("forrest")
    with pytest.raises(ValueError, match="must be a name or have `fit`"):
        model_of(3)  # type: ignore[arg-type]


@every_model
def test_a_model_learns_the_order_and_repeats_itself(model: Model) -> None:
    x, y = some(120)
    new, truth = some(100, seed=1)
    np.random.seed(0)  # noqa: NPY002  (that no global state is read or written)
    before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]  # noqa: NPY002
    predicted = [model.fit(x, y, np.random.default_rng(3)).predict(new) for _ in range(2)]
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index, union-attr]  # noqa: NPY002
    assert predicted[0].mean.tolist() == predicted[1].mean.tolist()
    assert predicted[0].std.tolist() == predicted[1].std.tolist()
    assert predicted[0].mean.shape == predicted[0].std.shape == (100,)
    assert (predicted[0].std >= 0).all()
    assert rank_correlation(predicted[0].mean, truth) > 0.6
    assert model.fit(x, y, np.random.default_rng(3)).predict(new[:0]).mean.shape == (0,)


@every_model
def test_what_cannot_be_learnt_is_refused(model: Model) -> None:
    x, y = some(20)
    rng = np.random.default_rng(0)
    for bad_x, bad_y, message in (
        (x[:2], y[:2], "must have 3 rows, but got 2"),
        (x[:0], y[:0], "must have 3 rows, but got 0"),
        (x, np.full(20, 2.5), "must have different targets, but all of 20 are 2.5"),
        (x, np.where(np.arange(20) == 3, np.nan, y), "must have finite numbers"),
        (np.where(np.arange(18) == 3, np.inf, x), y, "must have finite numbers"),
        (x[:, :0], y, "must have a column"),
    ):
        with pytest.raises(Unfit, match=message):
            model.fit(bad_x, bad_y, rng)
    with pytest.raises(ValueError, match="must have shapes"):
        model.fit(x, y[:5], rng)


@every_model
@pytest.mark.parametrize("rows", [3, 4, 7])
def test_few_and_degenerate_rows(model: Model, rows: int) -> None:
    """Fewer rows than columns, rows that are all equal or all but one, a column of one value, outliers."""
    x, y = some(rows)
    rng = np.random.default_rng(0)
    new = some(30, seed=1)[0]
    alike = np.ones_like(x)
    one_other = alike.copy()
    one_other[0] = 0.0
    for rows_x, rows_y in (
        (x, y),
        (alike, y),
        (one_other, y),
        (x, y * [1e9, *[1.0] * (rows - 1)]),
        (x * 1e-9, y),
    ):
        predicted = model.fit(rows_x, rows_y, rng).predict(new)
        assert np.isfinite(predicted.mean).all()
        assert np.isfinite(predicted.std).all()


# --- one by one ------------------------------------------------------------------------------------------


def test_rbf_without_a_ridge_is_scipys_interpolant() -> None:
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(25, 3)), rng.normal(size=(40, 3))
    y = np.sin(x).sum(axis=1)
    expected = RBFInterpolator(x, y, kernel="cubic", degree=1)(new)
    fitted = RBF(("cubic",), (0.0,)).fit(x, y, rng)
    assert fitted.linear
    assert fitted.predict(new).mean == pytest.approx(expected, abs=1e-6)
    assert fitted.predict(x).mean == pytest.approx(y, abs=1e-7)
    assert fitted.predict(x).std == pytest.approx(np.zeros(25), abs=1e-3)
    assert (fitted.predict(new).std > 1e-3).all()


def test_rbf_leave_one_out_error_is_that_of_fitting_without_the_row() -> None:
    x, y = some(40)
    ridge = 1e-3
    fitted = RBF(("cubic",), (ridge,)).fit(x, y, np.random.default_rng(0))
    kernel = np.linalg.norm(x[:, None] - x[None], axis=2) / fitted.unit
    tail = np.column_stack([np.ones(40), (x - fitted.centre) @ fitted.axes / fitted.unit])
    slow = []
    for row in range(40):
        kept = np.arange(40) != row
        k = kernel[np.ix_(kept, kept)] ** 3 + fitted.ridge * np.eye(39)
        p = tail[kept]
        whole = np.block([[k, p], [p.T, np.zeros((p.shape[1],) * 2)]])
        solved = np.linalg.lstsq(whole, np.append(y[kept], np.zeros(p.shape[1])), rcond=None)[0]
        slow.append(y[row] - np.append(kernel[row, kept] ** 3, tail[row]) @ solved)
    assert fitted.error == pytest.approx(np.sqrt(np.mean(np.square(slow))), rel=1e-6)


def test_rbf_learns_a_plane_exactly_from_one_hot_columns() -> None:
    """The columns of a place add to 1, so the tail's system would be singular."""
    x, new = one_hot(40, np.random.default_rng(0)), one_hot(40, np.random.default_rng(1))
    slope = np.linspace(-1, 2, 18)
    predicted = RBF().fit(x, x @ slope, np.random.default_rng(0)).predict(new)
    assert predicted.mean == pytest.approx(new @ slope, abs=1e-6)


def test_the_nets_slope_is_torchs() -> None:
    rng = np.random.default_rng(0)
    nets = Nets.first((4, 6, 6, 1), 3, rng)
    nets.flat += rng.normal(scale=0.1, size=nets.flat.shape)  # biases too
    x, y = rng.normal(size=(3, 7, 4)), rng.normal(size=(3, 7))
    slopes = Nets(np.empty_like(nets.flat), nets.sizes)
    nets.absolute_error_slope(x, y, slopes)
    flat = torch.tensor(nets.flat, requires_grad=True)
    out, place = torch.tensor(x), 0
    for layer, (inputs, outputs) in enumerate(((4, 6), (6, 6), (6, 1))):
        weights = flat[:, place : place + inputs * outputs].reshape(3, inputs, outputs)
        out = out @ weights + flat[:, None, place + inputs * outputs : place + (inputs + 1) * outputs]
        out = out if layer == 2 else torch.relu(out)
        place += (inputs + 1) * outputs
    (out[..., 0] - torch.tensor(y)).abs().mean(dim=1).sum().backward()  # type: ignore[no-untyped-call]
    assert flat.grad is not None
    assert slopes.flat == pytest.approx(flat.grad.numpy(), abs=1e-12)


def test_the_nets_steps_are_torchs_adam() -> None:
    x, y = some(10)
    model = MLPEnsemble(nets=1, layers=1, width=5, epochs=4, batch=10)
    fitted = model.fit(x, y, np.random.default_rng(0))
    first = Nets.first((18, 5, 1), 1, np.random.default_rng(0))
    weights = [torch.tensor(w[0], requires_grad=True) for w in (*first.weights, *first.biases)]
    adam = torch.optim.Adam(weights, lr=0.01, betas=(0.9, 0.99), eps=1e-8)
    for _ in range(4):
        hidden = torch.relu(torch.tensor(x) @ weights[0] + weights[2])
        loss = ((hidden @ weights[1] + weights[3])[:, 0] - torch.tensor(y)).abs().mean()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    for mine, theirs in zip((*fitted.weights, *fitted.biases), weights, strict=True):
        assert mine[0] == pytest.approx(theirs.detach().numpy(), abs=1e-4)


def test_the_process_is_scikit_learns_with_the_same_kernel() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor, kernels

    x, y = some(40)
    new = some(25, seed=1)[0]
    fitted = GaussianProcess(fitted=30).fit(x, y, np.random.default_rng(0))
    kernel, distance = fitted.kernel, fitted.kernel.scaling.distances[0]
    length = np.sqrt(kernel.lengths[0] * distance / 2)
    centred = x.mean(axis=0)
    theirs = GaussianProcessRegressor(
        kernels.ConstantKernel(kernel.variance) * kernels.RBF(length)
        + kernels.ConstantKernel(2 * kernel.weights[0] / distance) * kernels.DotProduct(1e-6)
        + kernels.WhiteKernel(kernel.noise),
        alpha=1e-8,
        optimizer=None,
    ).fit(x - centred, y)
    mean, std = theirs.predict(new - centred, return_std=True)
    found = fitted.predict(new)
    np.testing.assert_allclose(found.mean, mean, atol=1e-6)
    np.testing.assert_allclose(found.std**2 + kernel.noise, std**2, atol=1e-6)  # theirs has noise in it


def test_trees_predict_what_scikit_learn_predicts() -> None:
    from sklearn.ensemble import RandomForestRegressor

    x, y = some(60)
    seed = int(np.random.default_rng(5).integers(2**31))
    theirs = RandomForestRegressor(20, max_features=5 / 6, random_state=seed).fit(x, y)
    new = some(20, seed=2)[0]
    mine = RandomForest(20).fit(x, y, np.random.default_rng(5)).predict(new)
    assert mine.mean == pytest.approx(theirs.predict(new))
    assert mine.std == pytest.approx(np.std([tree.predict(new) for tree in theirs.estimators_], axis=0))


def test_full_grown_trees_know_their_rows() -> None:
    x = np.arange(20.0)[:, None]
    predicted = CARTs(5).fit(x, np.sin(x[:, 0]), np.random.default_rng(0)).predict(x)
    assert predicted.mean == pytest.approx(np.sin(x[:, 0]))
    assert predicted.std == pytest.approx(np.zeros(20))


def test_ranking_ignores_how_far_the_targets_are_apart() -> None:
    x, y = some(40)
    apart = differences(x, y, np.random.default_rng(0))
    same = differences(x, np.exp(3 * y), np.random.default_rng(0))
    assert apart.tolist() == same.tolist()
    assert (apart @ ranking(apart, 1e-3) > 0).mean() > 0.9


def test_ranking_is_scikit_learns_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = some(12)
    apart = differences(x, y, np.random.default_rng(0))
    both, sides = np.vstack([apart, -apart]), np.repeat([1, 0], len(apart))
    penalty = 0.01
    theirs = LogisticRegression(C=1 / (4 * penalty * len(apart)), fit_intercept=False, tol=1e-10).fit(
        both, sides
    )
    assert ranking(apart, penalty) == pytest.approx(theirs.coef_[0], abs=1e-3)


class Fixed:
    """A model that predicts the first column, or its negative."""

    def __init__(self, sign: float) -> None:
        self.sign = sign

    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Any:
        return self

    def predict(self, x: Floats) -> Normal:
        return Normal(self.sign * x[:, 0], np.ones(len(x)))


class Never:
    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Any:
        raise Unfit("never")


def test_the_best_by_cross_validation_is_chosen() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 2))
    good, bad = Fixed(1.0), Fixed(-1.0)
    assert BestByCrossValidation((bad, good, Never())).fit(x, x[:, 0], rng) is good
    assert BestByCrossValidation((bad, good)).fit(x, -x[:, 0], rng) is bad
    assert BestByCrossValidation((good, bad)).fit(x, rng.permutation(np.repeat([0.0, 1.0], 15)), rng) in (
        good,
        bad,
    )
    assert BestByCrossValidation((Never(), bad)).fit(x, x[:, 0], rng) is bad
    with pytest.raises(Unfit, match="none does: never"):
        BestByCrossValidation((Never(), Never())).fit(x, x[:, 0], rng)


# --- quality ---------------------------------------------------------------------------------------------


def test_quality_of_known_predictions() -> None:
    y = np.arange(10.0)
    perfect = judged(Normal(2 * y, np.full(10, 3.0)), y)  # away by 0 … 9, 90 % within 4.93
    assert (perfect.tau, perfect.covered, perfect.rows) == (pytest.approx(1.0), 0.5, 10)
    assert perfect.error == pytest.approx(np.sqrt((y**2).mean()))
    assert judged(Normal(-y, np.ones(10)), y).tau == pytest.approx(-1.0)
    assert judged(Normal(np.zeros(10), np.ones(10)), y).tau == 0.0
    assert rank_correlation(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx(
        4 / 6
    )


@pytest.mark.parametrize("folds", [2, 5, 99])
def test_no_row_is_predicted_by_a_model_that_saw_it(folds: int) -> None:
    class Watching:
        def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Any:
            seen.append(set(x[:, 0].tolist()))
            return self

        def predict(self, x: Floats) -> Normal:
            asked.append(set(x[:, 0].tolist()))
            return Normal(x[:, 0], np.ones(len(x)))

    seen: list[set[float]] = []
    asked: list[set[float]] = []
    x = np.arange(12.0)[:, None]
    predicted, fold = out_of_fold(Watching(), x, x[:, 0], np.random.default_rng(0), folds)
    assert predicted.mean.tolist() == x[:, 0].tolist()
    assert len(seen) == len(set(fold.tolist())) == min(folds, 12)
    assert all(
        not known & new and known | new == set(range(12)) for known, new in zip(seen, asked, strict=True)
    )
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= 1


def test_intervals_of_a_calibrated_model_hold_nine_in_ten() -> None:
    rng = np.random.default_rng(0)
    x, y = some(150)
    noisy = y + rng.normal(scale=0.3, size=150)
    for model in (RBF(), PairwiseRanking()):
        found = quality(model, x, noisy, np.random.default_rng(1))
        assert 0.82 <= found.covered <= 0.97
        assert found.tau > 0.6
    assert quality(RBF(), x, noisy, np.random.default_rng(1)) == quality(
        RBF(), x, noisy, np.random.default_rng(1)
    )
    with pytest.raises(ValueError, match="`folds >= 2`"):
        quality(RBF(), x, y, rng, 1)


# --- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RandomForest(trees=0),
        lambda: RandomForest(features=0.0),
        lambda: GaussianProcess(fitted=1),
        lambda: CARTs(0),
        lambda: BoostedTrees(rate=0.0),
        lambda: BoostedTrees(depth=0),
        lambda: RBF(ridges=()),
        lambda: RBF(ridges=(-1.0,)),
        lambda: MLPEnsemble(nets=0),
        lambda: MLPEnsemble(rate=float("nan")),
        lambda: PairwiseRanking(0.0),
        lambda: BestByCrossValidation(()),
        lambda: BestByCrossValidation(folds=1),
    ],
)
def test_wrong_settings_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="must hold"):
        wrong()
    with pytest.raises(ValueError, match="kernels must be"):
        RBF(())
