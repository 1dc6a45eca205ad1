"""The direct ONNX writer against torch."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from objectives import onnx_graph
from objectives.onnx_graph import WRITERS, _Tracer, _Unsupported, _write, to_onnx
from search_spaces.fragments import ACTIVATIONS, Builder, Fragment
from search_spaces.modules import MAKE, Network
from search_spaces.plan import Placed

IMAGE = (6, 9, 9)
SIGNAL = (6, 12)


class Function(nn.Module):
    """A function as a network, with weights and buffers to use."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(6, 1, 1))
        self.square = nn.Parameter(torch.randn(6, 6))
        self.kernel = nn.Parameter(torch.randn(6, 6, 3, 3))
        self.register_buffer("offset", torch.randn(6, 1, 1))
        self.register_buffer("mean", torch.randn(6))
        self.register_buffer("var", torch.rand(6) + 0.5)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def relu_overwrites(m: Any, x: Tensor) -> Tensor:
    h = x * 2
    same = F.dropout(h, 0.5, m.training)  # in eval mode, h itself
    torch.relu_(same)
    same += 1
    same *= x
    return h + x


def resized(x: Tensor) -> Iterator[Tensor]:
    """Smaller, larger and as it was, and then all to one size."""
    for size in (1, 4, (5, 13), 9, 18):
        for corners in (True, False):
            y = F.interpolate(x, size, mode="bilinear", align_corners=corners)
            yield F.interpolate(y, (11, 8), mode="bilinear")


