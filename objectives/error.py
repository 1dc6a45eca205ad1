"""How often the trained network is wrong on the validation data."""

from __future__ import annotations

import math

from nas.protocols import Objective, Subject
from objectives import check_limit

BATCH = 1024


def error(limit: float | None = None) -> Objective:
    """Top-1 error on `subject.x`, in percent; NaN if a logit is NaN.

    Raises:
        ValueError: the limit is not positive.
    """
    check_limit(limit)
    return Objective("error", limit=limit, measure=_measure)


def _measure(subject: Subject) -> float:
    import torch

    if len(subject.x) == 0:
        raise ValueError("the error needs at least 1 validation example, but got 0")
    wrong = 0
    subject.model.eval()
    with subject.shared(), torch.inference_mode():
        for start in range(0, len(subject.x), BATCH):
            part = slice(start, start + BATCH)
            logits = subject.model(subject.x[part])  # float32[batch, classes]
            if logits.isnan().any():
                return math.nan
            wrong += int((logits.argmax(1) != subject.y[part]).sum())
    return 100 * wrong / len(subject.x)
