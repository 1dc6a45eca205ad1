"""BoTorch's qLogNEHVI (one objective: qLogNEI) over a pool of candidates, codes as one-hot vectors.

Needs the extra `rivals`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective import logei
from botorch.fit import fit_gpytorch_mll
from botorch.models.gp_regression import SingleTaskGP
from botorch.models.model_list_gp_regression import ModelListGP
from botorch.models.transforms.outcome import Standardize
from botorch.sampling.normal import SobolQMCNormalSampler
from gpytorch.mlls import SumMarginalLogLikelihood
from numpy.typing import NDArray
from torch import Tensor

from bench.tables import Table
from nas import pareto

START, POOL, SAMPLES = 10, 400, 64
"""Random candidates at the start; candidates weighed for one ask, at most; samples of the acquisition."""

CHUNK = 100
"""So many candidates are weighed at once: more is slower."""

STEPS = 50
"""Of L-BFGS for one fit, which starts where the last one ended; to convergence it takes seconds."""

logei._load_attempted = True
"""Else a C++ kernel is compiled at first use, and a run killed meanwhile leaves a lock that hangs others."""


class BoTorch:
    """Independent Gaussian processes with BoTorch's defaults, fitted further for every ask.

    The pool: candidates of the space not met yet, half of them neighbours of the front (one letter of the
    code away) if there are so many, the others drawn at random.

    Args:
        log_error: fit the logarithm of the error, the first objective; nothing is known of its least value.
    """

    def __init__(self, table: Table, seed: int, log_error: bool) -> None:
        torch.set_num_threads(1)
        self._table = table
        self._log_error = log_error
        self._rng = np.random.default_rng(seed)
        self._written: dict[str, str] = {}  # key -> the first code that is written so
        for code in table.codes:
            self._written.setdefault(table.keys[code], code)
        self._unmet = dict.fromkeys(self._written.values())
        self._met: list[str] = []
        self._losses: list[NDArray[np.float64]] = []
        self._fitted: list[Tensor] = []

    def ask(self) -> str | None:
        if not self._unmet:
            return None
        unmet = list(self._unmet)
        if len(self._met) < START:
            return unmet[int(self._rng.integers(len(unmet)))]
        pool = self._pool(unmet)
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # BoTorch draws from torch's own
            warnings.simplefilter("ignore")
            torch.manual_seed(int(self._rng.integers(2**31)))
            return pool[self._best(pool)]

    def code(self, candidate: str) -> str:
        return candidate

    def tell(self, candidate: str, losses: NDArray[np.float64]) -> None:
        del self._unmet[candidate]
        self._met.append(candidate)
        self._losses.append(losses)

    def _pool(self, unmet: list[str]) -> list[str]:
        if len(unmet) <= POOL:
            return unmet
        front = pareto.front(np.array(self._losses)).tolist()
        around = {self._written[self._table.keys[c]] for i in front for c in self._neighbors(self._met[i])}
        near = [str(code) for code in self._rng.permutation(sorted(around & self._unmet.keys()))[: POOL // 2]]
        drawn = [unmet[i] for i in self._rng.permutation(len(unmet))[:POOL]]
        return list(dict.fromkeys([*near, *drawn]))[:POOL]

    def _neighbors(self, code: str) -> Iterator[str]:
        for i, letters in enumerate(self._table.places):
            for letter in letters:
                if letter != code[i]:
                    yield code[:i] + letter + code[i + 1 :]

    def _one_hot(self, codes: list[str]) -> Tensor:
        """`float64[n, number of letters over all places]`."""
        rows = [
            [
                float(letter == c)
                for c, letters in zip(code, self._table.places, strict=True)
                for letter in letters
            ]
            for code in codes
        ]
        return torch.tensor(rows, dtype=torch.float64)

    def _best(self, pool: list[str]) -> int:
        """The place in the pool of the highest acquisition value."""
        losses = np.array(self._losses)
        if self._log_error:
            losses[:, 0] = np.log(np.maximum(losses[:, 0], 1e-9))
        x, y = self._one_hot(self._met), -torch.from_numpy(losses)  # BoTorch maximises
        gps = [SingleTaskGP(x, column[:, None], outcome_transform=Standardize(1)) for column in y.T]
        model = ModelListGP(*gps)
        for now, last in zip(model.parameters(), self._fitted, strict=bool(self._fitted)):
            now.data.copy_(last)
        likelihood = SumMarginalLogLikelihood(model.likelihood, model)
        fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": STEPS}})
        self._fitted = list(model.parameters())
        sampler = SobolQMCNormalSampler(torch.Size([SAMPLES]))
        acquisition: Any
        if len(gps) == 1:
            acquisition = qLogNoisyExpectedImprovement(gps[0], x, sampler, prune_baseline=True)
        else:
            worst = y.min(dim=0).values
            acquisition = logei.qLogNoisyExpectedHypervolumeImprovement(
                model, worst.tolist(), x, sampler, prune_baseline=True
            )
        with torch.no_grad():
            parts = torch.split(self._one_hot(pool), CHUNK)
            values = torch.cat([acquisition(part[:, None]) for part in parts])
        return int(values.argmax())
