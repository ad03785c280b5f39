"""Scan probes: fit, prediction and evaluation; no patient is in both parts of a split."""

from __future__ import annotations

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib import scan_probes
from CoralBayLib.core.errors import ProbeError, ScansError
from CoralBayLib.core.tensor_files import read_tensors
from CoralBayLib.scan_probes import metrics
from CoralBayLib.scan_probes.splits import grouped_folds, no_patient_twice


def study(patients=40, each=2, dimensions=20, signal=1.5, seed=0):
    """Vectors patient_of_scan first number depends on the class; the others are random for each patient."""
    random = np.random.default_rng(seed)
    sick = np.arange(patients) % 2 == 0
    vector_of_patient = random.normal(size=(patients, dimensions))
    vector_of_patient[:, 0] += signal * np.where(sick, 1, -1)
    vectors = np.repeat(vector_of_patient, each, axis=0) + 0.1 * random.normal(size=(patients * each, dimensions))
    names = [f"p{n}" for n in np.repeat(np.arange(patients), each)]
    return vectors.astype(np.float32), np.repeat(sick, each), names


def classes(sick, patients):
    return scan_probes.Labels.of("classification", np.where(sick, "sick", "well"), patients)


@pytest.mark.parametrize("task", ["classification", "regression", "survival"])
def test_no_patient_is_in_both_parts(task):
    _, sick, patients = study(each=3)
    folds = grouped_folds(scan_probes.Labels.of(task, sick.tolist(), patients))
    assert len(folds) == 5
    patient_of_scan = np.array(patients)
    for train, test in folds:
        assert not set(patient_of_scan[train]) & set(patient_of_scan[test])
        assert len(set(sick[test])) == 2
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(patient_of_scan)))


def test_a_split_with_a_patient_in_both_parts_is_refused():
    with pytest.raises(ScansError, match="1 patients are in the training and in the test part"):
        no_patient_twice(["a", "b"], ["b", "c"])


def test_evaluation_refuses_a_leaking_split(monkeypatch):
    vectors, sick, patients = study()
    leaking = [(np.arange(0, 70), np.arange(60, 80)), (np.arange(10, 80), np.arange(0, 20))]
    monkeypatch.setattr("CoralBayLib.scan_probes.evaluation.grouped_folds", lambda *_, **__: leaking)
    with pytest.raises(ScansError, match="in the training and in the test part"):
        scan_probes.cross_validate(vectors, classes(sick, patients))


def test_one_image_under_two_patients_is_refused():
    vectors, sick, patients = study(each=1)
    vectors[7] = vectors[2]
    with pytest.raises(ScansError, match=f"same image is listed for the patients '{patients[2]}' and '{patients[7]}'"):
        scan_probes.cross_validate(vectors, classes(sick, patients))


@pytest.mark.slow
def test_memorized_patients_do_not_improve_the_metrics():
    """Labels depend on the patient and are unrelated to the vectors: a split by scans would reach an AUROC near 1."""
    vectors, sick, patients = study(signal=0.0, each=4)
    evaluation = scan_probes.cross_validate(vectors, classes(sick, patients))
    assert 0.2 < evaluation.metrics["AUROC"].value < 0.8
    assert evaluation.metrics["AUROC"].low < 0.5 < evaluation.metrics["AUROC"].high + 0.15


@pytest.mark.slow
@pytest.mark.usefixtures("all_resamples")
def test_classification_with_intervals_and_calibration():
    vectors, sick, patients = study()
    evaluation = scan_probes.cross_validate(vectors, classes(sick, patients))
    area = evaluation.metrics["AUROC"]
    assert area.value > 0.85
    assert area.low < area.value < area.high
    assert evaluation.classes == ["sick", "well"]
    assert np.allclose(evaluation.predicted.sum(axis=1), 1)
    names = {"AUROC", "average precision", "F1", "accuracy", "balanced accuracy", "Brier score", "calibration error"}
    assert set(evaluation.metrics) == names
    assert len(evaluation.calibration) == 5 and evaluation.calibration[0, 1] < evaluation.calibration[-1, 1]


