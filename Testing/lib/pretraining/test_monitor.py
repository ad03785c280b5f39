"""The warning of collapse."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from CoralBayLib.pretraining.monitor import PATIENCE, CollapseMonitor

K, N, D = 64, 8, 16


def run(monitor: CollapseMonitor, vectors, outputs, steps: int = PATIENCE + 5) -> list[str]:
    return [warning for step in range(steps) if (warning := monitor.add(step, vectors(step), outputs(step))[1])]


def spread_vectors(step: int) -> torch.Tensor:
    return functional.normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(step)), dim=1)


def sharp_outputs(step: int) -> torch.Tensor:
    logits = torch.randn(N, K, generator=torch.Generator().manual_seed(step))
    return functional.softmax(5 * logits, dim=1)


def test_a_healthy_teacher_gets_no_warning():
    monitor = CollapseMonitor()
    assert run(monitor, spread_vectors, sharp_outputs, 50) == []
    health, _ = monitor.add(50, spread_vectors(50), sharp_outputs(50))
    assert health.spread == pytest.approx(1.0, abs=0.05)
    assert 0 < health.entropy < 0.9
    assert health.used > 20


def test_a_teacher_that_always_says_the_same_is_noticed_once():
    vector, output = spread_vectors(0)[:1].expand(N, D), sharp_outputs(0)[:1].expand(N, K)
    warnings = run(CollapseMonitor(), lambda step: vector, lambda step: output)
    assert len(warnings) == 1
    assert f"step {PATIENCE + 1}" in warnings[0] and "same vector" in warnings[0] and "lower learning rate" in warnings[0]


def test_a_uniform_output_and_a_single_prototype_are_noticed():
    uniform = torch.full((N, K), 1 / K)
    single = functional.one_hot(torch.zeros(N, dtype=torch.long), K).float()
    assert "equally likely" in run(CollapseMonitor(), spread_vectors, lambda step: uniform)[0]
    assert "same prototype" in run(CollapseMonitor(), spread_vectors, lambda step: single)[0]


def test_nothing_is_said_in_the_first_steps():
    vector, output = spread_vectors(0)[:1].expand(N, D), sharp_outputs(0)[:1].expand(N, K)
    assert run(CollapseMonitor(quiet_steps=100), lambda step: vector, lambda step: output, 100) == []


def test_a_restored_monitor_goes_on_as_before():
    one = CollapseMonitor()
    for step in range(10):
        one.add(step, spread_vectors(step), sharp_outputs(step))
    other = CollapseMonitor()
    other.restore(one.state())
    assert one.add(10, spread_vectors(10), sharp_outputs(10)) == other.add(10, spread_vectors(10), sharp_outputs(10))