MODELS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv2d": (
        nn.Sequential(
            nn.Conv2d(6, 12, (3, 1), stride=(2, 1), padding=(1, 0), bias=False),
            nn.BatchNorm2d(12),
            nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=12),
            nn.BatchNorm2d(12, affine=False, eps=1e-3),
            nn.Conv2d(12, 4, 1, groups=2),
        ),
        IMAGE,
    ),
    "conv1d": (
        nn.Sequential(nn.Conv1d(6, 8, 3, stride=2, padding=1, dilation=2, groups=2), nn.BatchNorm1d(8)),
        SIGNAL,
    ),
    "activations": (
        nn.Sequential(
            *(nn.ReLU(), nn.Conv2d(6, 6, 1), nn.ReLU6(), nn.Conv2d(6, 6, 1), nn.Hardswish()),
            *(nn.Hardsigmoid(), nn.Conv2d(6, 6, 1), nn.Sigmoid(), nn.SiLU(), nn.Conv2d(6, 6, 1), nn.GELU()),
            *(nn.GELU("tanh"), nn.Tanh(), nn.Conv2d(6, 6, 1), nn.LeakyReLU(0.2), nn.Hardtanh(-0.5, 0.7)),
        ),
        IMAGE,
    ),
    "in place": (
        nn.Sequential(
            nn.ReLU6(True), nn.Conv2d(6, 6, 1), nn.Hardswish(True), nn.SiLU(True), nn.LeakyReLU(0.3, True)
        ),
        IMAGE,
    ),
    "pool2d": (
        nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False, ceil_mode=True),
            nn.AvgPool2d((2, 1), stride=1, padding=(1, 0)),
            nn.MaxPool2d(2, ceil_mode=True),
        ),
        (6, 14, 14),
    ),
    "pool1d": (
        nn.Sequential(
            nn.MaxPool1d(3, 1, 1, 1),
            nn.AvgPool1d(3, 2, 1, ceil_mode=True),
            nn.MaxPool1d(2, stride=2, ceil_mode=True),
            nn.AdaptiveMaxPool1d(1),
        ),
        SIGNAL,
    ),
    "head": (
        nn.Sequential(
            *(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(6, 8), nn.BatchNorm1d(8)),
            *(nn.Identity(), nn.Linear(8, 5, bias=False)),
        ),
        IMAGE,
    ),
    "linear of sequences": (nn.Sequential(nn.Linear(12, 5), nn.AdaptiveAvgPool1d(1), nn.Flatten()), SIGNAL),
    "adaptive average": (nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(1)), IMAGE),
    "activation functions": (
        Function(
            lambda m, x: (
                torch.relu(x.tanh()) + torch.sigmoid(x).relu() + torch.tanh(x.sigmoid()) + F.relu6(F.tanh(x))
            )
        ),
        IMAGE,
    ),
    "arithmetic": (
        Function(
            lambda m, x: torch.mul(torch.add(x, m.offset), m.weight).mul(m.weight * 0.5).add(1) * (2 + x) * x
        ),
        IMAGE,
    ),
    "cat": (Function(lambda m, x: torch.cat((x, torch.concat([x * 2, x], dim=-3)), 1)), IMAGE),
    "mean": (
        Function(lambda m, x: x.mean((2, 3)) * torch.mean(x, dim=[-2, -1], keepdim=True).flatten(1)),
        IMAGE,
    ),
    "mean of one": (Function(lambda m, x: torch.flatten(x.mean(-1), 1)), IMAGE),
    "slices": (
        Function(
            lambda m, x: torch.cat((x[:, :4, 1::3], x[0:, 1:3, ::3][..., :99], x[:, -1:, :-2:3, ...]), 1)[:]
        ),
        IMAGE,
    ),
    "pad": (
        Function(
            lambda m, x: torch.cat(
                (
                    F.pad(x, (0, 1, 2, 0)),
                    F.pad(x, (-1, 2, 1, 1), value=-1.5),
                    F.pad(x, (1, 0, 2, 0), "reflect"),
                ),
                1,
            )
        ),
        IMAGE,
    ),
    "pad of convolutions": (
        nn.Sequential(nn.Conv2d(6, 4, (3, 5), padding=(1, 2), padding_mode="replicate"), nn.ReLU()),
        IMAGE,
    ),
    "interpolate": (Function(lambda m, x: torch.cat([*resized(x)], 1)), IMAGE),
    "functional": (
        Function(
            lambda m, x: F.linear(
                F.conv2d(F.batch_norm(x, m.mean, m.var), m.kernel, padding=1).mean((2, 3)), m.square
            )
        ),
        IMAGE,
    ),
    "overwritten": (Function(relu_overwrites), IMAGE),
    "other methods in place": (
        Function(lambda m, x: (x * 1).add_(2).mul_(m.weight).relu_() + operator.imul(x * 3, m.offset)),
        IMAGE,
    ),
    "mobilenet_v2": (torchvision.models.mobilenet_v2(weights=None), (3, 32, 32)),
    "mnasnet1_0": (torchvision.models.mnasnet1_0(weights=None), (3, 32, 32)),
    "resnet18": (torchvision.models.resnet18(weights=None), (3, 32, 32)),
}


