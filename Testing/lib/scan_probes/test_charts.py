"""Charts of an evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from CoralBayLib.scan_probes import Labels, cross_validate
from CoralBayLib.scan_probes.charts import charts

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Few bootstrap samples, because no test here reads the intervals."""
    monkeypatch.setattr("CoralBayLib.scan_probes.metrics.RESAMPLES", 10)


def evaluated(task, values, times=()):
    vectors = np.random.default_rng(0).normal(size=(len(values), 4))
    vectors[:, 0] += 3 * np.asarray(values, float)
    values = [f"is {value}" for value in values] if task == "classification" else values
    labels = Labels.of(task, values, range(len(values)), times)
    return labels, cross_validate(vectors, labels)


def test_roc_and_calibration_of_two_classes():
    labels, evaluation = evaluated("classification", [n % 2 for n in range(40)])
    roc, calibration = charts(labels, evaluation)
    curve, chance = roc.series
    assert (curve.name, curve.kind, chance.kind) == ("is 1", "curve", "reference")
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(evaluation.metrics["AUROC"].value)
    assert calibration.series[0].x.tolist() == evaluation.calibration[:, 0].tolist()


def test_each_of_three_classes_has_a_curve():
    (roc,) = charts(*evaluated("classification", [n % 3 for n in range(45)]))
    assert [series.name for series in roc.series] == ["is 0", "is 1", "is 2", "chance"]


def test_predicted_and_true_numbers():
    labels, evaluation = evaluated("regression", list(np.linspace(0, 5, 30)))
    against, difference = charts(labels, evaluation)
    assert against.series[0].y.tolist() == evaluation.predicted.tolist()
    assert np.allclose(difference.series[0].y, evaluation.predicted - labels.values)


def test_survival_falls_in_steps():
    pytest.importorskip("lifelines", reason="survival needs lifelines")
    times = [20.0 - n % 2 * 10 + n / 50 for n in range(40)]
    (chart,) = charts(*evaluated("survival", [n % 2 for n in range(40)], times))
    assert [series.name for series in chart.series] == ["higher risk", "lower risk"]
    for series in chart.series:
        moves = (np.diff(series.x) != 0) & (np.diff(series.y) != 0)
        assert series.y[0] == 1 and (np.diff(series.y) <= 0).all() and not moves.any()
