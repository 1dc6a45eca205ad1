"""The latency protocol, with a fake clock where the law is meant and real sessions where the order is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nas.architecture import Architecture, Graph, Node
from nas.device import unshared
from nas.protocols import Measurement, Subject
from objectives import latency
from objectives.latency import ANCHORS, latency_ms

ARCH = Architecture("stub", (("net", Graph((Node(0, "input"),))),))


def conv_net(channels: int, depth: int) -> nn.Module:
    body = [nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()) for _ in range(depth)]
    return nn.Sequential(nn.Conv2d(3, channels, 1), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def subject(
    model: nn.Module | None = None,
    calibration: Mapping[str, float] | None = None,
    alone: Callable[[], AbstractContextManager[None]] = unshared,
    seed: int = 0,
) -> Subject:
    x = torch.ones(2, 3, 16, 16)
    y = torch.zeros(2, dtype=torch.int64)
    net = model or nn.Sequential(nn.Flatten())
    device = torch.device("cpu")
    return Subject(net, ARCH, None, x, y, device, {}, calibration or {}, alone, seed)  # type: ignore[arg-type]


def measure(one: Subject, **options: Any) -> Measurement:
    objective = latency_ms(**options)
    assert objective.measure is not None
    measured = objective.measure(one)
    assert isinstance(measured, Measurement)
    return measured


class FakeMachine:
    """A clock that only calls move: anchors take 1, 2 and 4 ms, the net 3 ms, all times `slowness`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 0
        self.slowness = 1.0
        self.events: list[str] = []
        monkeypatch.setattr(latency.time, "process_time_ns", lambda: self.now_ns)
        monkeypatch.setattr(latency, "_session_call", self.open)

    def open(self, network: bytes, x: Any, threads: int) -> Callable[[], object]:
        i = self.events.count("open")
        self.events.append("open")
        return lambda: self.run(i)

    def run(self, i: int) -> None:
        self.events.append(f"run {i}")
        self.now_ns += int((1, 2, 4, 3)[min(i, 3)] * self.slowness * 1_000_000)

    @contextmanager
    def alone(self) -> Iterator[None]:
        self.events.append("enter")
        yield
        self.events.append("exit")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    return FakeMachine(monkeypatch)


# --- closed forms ----------------------------------------------------------------------------------


def test_the_value_is_the_mean_of_the_fastest_quarter():
    visits = np.array([9.0, 1.0, 8.0, 3.0, 7.0, 2.0, 6.0, 6.0])
    assert latency._fastest_quarter(visits) == 1.5
    assert latency._fastest_quarter(np.arange(15.0)) == 1.5  # ceil(15 / 4) = 4 of them: 0, 1, 2, 3
    assert latency._fastest_quarter(visits[:4]) == 1.0


def test_spread_is_the_interquartile_range_over_the_median():
    assert latency._spread(np.array([5.0, 1.0, 4.0, 2.0, 3.0])) == pytest.approx((4 - 2) / 3)
    assert latency._spread(np.full(6, 2.5)) == 0.0


def test_scale_is_the_median_of_calibrated_over_now():
    calibration = {"anchor_0_ms": 2.0, "anchor_1_ms": 2.2, "anchor_2_ms": 40.0}
    assert latency._scale(calibration, [1.0, 2.0, 4.0]) == 2.0  # of 2, 1.1 and 10
    assert latency._scale({}, [1.0, 2.0, 4.0]) == 1.0


# --- the protocol under a fake clock ---------------------------------------------------------------


@pytest.fixture
def two_timed_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """No net is small enough to be called more often."""
    monkeypatch.setattr(latency, "_repeats", lambda call: latency.TIMED_CALLS)


def test_a_small_net_is_called_until_the_visit_is_long_enough(machine: FakeMachine):
    assert latency._repeats(machine.open(b"", None, 1)) == latency.TIMED_CALLS  # 1 ms a call
    monotonic = iter([0, 50_000])  # the timed call takes .05 ms
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency.time, "process_time_ns", lambda: next(monotonic))
        assert latency._repeats(lambda: None) == 10


@pytest.mark.usefixtures("two_timed_calls")
def test_a_visit_is_one_warm_up_and_two_timed_calls(machine: FakeMachine):
    times = latency._visit([machine.open(b"", None, 1) for _ in range(4)], 5, np.random.default_rng(0))
    np.testing.assert_array_equal(times, np.repeat([[1.0], [2.0], [4.0], [3.0]], 5, axis=1))


