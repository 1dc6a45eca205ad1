"""Every installed space, with its defaults: they work at once, and cost is what torch counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas import registry

NAMES = [
    *("chain", "darts", "genetic_cnn", "metaqnn", "mlp", "mnasnet", "mobilenetv3", "nasbench101"),
    *("nasbench201", "nasbench_macro", "nasnet", "nsganet", "skip_chain", "template"),
]


def test_the_list_is_whole() -> None:
    assert set(NAMES) <= set(registry.names("space"))
    ours = {
        name
        for name in registry.names("space")
        if registry.load("space", name).__module__.startswith("search_spaces")
    }
    assert ours == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_cost_is_what_torch_counts(name: str) -> None:
    check_cost(name, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_cost_is_what_torch_counts_on_100_samples(name: str) -> None:
    check_cost(name, 100)


def check_cost(name: str, samples: int) -> None:
    space = registry.make("space", name, {})
    rng = np.random.default_rng(0)
    for _ in range(samples):
        arch = space.sample(rng)
        cost = space.cost(arch)
        with torch.device("meta"):
            model = space.build(arch).eval()
            with FlopCounterMode(display=False) as counter:
                model(torch.empty(1, *space.input_shape))
        assert cost.flops == counter.get_total_flops()
        assert cost.params == sum(p.numel() for p in model.parameters())
