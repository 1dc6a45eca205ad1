"""Latency in ONNX Runtime on the CPU, by a protocol that repeats on a busy machine.

All nets are visited once a round, in random order, together with a few fixed anchor nets; a visit is a
warm-up call and a few timed ones, more of a very small net. What is read is the CPU time of the process,
work of ONNX Runtime's own threads included, and the latency is the mean of the fastest quarter of the
visits. Measuring runs differ by a common scale of 3-9 %, which the anchors remove. Against repetition this
gave a Kendall tau of .94-.95 over 40 similar nets; sequential medians of wall time gave less than .8.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas.protocols import Measurement, Objective, Subject
from nas.seeding import Purpose, stream
from objectives import check_limit

if TYPE_CHECKING:
    import onnx

TIMED_CALLS = 2
"""Of a visit, after one call to warm up; at least."""

VISIT_MS = 0.5
"""A visit makes so many calls that they take about this long: reading the clock costs up to a microsecond."""

ANCHORS = ((32, 16, 3), (64, 16, 2), (64, 16, 5))
"""(channels, side, depth) of nets that take about .1-.5 ms; part of the scale of every calibrated study."""

Call = Callable[[], object]


def latency_ms(limit: float | None = None, rounds: int = 15, threads: int = 1) -> Objective:
    """Milliseconds of CPU time for one input.

    A measurement is scaled by the median over the anchors of (time when the study began / time now), so
    that all values speak of the machine as it was then. Its details: "scale"; "rounds"; and "spread", the
    interquartile range of the visit times over their median.

    Args:
        limit: in ms.
        rounds: visits of each net; Kendall tau was .77 for 3, .85 for 5, .91 for 10.
        threads: that share the work of one operator; with more than one, their CPU times add up.

    Raises:
        ValueError: `limit > 0`, `rounds >= 4` or `threads >= 1` does not hold.
    """
    check_limit(limit)
    if rounds < 4:
        raise ValueError(f"`rounds >= 4` must hold, for a fastest quarter, but got ({rounds=})")
    if threads < 1:
        raise ValueError(f"`threads >= 1` must hold, but got ({threads=})")

    def calibrate() -> Mapping[str, float]:
        times = _visit(_anchors(threads), rounds, stream(0, Purpose.MEASURE))
        return {_anchor_name(i): _fastest_quarter(visits) for i, visits in enumerate(times)}

    def measure_together(subjects: Sequence[Subject]) -> list[Measurement]:
        if not subjects:
            return []
        calls = [*_anchors(threads), *(_subject_call(subject, threads) for subject in subjects)]
        with subjects[0].alone():
            times = _visit(calls, rounds, stream(subjects[0].seed, Purpose.MEASURE))
        anchors = [_fastest_quarter(visits) for visits in times[: len(ANCHORS)]]
        return [
            _measurement(visits, _scale(subject.calibration, anchors))
            for subject, visits in zip(subjects, times[len(ANCHORS) :], strict=True)
        ]

    return Objective(
        "latency_ms",
        limit=limit,
        measure=lambda subject: measure_together([subject])[0],
        calibrate=calibrate,
        measure_together=measure_together,
    )


# --- the protocol ----------------------------------------------------------------------------------


def _visit(calls: Sequence[Call], rounds: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Milliseconds of CPU time a call, float64[len(calls), rounds]; a round visits all in random order."""
    times = np.empty((len(calls), rounds))
    repeats = [_repeats(call) for call in calls]
    for r in range(rounds):
        for i in rng.permutation(len(calls)):
            call = calls[i]
            call()
            start = time.process_time_ns()
            for _ in range(repeats[i]):
                call()
            times[i, r] = (time.process_time_ns() - start) / repeats[i] / 1e6
    return times


def _repeats(call: Call) -> int:
    """Timed calls of a visit, from one call that follows a first one."""
    call()
    start = time.process_time_ns()
    call()
    took = (time.process_time_ns() - start) / 1e6
    return max(TIMED_CALLS, math.ceil(VISIT_MS / max(took, 1e-3)))


def _fastest_quarter(visits: NDArray[np.float64]) -> float:
    """Mean of the ceil(n / 4) smallest of float64[n]."""
    return float(np.sort(visits)[: math.ceil(len(visits) / 4)].mean())


def _spread(visits: NDArray[np.float64]) -> float:
    """Interquartile range over the median of float64[n]."""
    low, middle, high = np.quantile(visits, (0.25, 0.5, 0.75))
    return float((high - low) / middle)


def _scale(calibration: Mapping[str, float], anchors: Sequence[float]) -> float:
    """Median of calibrated / now over the anchors, which took `anchors` ms now; 1 if never calibrated."""
    if not calibration:
        return 1.0
    return median(calibration[_anchor_name(i)] / now for i, now in enumerate(anchors))


def _measurement(visits: NDArray[np.float64], scale: float) -> Measurement:
    details = {"spread": _spread(visits), "scale": scale, "rounds": float(len(visits))}
    return Measurement(_fastest_quarter(visits) * scale, details)


# --- what is called --------------------------------------------------------------------------------


def _subject_call(subject: Subject, threads: int) -> Call:
    """Runs the subject's network on its first validation input."""
    from objectives.onnx_graph import to_onnx

    if len(subject.x) == 0:
        raise ValueError("a latency needs at least 1 validation example as input, but got 0")
    x = subject.x[:1].numpy(force=True)  # float32[1, *input_shape]
    return _session_call(to_onnx(subject.model, x.shape[1:]), x, threads)


def _session_call(network: bytes, x: NDArray[np.float32], threads: int) -> Call:
    """Opens an ONNX Runtime session. The input of the network is called "input"."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting is no work
    session = ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    feed = {"input": np.ascontiguousarray(x)}
    return lambda: session.run(None, feed)


def _anchors(threads: int) -> list[Call]:
    rng = np.random.default_rng(0)
    calls = []
    for channels, side, depth in ANCHORS:
        network = _anchor(channels, side, depth, rng).SerializeToString()
        x = rng.standard_normal((1, channels, side, side), np.float32)
        calls.append(_session_call(network, x, threads))
    return calls


def _anchor_name(i: int) -> str:
    return f"anchor_{i}_ms"


def _anchor(channels: int, side: int, depth: int, rng: np.random.Generator) -> onnx.ModelProto:
    """A chain of `depth` times (3x3, depthwise 3x3, 1x1 convolution), each with a ReLU."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    weights: list[Any] = []
    x = "input"
    for kernel, groups in ((3, 1), (3, channels), (1, 1)) * depth:
        shape = (channels, channels // groups, kernel, kernel)
        fan_in = math.prod(shape[1:])
        weight = rng.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / fan_in))
        i = len(weights)
        weights.append(numpy_helper.from_array(weight, f"weight_{i}"))
        nodes += [
            helper.make_node("Conv", [x, f"weight_{i}"], [f"conv_{i}"], pads=[kernel // 2] * 4, group=groups),
            helper.make_node("Relu", [f"conv_{i}"], [f"relu_{i}"]),
        ]
        x = f"relu_{i}"
    tensor = [1, channels, side, side]
    graph = helper.make_graph(
        nodes,
        "anchor",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, tensor)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, tensor)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
