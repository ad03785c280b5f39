"""`coralbay scans` on small scans."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture
def study(make_grid, make_phantom, pooling, tmp_path, monkeypatch):
    monkeypatch.setattr("CoralBayLib.encoders.load_encoder", lambda name, weights=None, **_: pooling())
    ball = [([12, -30, 45], 10.0, 600.0)]
    rows = ["scan,patient,finding,size,event,time"]
    for n in range(12):
        cb.write_volume(make_phantom(make_grid(), ball if n % 2 else [], seed=n), tmp_path / f"{n}.nrrd")
        rows.append(f"{n}.nrrd,P{n // 2 if n < 4 else n},{'ball' if n % 2 else 'none'},{n % 2 * 10 + 5},{n % 2},{20 - n}")
    rows.append("missing.nrrd,P99,ball,1,1,1")
    (tmp_path / "study.csv").write_text("\n".join(rows))
    return tmp_path


def run(capsys, *words):
    status = main([*map(str, words), "--encoder", "pooling"])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_fit_then_predict_and_map(capsys, study):
    out = study / "out"
    status, printed, err = run(
        capsys, "scans", "fit", study / "study.csv", "--target", "finding", "--task", "classification", "--shots", 2, "-o", out
    )
    assert status == 0, err
    assert "12 scans of 10 patients" in printed and "AUROC" in printed and "research use only" in printed
    assert "AUROC from 2 examples of 'ball'" in printed
    assert "missing.nrrd" in err
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["figures"]["AUROC"]["value"] > 0.8 and len(report["left_out"]) == 1
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert report["task"] == "classify"
    assert len(rows) == 12 and float(rows[1]["probability of ball"]) > 0.5
    folds = {}
    for row in rows:
        folds.setdefault(row["patient"], set()).add(row["fold"])
    assert all(len(folds_of_patient) == 1 for folds_of_patient in folds.values())
    assert (out / "evaluation.png").stat().st_size > 5000

    status, printed, err = run(
        capsys, "scans", "predict", out / "probe.safetensors", study / "3.nrrd", "--map", study / "map.nrrd"
    )
    assert status == 0, err
    assert f"{study / '3.nrrd'}: ball" in printed
    assert np.ptp(cb.read_volume(study / "map.nrrd").array) > 0


def test_probes_are_compared_and_an_attentive_one_shows_where_it_looks(capsys, study, monkeypatch):
    monkeypatch.setattr("CoralBayLib.scan_probes.probes.attention.MAX_STEPS", 20)
    monkeypatch.setattr("CoralBayLib.scan_probes.metrics.RESAMPLES", 10)
    out = study / "out"
    words = ("--target", "finding", "--task", "classification", "--folds", 2, "--probe", "attentive", "--compare", "-o", out)
    status, printed, err = run(capsys, "scans", "fit", study / "study.csv", *words)
    assert status == 0, err
    lines = [line.split()[0] for line in printed.splitlines() if line.startswith("  ")]
    assert lines == ["probe", "attentive", "linear", "nearest", "chance"]
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["probe"] == "attentive" and report["comparison"]["chance"]["AUROC"]["value"] == 0.5
    assert report["figures"] == report["comparison"]["attentive"]
    with (out / "comparison.csv").open(newline="") as file:
        assert {row["probe"] for row in csv.DictReader(file)} == {"attentive", "linear", "nearest", "chance"}

    words = ("--map", study / "map.nrrd", "--attention", study / "attention.nrrd")
    status, printed, err = run(capsys, "scans", "predict", out / "probe.safetensors", study / "3.nrrd", *words)
    assert status == 0 and f"{study / '3.nrrd'}: ball" in printed, err
    weights = cb.read_volume(study / "attention.nrrd").array
    assert weights.min() >= -1e-6 and weights.max() > 0 and np.ptp(cb.read_volume(study / "map.nrrd").array) > 0


def test_a_multi_label_table_gets_a_probe_for_each_column(capsys, study, monkeypatch):
    """A scan whose cell is empty is left out for that column only."""
    monkeypatch.setattr("CoralBayLib.scan_probes.metrics.RESAMPLES", 10)
    monkeypatch.setattr("CoralBayLib.scan_probes.multi_label.RESAMPLES", 10)
    rows = (study / "study.csv").read_text().splitlines()[:13]
    lines = [f"{rows[0]},odd/even,early"]
    lines += [f"{row},{n % 2},{'' if n == 3 else int(n < 6)}" for n, row in enumerate(rows[1:])]
    (study / "labels.csv").write_text("\n".join(lines))
    words = ("--target", "odd/even", "early", "--task", "classification", "--folds", 2, "-o", study / "out")
    status, printed, err = run(capsys, "scans", "fit", study / "labels.csv", *words)
    assert status == 0 and "Mean over 2 targets" in printed, err
    assert "odd/even: 12 scans" in printed and "early: 11 scans" in printed
    for folder in ("odd-even", "early"):
        assert (study / "out" / folder / "probe.safetensors").exists()
    with (study / "out" / "comparison.csv").open(newline="") as file:
        assert {row["target"] for row in csv.DictReader(file)} == {"odd/even", "early", "mean of all"}
    status, _, err = run(capsys, "scans", "fit", study / "labels.csv", "--target", "size", "time", "--task", "regression")
    assert status == 1 and "Several target columns are for classification" in err


def test_a_linear_probe_has_no_attention(capsys, study):
    words = ("--target", "finding", "--task", "classification", "--folds", 2, "-o", study / "out")
    assert run(capsys, "scans", "fit", study / "study.csv", *words)[0] == 0
    words = (study / "out" / "probe.safetensors", study / "3.nrrd", "--attention", study / "attention.nrrd")
    status, _, err = run(capsys, "scans", "predict", *words)
    assert status == 1 and "--attention is for an attentive probe" in err


def test_scans_that_do_not_look_like_hu_are_used_on_request(capsys, study):
    for n in range(12):
        volume = cb.read_volume(study / f"{n}.nrrd")
        cb.write_volume(cb.Volume(volume.array + 1024, volume.grid), study / f"{n}.nrrd")
    words = ("scans", "fit", study / "study.csv", "--target", "finding", "--task", "classification", "-o", study / "out")
    status, _, err = run(capsys, *words)
    assert status == 1 and "None of the scans" in err
    status, printed, err = run(capsys, *words, "--assume-hu")
    assert status == 0 and "12 scans" in printed, err
    words = ("scans", "predict", study / "out" / "probe.safetensors", study / "3.nrrd")
    assert run(capsys, *words)[0] == 1
    assert run(capsys, *words, "--assume-hu")[0] == 0


def test_regression_and_survival(capsys, study):
    # The name of the task in version 0.1.0 works as well.
    status, printed, err = run(
        capsys, "scans", "fit", study / "study.csv", "--target", "size", "--task", "regress", "-o", study / "number"
    )
    assert status == 0 and "MAE" in printed, err
    pytest.importorskip("lifelines")
    words = ("--target", "event", "--task", "survival", "--folds", 3, "-o", study / "risk")
    status, printed, err = run(capsys, "scans", "fit", study / "study.csv", *words)
    assert status == 0 and "concordance" in printed, err
    assert (study / "risk" / "evaluation.png").exists()


def test_stability_prints_cosines(capsys, study):
    status, printed, err = run(capsys, "scans", "stability", study / "1.nrrd")
    assert status == 0 and "noise of 20 HU" in printed and "shift of 5 mm" in printed, err


def test_errors(capsys, study):
    status, _, err = run(capsys, "scans", "fit", study / "study.csv", "--target", "nothing", "--task", "classification")
    assert status == 1 and "no column nothing" in err
    status, _, err = run(capsys, "scans", "predict", study / "study.csv", study / "1.nrrd")
    assert status == 1 and "not of the kind 'scan probe'" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--target", "finding", "--task", "classification", "--shots", 30),
            "30 examples of each kind need more than 30 patients",
        ),
        (("--target", "finding", "--task", "classification", "--shots", 2, "--positive", "cube"), "there are 0 and"),
        (("--target", "size", "--task", "regression", "--shots", 2), "needs a classification task, not regression"),
        (("--target", "finding", "--task", "classification", "-o", "study.csv"), "study.csv cannot be made: File exists"),
    ],
)
def test_invalid_requests_are_refused_before_anything_is_embedded(capsys, study, monkeypatch, words, message):
    monkeypatch.chdir(study)
    monkeypatch.setattr("CoralBayLib.scan_probes.embed_scans", lambda *_, **__: pytest.fail("embedded"))
    status, _, err = run(capsys, "scans", "fit", "study.csv", *words)
    assert status == 1 and message in err


def test_one_fold_is_refused(capsys, study):
    words = ("--target", "finding", "--task", "classification", "--folds", 1, "-o", study / "out")
    status, _, err = run(capsys, "scans", "fit", study / "study.csv", *words)
    assert status == 1 and "at least 2 folds" in err


def test_scans_that_cannot_be_embedded_do_not_end_a_run_of_few_examples_or_several_columns(capsys, study, monkeypatch):
    monkeypatch.setattr("CoralBayLib.scan_probes.metrics.RESAMPLES", 10)
    monkeypatch.setattr("CoralBayLib.scan_probes.multi_label.RESAMPLES", 10)
    lines = (study / "study.csv").read_text().splitlines()[:13]
    lines = [f"{lines[0]},first"] + [f"{line},{int(n < 2)}" for n, line in enumerate(lines[1:])]
    lines[1:3] = [line.replace("P0", f"P{n + 50}") for n, line in enumerate(lines[1:3])]
    (study / "study.csv").write_text("\n".join(lines))
    for name in ("0.nrrd", "4.nrrd"):
        (study / name).unlink()
    words = (study / "study.csv", "--task", "classification", "--folds", 2, "-o", study / "out")
    status, printed, err = run(capsys, "scans", "fit", *words, "--target", "finding", "--shots", "1,4")
    assert status == 0 and "from 1 examples" in printed and "from 4 examples" not in printed, err
    assert "Left out: 4 examples of each kind need more than 4 patients" in err
    status, printed, err = run(capsys, "scans", "fit", *words, "--target", "finding", "first")
    assert status == 0 and "Left out: column 'first': Too few patients" in err
    assert (study / "out" / "finding" / "probe.safetensors").exists() and not (study / "out" / "first" / "report.json").exists()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("y", "Y"), "'y' is given twice"),
        (("y", "mean of all"), "Rename it"),
        (("y", "same"), "Column 'same': Too few patients"),
    ],
)
def test_columns_that_spoil_a_multi_label_table_are_named(capsys, tmp_path, targets, message):
    rows = "\n".join(f"{n}.nrrd,P{n},{n % 2},{n % 2},1" for n in range(8))
    (tmp_path / "t.csv").write_text(f"scan,patient,y,mean of all,same\n{rows}")
    words = ("--task", "classification", "-o", tmp_path / "out", "--target", *targets)
    status, _, err = run(capsys, "scans", "fit", tmp_path / "t.csv", *words)
    assert status == 1 and message in err