@pytest.mark.usefixtures("two_timed_calls")
def test_rounds_interleave_all_nets_in_a_random_order_of_the_seed(machine: FakeMachine):
    together = latency_ms(rounds=8).measure_together
    assert together is not None
    orders = []
    for seed in (5, 5, 6):
        machine.events.clear()
        assert len(together([subject(seed=seed), subject(), subject()])) == 3
        runs = [event for event in machine.events if event.startswith("run")]
        visits = runs[::3]
        assert runs == [run for run in visits for _ in range(3)]
        rounds = [visits[i : i + 6] for i in range(0, len(visits), 6)]
        assert len(rounds) == 8 and all(len(set(one)) == 6 for one in rounds)
        assert len({tuple(one) for one in rounds}) > 1
        orders.append(visits)
    assert orders[0] == orders[1] != orders[2]


def test_the_lock_is_taken_once_around_the_rounds_and_nothing_else(machine: FakeMachine):
    together = latency_ms(rounds=4).measure_together
    assert together is not None
    together([subject(alone=machine.alone), subject(alone=machine.alone)])
    opened, held = machine.events[:5], machine.events[5:]
    assert opened == ["open"] * 5
    assert (held[0], held[-1]) == ("enter", "exit")
    assert all(event.startswith("run") for event in held[1:-1])


def test_the_common_scale_of_a_measuring_run_is_removed(machine: FakeMachine):
    calibrate = latency_ms().calibrate
    assert calibrate is not None
    calibration = calibrate()
    assert calibration == {"anchor_0_ms": 1.0, "anchor_1_ms": 2.0, "anchor_2_ms": 4.0}
    machine.slowness = 1.25
    machine.events.clear()
    measured = measure(subject(calibration=calibration))
    assert measured.value == pytest.approx(3.0)
    assert measured.details == {"spread": 0.0, "scale": pytest.approx(0.8), "rounds": 15.0}
    machine.events.clear()
    measured = measure(subject(), rounds=4)
    assert (measured.value, measured.details["scale"], measured.details["rounds"]) == (3.75, 1.0, 4.0)


def test_measuring_nothing_takes_no_lock(machine: FakeMachine):
    together = latency_ms().measure_together
    assert together is not None
    assert together([]) == [] and machine.events == []


# --- real sessions ---------------------------------------------------------------------------------


def test_clearly_different_nets_are_ordered():
    together = latency_ms(rounds=5).measure_together
    assert together is not None
    nets = [conv_net(48, 12), conv_net(8, 1), conv_net(24, 4)]  # 250 k, 1 k and 20 k multiplications a pixel
    large, small, middle = (m.value for m in together([subject(net) for net in nets]))
    assert 0 < small < middle < large
    assert large > 8 * small
    assert small == pytest.approx(measure(subject(nets[1]), rounds=5).value, rel=1.0)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_calibration_just_made_hardly_scales(threads: int):
    objective = latency_ms(rounds=6, threads=threads)
    assert objective.calibrate is not None
    calibration = objective.calibrate()
    assert list(calibration) == [f"anchor_{i}_ms" for i in range(len(ANCHORS))]
    assert all(0.01 < ms < 20 for ms in calibration.values())
    measured = measure(subject(conv_net(8, 1), calibration), rounds=6, threads=threads)
    assert 0.3 < measured.details["scale"] < 3
    assert measured.details["spread"] >= 0


def test_naming_the_objective_is_cheap_and_calibration_needs_no_torch():
    code = """
import sys
from objectives.latency import latency_ms
heavy = {"torch", "onnx", "onnxruntime"}
objective = latency_ms(limit=2.0)
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
latency_ms(rounds=4).calibrate()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0.0}, "`limit > 0` must hold, but got (limit=0.0)"),
        ({"rounds": 3}, "`rounds >= 4` must hold, for a fastest quarter, but got (rounds=3)"),
        ({"threads": 0}, "`threads >= 1` must hold, but got (threads=0)"),
    ],
)
def test_wrong_settings_say_what_must_hold(options: dict[str, Any], message: str):
    with pytest.raises(ValueError) as caught:
        latency_ms(**options)
    assert str(caught.value) == message


def test_no_validation_data_is_an_error():
    one = subject()
    empty = Subject(**{**vars(one), "x": one.x[:0]})
    with pytest.raises(ValueError, match="at least 1 validation example"):
        measure(empty)
