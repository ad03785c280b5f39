"""Scores of retrieval on made vectors whose answers are known, and the command on a small library."""

from __future__ import annotations

import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import LibraryError
from CoralBayLib.library.evaluation import scores
from CoralBayLib.library.evaluation.charts import region_charts, scan_charts
from CoralBayLib.library.evaluation.labeled_regions import LabeledRegions
from CoralBayLib.library.evaluation.regions import evaluate_regions
from CoralBayLib.library.evaluation.reranking import rerank
from CoralBayLib.library.evaluation.scans import evaluate_scans
from CoralBayLib.library.evaluation.scores import mean_over_patients
from CoralBayLib.scan_probes.report import draw_charts

from .conftest import BRIGHT, make_scan, spot
from .test_cli_library import _pooling_by_name, run  # noqa: F401 - fixtures


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(scores, "RESAMPLES", 50)


def test_scans_of_a_label_are_found():
    random = np.random.default_rng(0)
    labels = ["a"] * 20 + ["b"] * 20
    vectors = random.normal(size=(40, 16)) + 6 * np.eye(16)[[0] * 20 + [1] * 20]
    found = evaluate_scans(vectors, labels, [f"p{n}" for n in range(40)], against=10)
    assert found.metrics["Recall@1"].value > 0.95 and found.metrics["mAP"].value > 0.95
    assert (found.queries, found.against) == (40, (10, 10))
    assert found.chance["Recall@1"] == pytest.approx(1 / 11) and found.chance["Recall@10"] == pytest.approx(10 / 11)
    assert set(found.by_label) == {"a", "b"}


def test_random_vectors_score_as_chance():
    random = np.random.default_rng(1)
    labels = random.choice(["a", "b", "c"], 150).tolist()
    found = evaluate_scans(random.normal(size=(150, 30)), labels, [str(n) for n in range(150)])
    for name, estimate in found.metrics.items():
        assert estimate.value == pytest.approx(found.chance[name], abs=0.03), name


def test_recall_is_the_mean_over_draws():
    """The exact expectation equals a simulation of drawing one scan with the label and ten others."""
    random = np.random.default_rng(2)
    labels = np.array(["a"] * 6 + ["b"] * 30)
    vectors = random.normal(size=(36, 5)) + (labels == "a")[:, None]
    found = evaluate_scans(vectors, labels.tolist(), [str(n) for n in range(36)], against=10)
    x = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    hits = []
    for query in range(6):
        for _ in range(400):
            same = random.choice([n for n in range(6) if n != query])
            others = random.choice(np.arange(6, 36), 10, replace=False)
            hits.append((x[others] @ x[query] >= x[same] @ x[query]).sum() < 5)
    a_and_b = found.metrics["Recall@5"].value
    only_b = evaluate_scans(vectors, labels.tolist(), ["a"] * 6 + [str(n) for n in range(30)], against=10)
    assert only_b.queries == 30
    value_a = (a_and_b * 36 - 30 * _recall_of_b(x, labels)) / 6
    assert value_a == pytest.approx(np.mean(hits), abs=0.04)


def _recall_of_b(x, labels):
    from scipy.stats import hypergeom

    values = []
    for query in np.flatnonzero(labels == "b"):
        same = [n for n in np.flatnonzero(labels == "b") if n != query]
        better = [(x[:6] @ x[query] >= x[n] @ x[query]).sum() for n in same]
        values.append(np.mean(hypergeom.cdf(4, 6, better, 6)))
    return float(np.mean(values))


def test_scans_of_the_same_patient_are_not_found():
    """Two scans of each patient are alike and the label is random: with the patient's own scans, retrieval would be perfect."""
    random = np.random.default_rng(3)
    vectors = np.repeat(random.normal(size=(30, 12)), 2, axis=0) + 0.01 * random.normal(size=(60, 12))
    labels, patients = np.repeat(random.choice(["a", "b"], 30), 2).tolist(), np.repeat(np.arange(30), 2).astype(str).tolist()
    apart = evaluate_scans(vectors, labels, patients).metrics["Recall@1"].value
    leaking = evaluate_scans(vectors, labels, [str(n) for n in range(60)]).metrics["mAP"].value
    assert apart < 0.3 < leaking
    # Where the patient is the label, the other scan is what is looked for.
    own = evaluate_scans(vectors, patients, patients, of_same_patient=True)
    assert own.metrics["Recall@1"].value == 1.0 and own.against == (58, 58)


