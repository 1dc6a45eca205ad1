"""BANANAS' ensemble of multilayer perceptrons (White et al. 2021), all nets trained at once in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nas.surrogates.ensemble import spread
from nas.surrogates.model import Floats, Normal
from nas.surrogates.rows import checked


@dataclass(frozen=True)
class MLPEnsemble:
    """Nets that differ in their first weights and the order of their batches; the defaults are BANANAS'.

    Attributes:
        nets: of the ensemble.
        layers, width: hidden layers of each, ReLU.
        epochs, batch: of the training by Adam on the mean absolute error.
        rate: learning rate.

    Raises:
        ValueError: a number is out of range.
    """

    nets: int = 5
    layers: int = 10
    width: int = 20
    epochs: int = 150
    batch: int = 32
    rate: float = 0.01

    BETAS = (0.9, 0.99)

    def __post_init__(self) -> None:
        if min(self.nets, self.layers, self.width, self.epochs, self.batch) < 1 or not 0 < self.rate < 1:
            raise ValueError(
                "`1 <= nets, layers, width, epochs, batch` and `0 < rate < 1` must hold, but got "
                f"({self.nets=}, {self.layers=}, {self.width=}, {self.epochs=}, {self.batch=}, {self.rate=})"
            )

    def fit(self, x: Floats, y: Floats, rng: np.random.Generator) -> Nets:
        x, y = checked(x, y)
        nets = Nets.first((x.shape[1], *[self.width] * self.layers, 1), self.nets, rng)
        slope = np.empty_like(nets.flat)
        slopes = Nets(slope, nets.sizes)
        mean, square = np.zeros_like(slope), np.zeros_like(slope)
        step = 0
        for _ in range(self.epochs):
            orders = rng.permuted(np.tile(np.arange(len(y)), (self.nets, 1)), axis=1)
            for start in range(0, len(y), self.batch):
                rows = orders[:, start : start + self.batch]
                nets.absolute_error_slope(x[rows], y[rows], slopes)
                step += 1
                _adam(nets.flat, slope, mean, square, step, self.rate, self.BETAS)
        return nets


def _adam(
    weights: Floats,
    slope: Floats,
    mean: Floats,
    square: Floats,
    step: int,
    rate: float,
    betas: tuple[float, float],
) -> None:
    """One step of Adam (Kingma & Ba 2015, algorithm 1, in the form of its section 2), in place."""
    mean *= betas[0]
    mean += (1 - betas[0]) * slope
    square *= betas[1]
    square += (1 - betas[1]) * slope**2
    factor = rate * np.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
    weights -= factor * mean / (np.sqrt(square) + 1e-7)


class Nets:
    """Nets of one shape whose weights are one array.

    Attributes:
        flat: `float64[e, p]`, all parameters.
        sizes: numbers of units: input, hidden layers, output.
        weights, biases: views of `flat`, `float64[e, in, out]` and `float64[e, 1, out]`, one a layer.
    """

    def __init__(self, flat: Floats, sizes: Sequence[int]) -> None:
        self.flat, self.sizes = flat, tuple(sizes)
        self.weights: list[Floats] = []
        self.biases: list[Floats] = []
        place = 0
        for inputs, outputs in pairwise(self.sizes):
            end = place + inputs * outputs
            self.weights.append(flat[:, place:end].reshape(len(flat), inputs, outputs))
            self.biases.append(flat[:, None, end : end + outputs])
            place = end + outputs

    @classmethod
    def first(cls, sizes: Sequence[int], nets: int, rng: np.random.Generator) -> Nets:
        """Weights uniform in +- sqrt(6 / (in + out)) (Glorot & Bengio 2010, eq. 16), biases 0."""
        pairs = list(pairwise(sizes))
        made = cls(np.zeros((nets, sum((inputs + 1) * outputs for inputs, outputs in pairs))), sizes)
        for weights, (inputs, outputs) in zip(made.weights, pairs, strict=True):
            bound = np.sqrt(6 / (inputs + outputs))
            weights[...] = rng.uniform(-bound, bound, weights.shape)
        return made

    def _values(self, x: Floats) -> list[Floats]:
        """What each layer puts out, the input first: `float64[e, n, units]`."""
        values = [x]
        for weights, biases in zip(self.weights, self.biases, strict=True):
            out = values[-1] @ weights
            out += biases
            if len(values) < len(self.weights):
                np.maximum(out, 0.0, out=out)
            values.append(out)
        return values

    def absolute_error_slope(self, x: Floats, y: Floats, slopes: Nets) -> None:
        """Writes the gradient of the mean absolute error into `slopes`.

        Args:
            x, y: `float64[e, n, d]` and `float64[e, n]`, a batch a net.
        """
        values = self._values(x)
        back = np.sign(values[-1] - y[..., None]) / y.shape[1]
        for layer in range(len(self.weights) - 1, -1, -1):
            np.matmul(values[layer].transpose(0, 2, 1), back, out=slopes.weights[layer])
            np.sum(back, axis=1, keepdims=True, out=slopes.biases[layer])
            if layer:
                back = back @ self.weights[layer].transpose(0, 2, 1)
                back *= values[layer] > 0

    def predict(self, x: Floats) -> Normal:
        return spread(self._values(np.broadcast_to(x, (len(self.flat), *x.shape)))[-1][..., 0])
