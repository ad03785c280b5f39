"""Kinds of probes side by side: nearest neighbors, chance, few examples, tables."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from CoralBayLib import scan_probes
from CoralBayLib.core.errors import ScansError
from CoralBayLib.scan_probes import Labels, NearestProbe, metrics
from CoralBayLib.scan_probes.charts import comparison_chart, shots_chart
from CoralBayLib.scan_probes.comparison import comparison_lines, write_comparison
from CoralBayLib.scan_probes.embeddings import ScanEmbeddings, take_scans
from CoralBayLib.scan_probes.metrics import calibration_error, estimate_metrics
from CoralBayLib.scan_probes.multi_label import mean_estimate

from .test_scan_probes import classes, study


@pytest.fixture(autouse=True)
def _very_few_resamples(_few_resamples, monkeypatch):
    """No interval is tested here."""
    monkeypatch.setattr(metrics, "RESAMPLES", 10)


def embeddings(vectors):
    return ScanEmbeddings(vectors, np.arange(len(vectors)), "signature", ())


def test_nearest_neighbors_find_what_is_not_linear():
    """A class in the middle of another: no plane parts them, neighborhoods do."""
    random = np.random.default_rng(0)
    angle = random.uniform(0, 2 * np.pi, 60)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.05 * random.normal(size=(60, 2))
    labels = Labels.of("classification", np.where(np.cos(2 * angle) > 0, "a", "b"), range(60))
    nearest = scan_probes.cross_validate(ring, labels, make=NearestProbe).metrics["AUROC"].value
    linear = scan_probes.cross_validate(ring, labels).metrics["AUROC"].value
    assert nearest > 0.9 > linear + 0.2


@pytest.mark.parametrize("task", ["regression", "survival"])
def test_nearest_neighbors_predict_numbers_and_risks(task):
    random = np.random.default_rng(1)
    vectors = random.normal(size=(90, 3))
    size = vectors[:, 0] / np.linalg.norm(vectors, axis=1)
    if task == "regression":
        labels = Labels.of(task, 10 + size, range(90))
        assert scan_probes.cross_validate(vectors, labels, make=NearestProbe).metrics["R2"].value > 0.5
    else:
        labels = Labels.of(task, random.random(90) < 0.8, range(90), np.exp(-2 * size))
        assert scan_probes.cross_validate(vectors, labels, make=NearestProbe).metrics["concordance"].value > 0.7


def test_more_neighbors_are_chosen_where_single_ones_err():
    vectors, sick, patients = study(signal=0.6)
    few = NearestProbe().fit(vectors[::2], classes(sick, patients).take(np.arange(0, 80, 2)))
    assert few.neighbors_ > 1
    assert (few.predict(vectors) > 0).all() and np.allclose(few.predict(vectors).sum(axis=1), 1)
    assert NearestProbe(1).fit(vectors, classes(sick, patients)).predict(vectors).max() < 1


def test_all_probes_are_tested_in_the_same_folds_beside_chance():
    vectors, sick, patients = study()
    found = scan_probes.compare(embeddings(vectors), classes(sick, patients), ("linear", "nearest"))
    assert list(found.rows()) == ["linear", "nearest", "chance"]
    assert np.array_equal(found.evaluations["linear"].fold, found.evaluations["nearest"].fold)
    chance = found.chance
    assert chance["AUROC"].value == 0.5 and chance["balanced accuracy"].value == 0.5
    assert found.evaluations["linear"].metrics["AUROC"].low > 0.5
    lines = comparison_lines(found.rows(), ["AUROC", "Brier score"])
    assert lines[0].split() == ["probe", "AUROC", "Brier", "score"] and lines[3].startswith("chance")


def test_chance_of_a_number_is_the_mean():
    vectors, _, patients = study()
    labels = Labels.of("regression", vectors[:, 0], patients)
    assert scan_probes.compare(embeddings(vectors), labels, ("nearest",)).chance["R2"].value == pytest.approx(0, abs=1e-6)


def test_an_attentive_probe_needs_tokens():
    vectors, sick, patients = study()
    with pytest.raises(ScansError, match="with_tokens"):
        scan_probes.compare(embeddings(vectors), classes(sick, patients), ("attentive",))


def test_curves_from_few_examples_rise():
    vectors, sick, patients = study(patients=60, signal=3.0)
    curves = scan_probes.shot_curves(embeddings(vectors), classes(sick, patients), "sick", (1, 4, 16), ("linear", "nearest"))
    for found in curves.values():
        assert [each.shots for each in found] == [1, 4, 16]
        assert found[0].mean + 0.05 < found[2].mean and found[0].spread > 0
    chart = shots_chart(curves, "sick")
    assert [series.name for series in chart.series] == ["linear", "nearest", "chance"]
    assert chart.series[0].x.tolist() == [1, 4, 16]


def test_a_sample_of_one_class_has_no_balanced_accuracy(monkeypatch):
    """Of three scans, many samples hold one class only; the same prediction for all is right or wrong in all of them."""
    monkeypatch.setattr(metrics, "RESAMPLES", 100)
    labels = Labels.of("classification", ["a", "a", "b"], range(3))
    found = estimate_metrics(np.tile([2 / 3, 1 / 3], (3, 1)), labels, ["a", "b"])["balanced accuracy"]
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_a_rare_class_is_not_lost_in_the_balanced_accuracy():
    """Of calibrated probabilities of a rare class none reaches one half; the scans with a raised one are still found."""
    values = ["rare"] * 10 + ["usual"] * 90
    labels = Labels.of("classification", values, range(100))
    rare = np.where(np.arange(100) < 10, 0.4, 0.05)
    found = estimate_metrics(np.stack([rare, 1 - rare], axis=1), labels, ["rare", "usual"])
    assert found["accuracy"].value == 0.9 and found["balanced accuracy"].value == 1.0


def test_the_calibration_error_is_that_of_the_bins():
    truth = np.arange(100) % 2 == 0
    assert calibration_error(truth, np.full(100, 0.5)) == pytest.approx(0)
    assert calibration_error(truth, np.full(100, 0.9)) == pytest.approx(0.4)
    assert calibration_error(truth, truth.astype(float)) == pytest.approx(0)
    # Where all scans have one probability, their order does not matter.
    assert calibration_error(np.sort(truth), np.full(100, 0.5)) == pytest.approx(0)


def test_a_table_and_a_chart_hold_the_intervals(tmp_path):
    vectors, sick, patients = study()
    rows = scan_probes.compare(embeddings(vectors), classes(sick, patients), ("nearest",)).rows()
    write_comparison(tmp_path / "comparison.csv", {"=finding": rows})
    with (tmp_path / "comparison.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert {row["probe"] for row in read} == {"nearest", "chance"}
    assert read[0]["target"] == "'=finding" and float(read[0]["low"]) <= float(read[0]["value"]) <= float(read[0]["high"])
    chart = comparison_chart(rows, "AUROC")
    assert [series.name for series in chart.series] == ["nearest", "chance"]
    assert [row.split("\n")[0] for row in chart.rows] == ["nearest", "chance"]
    assert str(rows["nearest"]["AUROC"]) in chart.rows[0]
    assert chart.series[0].x[1] == rows["nearest"]["AUROC"].value and chart.series[1].y.tolist() == [1, 1, 1]


def test_scans_are_taken_with_their_vectors():
    vectors, *_ = study()
    part = take_scans(embeddings(vectors), np.array([5, 2]))
    assert part.rows.tolist() == [5, 2] and np.array_equal(part.vectors, vectors[[5, 2]])


def test_the_mean_over_targets_has_an_interval_over_patients():
    vectors, sick, patients = study()
    tested = []
    for flipped in (False, True):
        labels = Labels.of("classification", np.where(sick != flipped, "b", "a"), patients)
        tested.append((labels, scan_probes.cross_validate(vectors, labels)))
    found = mean_estimate(tested, "AUROC")
    values = [evaluation.metrics["AUROC"].value for _, evaluation in tested]
    assert found.value == pytest.approx(np.mean(values)) and found.low <= found.value <= found.high
    with pytest.raises(ScansError, match="'R2'"):
        mean_estimate(tested, "R2")
