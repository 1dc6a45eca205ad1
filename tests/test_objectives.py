"""Error and cost objectives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from nas.architecture import Architecture, Graph, Node
from nas.device import unshared
from nas.protocols import Cost, Objective, Subject
from nas.registry import UnknownName, make
from objectives.cost import flops, macs, params, peak_activation_bytes
from objectives.error import BATCH, error
from objectives.latency import latency_ms

ARCH = Architecture(
    "stub", (("net", Graph((Node(0, "input"), Node(1, "dead", (0,)), Node(2, "relu", (0,))))),)
)
FACTORIES = (error, params, macs, flops, peak_activation_bytes, latency_ms)


class StubSpace:
    """Its canonical form drops the node that is dead, and every node costs the same."""

    def canonical(self, arch: Architecture) -> Architecture:
        nodes = tuple(node for node in arch.graphs[0][1].nodes if node.op != "dead")
        return Architecture(arch.space, (("net", Graph(nodes)),))

    def cost(self, arch: Architecture) -> Cost:
        nodes = len(arch.graphs[0][1].nodes)
        return Cost(params=10 * nodes, macs=100 * nodes, peak_activation_bytes=1000 * nodes)


def value(objective: Objective) -> float:
    assert objective.exact is not None
    return objective.exact(ARCH, StubSpace())


@pytest.mark.parametrize(
    ("factory", "one_node"), [(params, 10), (macs, 100), (flops, 200), (peak_activation_bytes, 1000)]
)
def test_costs_speak_of_the_network_or_of_the_written_form(factory: Callable[..., Objective], one_node: int):
    assert value(factory()) == value(factory(form="network")) == 2 * one_node
    assert value(factory(form="written")) == 3 * one_node
    assert isinstance(value(factory()), float)


def test_names_limits_and_directions():
    for factory in FACTORIES:
        objective = factory(limit=3)
        assert (objective.name, objective.limit, objective.maximize) == (factory.__name__, 3, False)
        assert (objective.exact is None) != (objective.measure is None)
        assert factory().limit is None


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("limit", [0, -1.0, math.nan])
def test_a_limit_that_is_not_positive_is_an_error(factory: Callable[..., Objective], limit: float):
    with pytest.raises(ValueError, match="`limit > 0` must hold, but got"):
        factory(limit=limit)


def test_an_unknown_form_is_an_error():
    with pytest.raises(ValueError, match="'network', 'written', but got 'canonical'"):
        params(form="canonical")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="canonical"):
        make("objective", "objectives.cost:params", {"form": "canonical"})


# --- error -----------------------------------------------------------------------------------------


def measured(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Any:
    cpu = torch.device("cpu")
    measure = error().measure
    assert measure is not None
    return measure(Subject(model, ARCH, StubSpace(), x, y, cpu, {}, {}, unshared, 0))  # type: ignore[arg-type]


def test_error_is_the_percentage_of_wrong_answers_over_all_batches():
    n = 2 * BATCH + 52  # the inputs are the logits
    labels = torch.arange(n) % 3
    logits = nn.functional.one_hot(labels, 3).float()
    labels[-25:] += 1  # in the last batch
    assert measured(nn.Identity(), logits, labels) == pytest.approx(100 * 25 / n)
    assert measured(nn.Identity(), logits[:9], labels[:9]) == 0.0


def test_error_is_taken_in_eval_mode_without_gradients():
    class Probe(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training and torch.is_inference_mode_enabled()
            return x

    assert measured(Probe().train(), torch.eye(2), torch.tensor([1, 0])) == 100.0


def test_nan_logits_are_a_nan_error_and_no_data_an_exception():
    x = torch.eye(3)
    x[1, 2] = math.nan
    assert math.isnan(measured(nn.Identity(), x, torch.arange(3)))
    with pytest.raises(ValueError, match="at least 1 validation example"):
        measured(nn.Identity(), x[:0], torch.arange(0))