def test_a_label_that_no_other_patient_has_cannot_be_measured():
    with pytest.raises(LibraryError, match="No scan has another one"):
        evaluate_scans(np.eye(3), ["a", "b", "c"], ["1", "2", "3"])


def lattice(patient, seed, noise=0.5, known=("liver", "spleen")):
    """Regions 10 mm apart: liver on one side, spleen on the other, with vectors of the kind and noise."""
    random = np.random.default_rng(seed)
    points = np.stack(np.meshgrid(*[np.arange(6) * 10.0] * 3, indexing="ij"), -1).reshape(-1, 3)
    structures = np.where(points[:, 0] > 35, "liver", np.where(points[:, 0] < 5, "spleen", ""))
    kinds = np.eye(8)[np.where(structures == "liver", 0, np.where(structures == "spleen", 1, 2))]
    vectors = kinds + noise * random.normal(size=(len(points), 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    structures = np.where(np.isin(structures, known), structures, "")
    return LabeledRegions(patient, points + seed, vectors.astype(np.float32), structures, frozenset(known))


def test_regions_of_a_structure_are_found_in_other_patients():
    found = evaluate_regions([lattice(f"p{n}", n, 0.15) for n in range(4)])
    across, chance = found.metrics["across"], found.chance["across"]
    assert across["liver"][1].value > 0.9 and across["mean"][10].value > 0.8
    assert chance["liver"] == pytest.approx(1 / 3, abs=0.01) and chance["spleen"] == pytest.approx(1 / 6, abs=0.01)
    assert found.queries == {"liver": 12, "spleen": 12}
    random = evaluate_regions([lattice(f"p{n}", n, 50.0) for n in range(4)], queries=20)
    assert random.metrics["across"]["liver"][10].value == pytest.approx(1 / 3, abs=0.08)


def test_the_room_in_a_structure_limits_its_precision():
    """The spleen is a plane of 50 x 50 mm with room for nine regions 20 mm apart, less what the query's neighborhood takes."""
    found = evaluate_regions([lattice(f"p{n}", n, 0.01) for n in range(2)])
    assert found.possible["across"]["spleen"] == {1: 1.0, 5: 1.0, 10: 0.9}
    within = found.possible["within"]["spleen"]
    assert within[5] == 1.0 and 0.5 <= within[10] < 0.9
    for kind in ("within", "across"):
        for structure, most in found.possible[kind].items():
            for k, value in most.items():
                assert found.metrics[kind][structure][k].value <= value + 1e-9, (kind, structure, k)


def test_charts_show_each_score_beside_chance(tmp_path):
    pytest.importorskip("matplotlib", reason="charts are drawn with matplotlib")
    random = np.random.default_rng(0)
    scans = evaluate_scans(random.normal(size=(20, 8)), ["a", "b"] * 10, [str(n) for n in range(20)])
    first, by_label = scan_charts(scans)
    assert [row.split("\n")[0] for row in first.rows] == ["Recall@1", "Recall@5", "Recall@10", "mAP"]
    assert first.series[-1].x.tolist() == list(scans.chance.values()) and len(by_label.rows) == 2
    regions = evaluate_regions([lattice(f"p{n}", n, 0.3) for n in range(3)])
    across, within = region_charts(regions)
    assert across.rows == ("mean", "liver", "spleen") and [each.kind for each in across.series[:2]] == ["interval"] * 2
    liver = regions.metrics["across, re-ranked"]["liver"][5]
    assert across.series[1].x[4:7].tolist() == [liver.low, liver.value, liver.high] and np.isnan(across.series[1].x[7])
    assert across.series[2].x[1] == regions.chance["across"]["liver"] and len(within.series) >= 2
    assert draw_charts(tmp_path / "chart.png", [first, by_label, across, within], "scores")
    assert (tmp_path / "chart.png").read_bytes()[:4] == b"\x89PNG"


def test_surroundings_mend_the_order():
    scans = [lattice(f"p{n}", n, 0.9) for n in range(4)]
    found = evaluate_regions(scans, queries=10)
    before, after = (found.metrics[kind]["mean"][10].value for kind in ("across", "across, re-ranked"))
    assert after > before + 0.05


def test_a_neighbor_counts_only_at_the_same_offset():
    """Of two regions with the same neighbors, one has them mirrored; it comes second."""
    points = np.array([[0.0, 0, 0], [20, 0, 0], [-20, 0, 0]])
    vectors = np.eye(3, dtype=np.float32)
    query = LabeledRegions("q", points, vectors, np.array(["a", "", ""]), frozenset({"a"}))
    mirrored = LabeledRegions("m", points, vectors[[0, 2, 1]], np.array(["a", "", ""]), frozenset({"a"}))
    same = LabeledRegions("s", points + 100, vectors, np.array(["a", "", ""]), frozenset({"a"}))
    assert rerank(query, 0, [(mirrored, 0), (same, 0)]).tolist() == [1, 0]


def test_the_own_patient_and_unlabeled_structures_are_not_searched():
    """Without the spleen among its labels, a scan may have one all the same, which would count as wrong."""
    scans = [lattice("p0", 0), lattice("p1", 1), lattice("p2", 2, known=("liver",))]
    found = evaluate_regions(scans, queries=2)
    assert found.queries == {"liver": 6, "spleen": 4}
    assert found.chance["across"]["spleen"] == pytest.approx(1 / 6, abs=0.01)
    with pytest.raises(LibraryError, match="two patients"):
        evaluate_regions([lattice("p0", 0), lattice("p0", 1)])


def test_intervals_are_over_patients():
    """Ten copies of a patient's queries do not make the interval narrower."""
    values, patients = np.array([0.0, 1.0, 0.5, 1.0]), ["a", "b", "c", "d"]
    once, tenfold = mean_over_patients(values, patients), mean_over_patients(np.repeat(values, 10), np.repeat(patients, 10))
    assert (once.low, once.value, once.high) == pytest.approx((tenfold.low, tenfold.value, tenfold.high))
    balanced = mean_over_patients(np.array([1.0, 1, 1, 0]), ["a", "b", "c", "d"], ["x", "x", "x", "y"])
    assert balanced.value == 0.5


@pytest.mark.slow
def test_the_command_measures_scans_and_regions(run, scans, tmp_path):  # noqa: F811
    pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")
    assert run("add", scans, "--encoder", "pooling")[0] == 0
    rows = ["scan,patient,label", *(f"scans/{name}.nrrd,{name},{'x' if name < 'c' else 'y'}" for name in BRIGHT)]
    rows.append("scans/gone.nrrd,d,x")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    status, out, err = run("evaluate", "--labels", tmp_path / "labels.csv", "-o", tmp_path / "scores.json")
    assert status == 0 and "Recall@1" in out and "not in the library" in err, err
    assert json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["queries"] == 2
    folder = tmp_path / "labeled"
    for name in BRIGHT:
        (folder / name).mkdir(parents=True)
        (folder / name / "ct.nrrd").symlink_to(scans / f"{name}.nrrd")
        grid = make_scan(name).grid
        k, j, i = np.indices(grid.shape)
        ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
        near = (np.linalg.norm(ras - spot(name), axis=1) < 14).reshape(grid.shape)
        cb.write_volume(cb.Volume(near.astype(np.uint8), grid), folder / name / "labels.nrrd")
        (folder / name / "labels.json").write_text('{"1": "bright spot"}')
    status, out, err = run("evaluate", "--labels", folder, "--chart", tmp_path / "chart.png")
    assert ("Written" in out) == (tmp_path / "chart.png").exists()
    assert status == 0 and "across, re-ranked:" in out and "bright spot" in out and "possible @10 " in out, err
    result = json.loads(run("evaluate", "--labels", folder, "--json")[1])
    assert (
        result["scans"] == 3 and result["metrics"]["across"]["bright spot"]["1"]["value"] > result["chance"]["across"]["mean"]
    )
    status, _, err = run("evaluate", "--labels", tmp_path / "gone.csv")
    assert status == 1 and "no file" in err
