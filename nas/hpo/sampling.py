"""Random configurations of hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nas.architecture import Scalar
from nas.settings import Choice, Range


def sample_config(
    domains: Mapping[str, Range | Choice], defaults: Mapping[str, Scalar], rng: np.random.Generator
) -> dict[str, Scalar]:
    """`defaults` with every name of `domains` drawn anew: ranges uniform (in log if so declared)."""
    config = dict(defaults)
    for name, domain in sorted(domains.items()):
        if isinstance(domain, Choice):
            config[name] = domain.values[int(rng.integers(len(domain.values)))]
        elif domain.log:
            drawn = math.exp(rng.uniform(math.log(domain.low), math.log(domain.high)))
            config[name] = min(max(drawn, domain.low), domain.high)  # exp(log(x)) may miss x by a rounding
        else:
            config[name] = float(rng.uniform(domain.low, domain.high))
    return config


def within(domains: Mapping[str, Range | Choice], config: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """`config`, moved to the nearest end of a range, or the first value of a choice, where it is outside.

    Example:
        >>> within({"lr": Range(1e-4, 1e-2)}, {"lr": 0.1, "momentum": 0.9})
        {'lr': 0.01, 'momentum': 0.9}
    """
    moved = dict(config)
    for name, domain in domains.items():
        value = moved.get(name)
        if isinstance(domain, Choice):
            moved[name] = value if value in domain.values else domain.values[0]
        elif isinstance(value, int | float):
            moved[name] = min(max(value, domain.low), domain.high)
    return moved