def randomised(model: nn.Module) -> nn.Module:
    """In eval mode, with statistics and affine weights that a mistake would show in."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                if tensor is not None:
                    nn.init.normal_(tensor, std=0.2)
            for tensor in (module.running_var, module.weight):
                if tensor is not None:
                    nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval()


def run(network: bytes, x: Tensor) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"input": x.numpy()})[0]


def assert_equals_torch(network: bytes, model: nn.Module, shape: tuple[int, ...]) -> None:
    for batch in (1, 4, 7):
        x = torch.randn(batch, *shape)
        with torch.inference_mode():
            expected = model(x.clone()).numpy()
        np.testing.assert_allclose(run(network, x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# --- what is written equals torch ------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_direct_writer_equals_torch(name: str):
    model, shape = MODELS[name]
    network = _write(randomised(model), shape)
    onnx.checker.check_model(network, full_check=True)
    assert_equals_torch(network, model, shape)


def test_the_models_above_use_every_writer():
    used = {node.target for model, _ in MODELS.values() for node in _Tracer().trace(model.eval()).nodes}
    assert set(WRITERS) <= used


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("size", [5, 6, 7, 8])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 1, 0), (2, 2, 0), (3, 2, 0), (3, 2, 1), (5, 3, 2)]
)
def test_pooling_equals_torch_at_every_rest(
    kernel: int, stride: int, padding: int, size: int, ceil_mode: bool
):
    for include in (True, False):
        pools = (nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode),)
        pools += (nn.AvgPool2d(kernel, stride, padding, ceil_mode, include),)
        for pool in pools:
            assert_equals_torch(_write(pool, (2, size, size)), pool, (2, size, size))


def test_names_types_and_the_batch_dimension():
    model = nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = onnx.load_from_string(to_onnx(model, IMAGE))
    assert [(o.domain, o.version) for o in network.opset_import] == [("", 18)]
    (x,), (logits,) = network.graph.input, network.graph.output
    assert (x.name, logits.name) == ("input", "logits")
    assert [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim] == ["batch", *IMAGE]
    assert [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim] == ["batch", 4]
    written = {tensor.name for tensor in network.graph.initializer}
    assert written == {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}


def test_a_weight_used_twice_is_written_once():
    conv = nn.Conv2d(6, 6, 1)
    model = nn.Sequential(conv, nn.ReLU(), conv)
    network = _write(model, IMAGE)
    assert_equals_torch(network, model, IMAGE)
    assert len(onnx.load_from_string(network).graph.initializer) == 2


def test_the_model_is_left_as_it_is():
    model = nn.Sequential(nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.9), nn.Flatten())
    model[0].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    network = to_onnx(model, IMAGE)
    assert [module.training for module in model.modules()] == [True, False, True, True, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert_equals_torch(network, model.eval(), IMAGE)  # it was written in eval mode


# --- what is not written directly ------------------------------------------------------------------


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x * 2


UNSUPPORTED: dict[str, nn.Module] = {
    "no writer for .*softplus": Function(lambda m, x: F.softplus(x)),
    "padding of the mode 'circular'": nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular"),
    "interpolation of the mode 'nearest'": Function(lambda m, x: F.interpolate(x, 12)),
    "interpolation by a factor": Function(lambda m, x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    "antialias=True": Function(lambda m, x: F.interpolate(x, 4, mode="bilinear", antialias=True)),
    "the index 0": Function(lambda m, x: x[0]),
    "the index .*None": Function(lambda m, x: x[:, None]),
    "the index .*slice.*tanh": Function(lambda m, x: x[:, : torch.tanh(x)]),
    "padding='same'": nn.Conv2d(6, 6, 3, padding="same"),
    "computed weights": Function(lambda m, x: F.conv2d(x, m.kernel * 2)),
    "without running statistics": nn.Sequential(nn.BatchNorm2d(6, track_running_stats=False)),
    "active in eval mode": Function(lambda m, x: F.dropout(x)),
    "no writer for .*max_pool2d_with_indices": Function(lambda m, x: F.max_pool2d(x, 2, return_indices=True)),
    "divisor_override": nn.AvgPool2d(2, divisor_override=3),
    "stride > kernel - padding": nn.MaxPool2d(2, 2, 1, ceil_mode=True),
    "ceil_mode with dilation": nn.MaxPool2d(2, 1, dilation=2, ceil_mode=True),
    "adaptive pooling to": nn.AdaptiveAvgPool2d((1, None)),
    r"flatten\(0, -1\)": nn.Flatten(0),
    "over all dimensions": Function(lambda m, x: x.mean()),
    "unexpected keyword argument 'alpha'": Function(lambda m, x: torch.add(x, x, alpha=2)),
    "a weight of torch.float64": nn.Linear(9, 2).double(),
    "several inputs": TwoInputs(),
    "not one computed tensor": Function(lambda m, x: (x, x)),
    "not traceable": Function(lambda m, x: x if x.sum() > 0 else -x),
    "in-place call on a weight": Function(lambda m, x: m.offset.mul_(x)),
    "in-place call on a view": Function(lambda m, x: torch.relu_(x.flatten(1)) + x.flatten(1)),
    "in-place call on a view$": Function(lambda m, x: torch.relu_(x[:, :3]) + x[:, 3:]),
}


@pytest.mark.parametrize("reason", UNSUPPORTED)
def test_what_cannot_be_written_is_refused(reason: str):
    with pytest.raises(_Unsupported, match=reason):
        _write(UNSUPPORTED[reason].eval(), IMAGE)


def test_other_models_go_through_the_exporter_of_torch(monkeypatch: pytest.MonkeyPatch):
    called = []
    export = onnx_graph._export
    monkeypatch.setattr(onnx_graph, "_export", lambda *args: called.append(args) or export(*args))
    model = nn.Sequential(nn.Conv2d(6, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 7 * 7, 3)).train()
    network = to_onnx(model, IMAGE)
    assert len(called) == 1 and model.training
    proto = onnx.load_from_string(network)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {o.domain: o.version for o in proto.opset_import}[""] == 18
    assert_equals_torch(network, model.eval(), IMAGE)


# --- the layers of search spaces -------------------------------------------------------------------

Emit = Callable[[Builder, int], int]


def pool(kind: Any, kernel: int, stride: int, **how: bool) -> Emit:
    return lambda b, x: b.pool("pool", x, kind, kernel, stride, **how)


LAYERS: dict[str, Emit] = {
    "conv": lambda b, x: b.conv("conv", x, 9, 5, 2, groups=3, dilation=2, bias=True),
    "conv_bn": lambda b, x: b.conv_bn("block", x, 4, 3),
    "depthwise": lambda b, x: b.relu_conv_bn("block", x, 6, 3, 3, groups=6),
    "linear": lambda b, x: b.batch_norm("bn", b.linear("linear", b.flatten("flatten", x), 5)),
    "global pool": lambda b, x: b.flatten("flatten", b.global_pool("pool", x)),
    "squeeze and excite": lambda b, x: b.squeeze_excite("se", x, 3, "silu", "hard_sigmoid"),
    "add": lambda b, x: b.add("add", (x, b.relu("relu", x), x)),
    "concat": lambda b, x: b.concat("concat", (x, b.relu("relu", x), x)),
    "zero": lambda b, x: b.zero("zero", x),
    "zero with stride": lambda b, x: b.zero("zero", x, 2),
    "narrow": lambda b, x: b.narrow("narrow", x, 4),
    "narrow to all": lambda b, x: b.narrow("narrow", x, 6),
    "shift": lambda b, x: b.pool("every second", b.shift("shift", x), "avg_pool", 1, 2),
    **{f"resize to {side}": lambda b, x, s=side: b.resize("resize", x, s) for side in (1, 4, 9, 20)},
    **{name: lambda b, x, kind=name: b.activation("act", x, kind) for name in ACTIVATIONS},
    **{
        f"{kind} {kernel}/{stride}{how}": pool(kind, kernel, stride, **how)
        for kind in ("max_pool", "avg_pool")
        for kernel, stride in ((1, 2), (3, 1), (3, 2), (5, 3))
        for how in ({}, {"pad": False})
    },
    **{
        f"{kind} {kernel}/{stride} ceil{how}": pool(kind, kernel, stride, ceil=True, **how)
        for kind in ("max_pool", "avg_pool")
        for kernel, stride, how in ((2, 2, {"pad": False}), (3, 2, {"pad": False}), (3, 2, {}), (5, 3, {}))
    },
}
"""Each kind of layer that a space's operation may be made of."""


def fragment(layer: str, shape: tuple[int, ...]) -> Fragment:
    builder = Builder(shape)
    LAYERS[layer](builder, builder.conv("first", -1, 6, 3))  # layers read what is computed
    return builder.done()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("shape", [(3, 9, 12), (2, 13)], ids=["image", "series"])
def test_every_layer_of_a_space_is_written_directly(layer: str, shape: tuple[int, ...]):
    model = randomised(Network([Placed("net", fragment(layer, shape), (-1,))]))
    assert_equals_torch(_write(model, shape), model, shape)


def test_the_layers_above_are_of_every_kind():
    assert {part.kind for layer in LAYERS for part in fragment(layer, (3, 9, 12)).layers} == set(MAKE)