@pytest.mark.slow
def test_three_classes():
    random = np.random.default_rng(1)
    kinds = np.repeat(["a", "b", "c"], 20)
    vectors = random.normal(size=(60, 8)) + 4 * np.eye(8)[[{"a": 0, "b": 1, "c": 2}[k] for k in kinds]]
    evaluation = scan_probes.cross_validate(vectors, scan_probes.Labels.of("classification", kinds, range(60)))
    assert evaluation.predicted.shape == (60, 3)
    assert evaluation.metrics["AUROC"].value > 0.95
    assert evaluation.calibration.shape == (0, 2)


def test_regression():
    vectors, _, patients = study()
    evaluation = scan_probes.cross_validate(vectors, scan_probes.Labels.of("regression", 50 + 10 * vectors[:, 0], patients))
    assert evaluation.metrics["R2"].value > 0.5
    assert evaluation.metrics["MAE"].value < 8


@pytest.mark.slow
def test_survival():
    pytest.importorskip("lifelines")
    random = np.random.default_rng(2)
    vectors = random.normal(size=(80, 12))
    times = random.exponential(np.exp(-1.5 * vectors[:, 0])) + 0.01
    seen = random.random(80) < 0.7
    evaluation = scan_probes.cross_validate(vectors, scan_probes.Labels.of("survival", seen, range(80), times))
    assert evaluation.metrics["concordance"].value > 0.7


def test_concordance_equals_that_of_lifelines():
    utils = pytest.importorskip("lifelines.utils")
    random = np.random.default_rng(3)
    risk, times, seen = random.normal(size=50).round(1), random.integers(1, 20, 50), random.random(50) < 0.6
    assert metrics.concordance(risk, seen, times) == pytest.approx(utils.concordance_index(times, -risk, seen))
    assert metrics.concordance(risk, np.zeros(50, bool), times) is None


def test_few_shot():
    vectors, sick, patients = study(patients=60, signal=3.0)
    labels = classes(sick, patients)
    few, _ = scan_probes.few_shot(vectors, labels, "sick", 1)
    more, spread = scan_probes.few_shot(vectors, labels, "sick", 16)
    assert more > few + 0.05 and more > 0.85 and spread > 0
    with pytest.raises(ScansError, match="there are 30 and 30"):
        scan_probes.few_shot(vectors, labels, "sick", 30)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_loaded_probe_predicts_the_same(task, tmp_path):
    vectors, sick, patients = study()
    values = np.where(sick, "sick", "well") if task == "classification" else vectors[:, 0]
    probe = scan_probes.ScanProbe().fit(vectors, scan_probes.Labels.of(task, values, patients))
    probe.save(tmp_path / "probe.safetensors", "sig", (("enc1", 20),), "emphysema")
    again = scan_probes.ScanProbe.load(tmp_path / "probe.safetensors")
    assert np.array_equal(again.predict(vectors), probe.predict(vectors))
    assert (again.signature, again.pooled, again.target) == ("sig", (("enc1", 20),), "emphysema")
    with pytest.raises(ProbeError, match="of 20 numbers, but these have 19"):
        again.predict(vectors[:, :19])


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ProbeError, match="not of the kind 'scan probe'"):
        scan_probes.ScanProbe.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(("patients", "values"), [(["a", "b", "c"], ["x", "x", "x"]), (["a", "b"], ["x", "y"])])
def test_too_few_patients_are_refused(patients, values):
    with pytest.raises(ScansError, match="at least two"):
        scan_probes.cross_validate(np.eye(len(values)), scan_probes.Labels.of("classification", values, patients))


def test_cancel(tmp_path):
    vectors, sick, patients = study()
    cancel = cb.CancelToken()
    cancel.cancel()
    with pytest.raises(cb.CoralBayError, match="Cancelled"):
        scan_probes.cross_validate(vectors, classes(sick, patients), cancel=cancel)


