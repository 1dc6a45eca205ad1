"""What every model asks of its rows before it learns from them."""

from __future__ import annotations

import numpy as np

from nas.surrogates.model import Floats, Unfit

LEAST = 3
"""Rows below which nothing is learnt."""


def checked(x: Floats, y: Floats, least: int = LEAST) -> tuple[Floats, Floats]:
    """`x` (`float64[n, d]`) and `y` (`float64[n]`) as they are, if they can be learnt from.

    Raises:
        Unfit: fewer rows than `least`, no columns, a number that is not finite, or equal targets.
        ValueError: the shapes do not fit each other.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"x and y must have shapes [n, d] and [n], but got {x.shape} and {y.shape}")
    if len(y) < least:
        raise Unfit(f"a model must have {least} rows, but got {len(y)}")
    if not x.shape[1]:
        raise Unfit("a model must have a column to learn from, but got none")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise Unfit("a model must have finite numbers to learn from, but some are not")
    if np.ptp(y) <= 1e-12 * np.abs(y).max():
        raise Unfit(f"a model must have different targets, but all of {len(y)} are {y[0]:.6g}")
    return x, y
