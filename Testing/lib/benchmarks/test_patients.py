"""The benchmark of several patients: its methods on phantoms with a known answer, what it keeps, and its tables."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.core.errors import EvaluationError
from CoralBayLib.evaluation.agreement import Agreement
from CoralBayLib.evaluation.cases import read_cases
from CoralBayLib.evaluation.method import Lesson
from CoralBayLib.evaluation.results import Result, ResultFile
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.patients import find_patients
from Testing.benchmarks import patients
from Testing.benchmarks.patient_methods import FilterForest, Registration, affine, largest_pieces
from Testing.benchmarks.patient_network import UNet, _batches, known_logits
from Testing.benchmarks.tables.patients import FOREST, MINI, MISSING, TITLES, shared, write_tables
from Testing.benchmarks.tables.sections import rows
from Testing.benchmarks.versions import PATIENTS

NAMES = {1: "bright", 2: "dark"}


@pytest.fixture
def make_patient(make_grid, make_phantom, pooling):
    """A patient with a bright and a dark ball, all moved by `shift` mm: features and labels."""

    def make(shift=(0, 0, 0), kind="anisotropic", seed=0):
        grid = make_grid(kind, extent_mm=130.0, centre=np.add((12.0, -30.0, 45.0), shift), spacing=3.0)
        scan, labels = make_phantom(grid, radius_mm=56.0, seed=seed).array.copy(), np.zeros(grid.shape, np.uint8)
        ras = grid.to_ras(np.argwhere(np.ones(grid.shape, bool))[:, ::-1])
        for label, (center, hu) in enumerate((((34, -22, 50), 400), ((-12, -34, 30), -300)), start=1):
            inside = (np.linalg.norm(ras - np.add(center, shift), axis=1) < 14).reshape(grid.shape)
            scan[inside], labels[inside] = hu, label
        return cb.embed(Volume(scan, grid), pooling()), Volume(labels, grid)

    return make


def lesson(patient, names=NAMES):
    return Lesson(names, lambda: patient)


def overlap(found, truth, label):
    ours, theirs = found.array == label, truth.array == label
    return 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())


def test_the_forest_finds_what_it_learned(make_patient):
    method = FilterForest()
    model = method.combine([method.learn(lesson(make_patient((n, 0, 0), seed=n))) for n in range(2)])
    pyramid, truth = make_patient((3, 2, 4), seed=9)
    found = method.predict(model, pyramid, truth.grid)
    assert found.grid.same_as(truth.grid)
    assert min(overlap(found, truth, label) for label in NAMES) > 0.7


def test_the_forest_takes_a_structure_that_was_not_looked_for_as_background(make_patient):
    method = FilterForest()
    part = method.learn(lesson(make_patient(), {1: "bright"}))
    assert set(part.labels.tolist()) == {0, 1}
    assert len(part.features) == len(part.labels) == len(part.represented)


def test_the_affine_registration_finds_a_shift(make_patient):
    shift = np.array([9.0, -6.0, 15.0])
    (fixed, _), (moving, _) = make_patient(), make_patient(shift, seed=3)
    matrix, offset = affine(fixed.image, moving.image)
    points = np.array([[34.0, -22, 50], [-12, -34, 30]])
    # Of 18 mm; the voxels that it is found with have 8 mm.
    assert np.linalg.norm(points @ matrix.T + offset - points - shift, axis=1).max() < 6


@pytest.mark.slow
def test_registered_patients_vote(make_patient):
    pytest.importorskip("convexAdam", reason="ConvexAdam is in the dev group of pyproject.toml; it is not installed here")
    method = Registration()
    first = method.learn(lesson(make_patient((6, 0, -10), seed=1)))
    other = method.learn(lesson(make_patient((0, 5, 8), seed=2), {1: "bright"}))
    pyramid, truth = make_patient(seed=3)
    one = method.predict(method.combine([first]), pyramid, truth.grid)
    assert min(overlap(one, truth, label) for label in NAMES) > 0.7
    both = method.predict(method.combine([first, other]), pyramid, truth.grid)
    # The second patient has no say in what was not looked for in it.
    assert min(overlap(both, truth, label) for label in NAMES) > 0.7


def test_registration_says_what_to_install(make_patient, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "convexAdam.convex_adam_MIND", None)
    method, patient = Registration(), make_patient()
    with pytest.raises(EvaluationError, match="pip install convexAdam"):
        method.predict([method.learn(lesson(patient))], patient[0], patient[1].grid)


@pytest.mark.slow
def test_the_network_answers_on_the_grid_asked_for(make_patient):
    method, threads = UNet(minutes=0, threads=1), torch.get_num_threads()
    patient = make_patient()
    model = method.combine([method.learn(lesson(patient))])
    found = method.predict(model, patient[0], patient[1].grid)
    assert found.grid.same_as(patient[1].grid)
    assert set(np.unique(found.array).tolist()) <= {0, 1, 2}
    assert torch.get_num_threads() == threads
    assert UNet(20, 2).version != UNet(10, 2).version


def test_background_stands_for_what_was_not_looked_for():
    logits = torch.randn(2, 3, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    unknown = torch.tensor([[False, False, False], [False, True, False]])
    before, after = (torch.softmax(each, dim=1)[..., 0, 0, 0] for each in (logits, known_logits(logits, unknown)))
    assert torch.allclose(after[0], before[0])
    assert torch.allclose(after[1], torch.stack([before[1, 0] + before[1, 1], torch.tensor(0.0), before[1, 2]]))


def test_batches_have_classes_and_say_what_is_unknown(make_patient):
    part = UNet(0, 1).learn(lesson(make_patient(), {2: "dark"}))
    images, targets, unknown = next(_batches([part], [2, 5]))
    assert images.shape == targets.shape == (2, 1, 64, 64, 64)
    assert set(targets.unique().tolist()) == {0, 1}
    assert unknown.tolist() == [[False, False, True]] * 2


def test_only_the_largest_piece_is_kept():
    labels = np.array([[[1, 1, 0, 1, 2]]], np.uint8)
    assert largest_pieces(labels, [1, 2]).tolist() == [[[1, 1, 0, 0, 2]]]


class Perfect:
    """Segments by HU."""

    version = "perfect"

    def __init__(self):
        self.tested = 0

    def learn(self, lesson, cancel=None):
        return sorted(lesson.names)

    def combine(self, parts, cancel=None):
        return parts

    def predict(self, model, pyramid, grid, cancel=None):
        self.tested += 1
        hu = cb.resample(pyramid.image, grid).array
        return Volume(np.where(hu > 200, 1, 0).astype(np.uint8), grid)


@pytest.fixture
def folder(tmp_path, make_patient):
    """Four patients on disk."""
    for n in range(4):
        pyramid, labels = make_patient((n, 0, 0), kind="axial", seed=n)
        own = tmp_path / "scans" / f"p{n}"
        own.mkdir(parents=True)
        cb.write_volume(Volume(cb.resample(pyramid.image, labels.grid, "nearest").array, labels.grid), own / "ct.nii.gz")
        cb.write_volume(labels, own / "labels.nii.gz")
        (own / "labels.json").write_text(json.dumps(NAMES))
    return tmp_path / "scans"


def test_a_test_is_measured_once_and_counts_while_its_version_does(folder, tmp_path, pooling, monkeypatch):
    cases = read_cases(find_patients(folder).patients)
    draws = patients.drawn(cases, [1, 2], 1, ["p3", "p0"], first=1)
    assert {name for draw in draws for name in draw.train} == {"p1", "p2"}
    assert [draw.test for draw in draws] == [("p3",), ("p3",)]
    assert set(patients.needed(cases, draws).cases) == {"p1", "p2", "p3"}
    file, method = tmp_path / "patients.jsonl", Perfect()
    for _ in range(2):
        patients.measure(cases, draws, FOREST, pooling(), method, ResultFile(file), cb.Store())
    assert method.tested == 2
    found = patients.known_results(file)
    assert [(each.encoder, each.shots, each.patient) for each in found] == [(FOREST, 1, "p3"), (FOREST, 2, "p3")]
    assert found[0].scores["bright"].dice > 0.8
    monkeypatch.setitem(PATIENTS, FOREST, PATIENTS[FOREST] + 1)
    assert patients.known_results(file) == []
    with pytest.raises(EvaluationError, match="no patient p9"):
        patients.drawn(cases, [1], 1, ["p9"])


def test_every_method_has_a_version_and_a_row():
    assert set(patients.METHODS) == set(PATIENTS) == set(TITLES)


def result(title, shots, draw, patient, dice):
    scores = {"cord": Agreement(dice, 2.0, 3.0, True, True), "larynx": Agreement(dice / 2, 4.0, 5.0, True, True)}
    return Result(f"{title}{shots}{draw}{patient}", title, shots, draw, ("a",), patient, scores, 1.5)


def test_tables_say_what_was_measured(tmp_path):
    found = [result(MINI, 5, draw, patient, 0.8) for draw in (1, 2) for patient in "xyz"] + [result(FOREST, 1, 1, "x", 0.4)]
    file = tmp_path / "patients.md"
    text = write_tables(found, file)
    assert text.strip() in file.read_text(encoding="utf-8")
    mean = {row["labeled patients"]: row for row in rows(file, "Mean over structures")}
    assert mean[MINI]["5"] == "0.600 [0.60, 0.60] (2 x 3)"
    assert mean[FOREST]["1"] == "0.300 [0.30, 0.30] (1 x 1)"
    assert mean[FOREST]["5"] == mean["U-Net from scratch"]["1"] == MISSING
    same = {row["labeled patients"]: row for row in rows(file, "On the same tests")}
    assert same[MINI]["5"] == mean[MINI]["5"]
    larynx = {row["labeled patients"]: row for row in rows(file, "larynx")}
    assert larynx[MINI]["5"] == "0.40 / 4.0"
    assert rows(file, "Time")[0]["5"] == "1.5"


def test_methods_are_compared_on_the_tests_that_they_share():
    found = [result(MINI, 5, 1, patient, 0.8) for patient in "xyz"] + [result(FOREST, 5, 1, patient, 0.4) for patient in "yw"]
    found.append(result(MINI, 1, 1, "x", 0.5))
    assert [(each.encoder, each.shots, each.patient) for each in shared(found)] == [
        (MINI, 1, "x"),
        (MINI, 5, "y"),
        (FOREST, 5, "y"),
    ]