def test_files_of_version_0_1_0_are_read(tmp_path):
    vectors, sick, patients = study()
    probe = scan_probes.ScanProbe(0.1).fit(vectors, classes(sick, patients))
    probe.save(tmp_path / "probe.safetensors")
    header, _ = read_tensors(tmp_path / "probe.safetensors", "scan probe")
    assert header["task"] == "classify"
    assert scan_probes.ScanProbe.load(tmp_path / "probe.safetensors").task_ == "classification"


def test_old_names_are_deprecated():
    vectors, sick, patients = study()
    probe = scan_probes.ScanProbe(0.1).fit(vectors, classes(sick, patients))
    with pytest.warns(DeprecationWarning, match="decision_function"):
        assert np.array_equal(probe.decide(vectors), probe.decision_function(vectors))
    with pytest.warns(DeprecationWarning, match="Estimate"):
        assert scan_probes.Figure is scan_probes.Estimate
    with pytest.warns(DeprecationWarning, match="metrics"):
        assert scan_probes.Evaluation({}, vectors, vectors, [], vectors).figures == {}


def test_the_positive_class_is_chosen():
    """Metrics and outputs are of the chosen class; the probe is the same but for the sign."""
    vectors, sick, patients = study()
    labels = classes(sick, patients)
    chosen = labels.with_positive("sick")
    usual, other = (scan_probes.ScanProbe(0.01).fit(vectors, each) for each in (labels, chosen))
    assert (usual.classes_, other.classes_) == (["sick", "well"], ["well", "sick"])
    assert np.allclose(other.weights_, -usual.weights_, atol=1e-3)
    assert np.allclose(other.predict(vectors), usual.predict(vectors)[:, ::-1], atol=1e-3)
    assert (other.decision_function(vectors)[:, 0] > 0)[sick].mean() > 0.9
    result = scan_probes.cross_validate(vectors, chosen)
    assert result.classes == ["well", "sick"]
    assert result.metrics["AUROC"].value == pytest.approx(scan_probes.cross_validate(vectors, labels).metrics["AUROC"].value)
    # The curve is of the chosen class: its observed fraction grows with its probability.
    assert (np.diff(result.calibration[:, 0]) > 0).all() and result.calibration[-1, 1] > result.calibration[0, 1]
    assert labels.with_positive("well").take(np.arange(4)).positive == "well"
    with pytest.raises(ScansError, match="There is no class 'ill'. Classes: sick, well."):
        labels.with_positive("ill")


def test_one_image_with_two_truths_is_refused():
    vectors, sick, patients = study(each=1)
    vectors[7], patients[7] = vectors[2], patients[2]
    with pytest.raises(ScansError, match=f"of the patient '{patients[2]}' is listed twice, with different targets"):
        scan_probes.cross_validate(vectors, classes(sick, patients))
    sick[7] = sick[2]
    assert scan_probes.cross_validate(vectors, classes(sick, patients)).metrics["AUROC"].value > 0.5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("censored", [0, 1])
def test_survival_needs_no_censored_scans(censored):
    pytest.importorskip("lifelines", reason="survival needs lifelines")
    random = np.random.default_rng(2)
    vectors = random.normal(size=(40, 6))
    times = random.exponential(np.exp(-1.5 * vectors[:, 0])) + 0.01
    labels = scan_probes.Labels.of("survival", np.arange(40) >= censored, range(40), times)
    evaluation = scan_probes.cross_validate(vectors, labels)
    assert len(set(evaluation.fold)) == 5 and evaluation.metrics["concordance"].value > 0.6


@pytest.mark.parametrize(
    ("task", "values", "message"),
    [
        ("survival", [0] * 12, "three with an observed event"),
        ("survival", [1] * 2 + [0] * 10, "three with an observed event"),
        ("regression", [5.0] * 12, "All scans have the number 5"),
        ("classification", ["a"] * 12, "two classes"),
        ("classification", ["a"] + ["b"] * 11, "at least two of each class"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused_before_anything_is_embedded(task, values, message):
    labels = scan_probes.Labels.of(task, values, range(12), range(1, 13))
    with pytest.raises(ScansError, match=message):
        scan_probes.evaluation.require_folds(labels, 5, 0)
