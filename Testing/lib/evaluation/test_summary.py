"""Means and intervals of results with known values, and what is made of them."""

import json

import numpy as np
import pytest

from CoralBayLib.core.notice import NOTICE
from CoralBayLib.evaluation.agreement import Agreement
from CoralBayLib.evaluation.report import draw_curves, markdown, write_report
from CoralBayLib.evaluation.results import Result
from CoralBayLib.evaluation.summary import MEAN, summarize


def result(encoder, shots, draw, patient, **dice):
    scores = {
        name: Agreement(value, *((None, None) if value == 0 else (2.0, 6.0)), found=value != 0, present=True)
        for name, value in dice.items()
    }
    return Result(f"{encoder}{shots}{draw}{patient}", encoder, shots, draw, ("t",), patient, scores, 0.1)


def test_means_over_patients_draws_and_structures():
    results = [
        result("mini", 1, 1, "a", liver=0.2, spleen=0.0),
        result("mini", 1, 1, "b", liver=0.4),  # the spleen was not looked for
        result("mini", 1, 2, "a", liver=0.6, spleen=0.8),
        result("mini", 1, 2, "b", liver=0.8),
        result("mini", 5, 1, "a", liver=0.9),
    ]
    rows = {(row.shots, row.structure): row for row in summarize(results, ["liver", "spleen", "heart"])}
    assert list(rows) == [(1, "liver"), (1, "spleen"), (1, MEAN), (5, "liver"), (5, MEAN)]
    liver, spleen, mean = (rows[1, name] for name in ("liver", "spleen", MEAN))
    assert liver.dice.value == pytest.approx(0.5)
    assert spleen.dice.value == pytest.approx(0.4)
    # Each structure weighs the same, although the liver was tested twice as often.
    assert mean.dice.value == pytest.approx(0.45)
    assert (liver.draws, liver.patients, liver.tests, liver.missed) == (2, 2, 4, 0)
    assert (spleen.patients, spleen.tests, spleen.missed) == (1, 2, 1)
    assert (mean.patients, mean.tests, mean.missed) == (2, 6, 1)
    assert spleen.mean_mm.value == pytest.approx(2.0)  # where it was found
    assert rows[5, "liver"].dice.low == rows[5, "liver"].dice.high == pytest.approx(0.9)


def test_intervals_hold_the_mean_in_as_many_cases_as_they_say():
    """Values with an effect of the draw and one of the patient; the interval over both holds the true mean most times."""
    random, held = np.random.default_rng(0), 0
    for trial in range(40):
        draws, patients = random.normal(0, 0.05, 12), random.normal(0, 0.05, 15)
        results = [
            result("mini", 1, d, f"p{p}", liver=0.5 + draws[d] + patients[p] + random.normal(0, 0.02))
            for d in range(12)
            for p in range(15)
        ]
        (liver, _) = summarize(results, ["liver"], seed=trial)
        held += liver.dice.low <= 0.5 <= liver.dice.high
        # An interval over the single results would take them for independent, and be far too short.
        assert liver.dice.high - liver.dice.low > 0.03
    assert held >= 33


def test_nothing_scored_gives_no_rows():
    assert summarize([Result("k", "mini", 1, 1, ("t",), "a", {}, 0.1)], ["liver"]) == []


RESULTS = [
    result(encoder, shots, draw, patient, liver=0.1 * shots + 0.05 * draw, **{"bile | duct": 0.0})
    for encoder in ("mini", "astra")
    for shots in (1, 2, 5)
    for draw in (1, 2)
    for patient in ("a", "b")
]


def test_the_table_is_markdown():
    text = markdown(summarize(RESULTS, ["liver", "bile | duct"]))
    assert "### mini" in text and "### astra" in text and NOTICE in text
    lines = [line for line in text.splitlines() if line.startswith("| liver")]
    assert "0.18 [0.15, 0.20]" in lines[0] and "2.0 / 6.0 (0 %)" in lines[1]
    missed = [line for line in text.splitlines() if line.startswith("| bile \\| duct")]
    assert "- (100 %)" in missed[1]
    assert len({line.count(" | ") for line in text.splitlines() if line.startswith("| l") or line.startswith("| s")}) == 1
    assert "1: 2 draws, 2 patients" in text


def test_the_report_holds_every_patient(tmp_path):
    rows = summarize(RESULTS, ["liver", "bile | duct"])
    write_report(tmp_path / "evaluation.json", rows, RESULTS, seed=3)
    read = json.loads((tmp_path / "evaluation.json").read_text())
    assert read["notice"] == NOTICE and read["seed"] == 3
    assert len(read["results"]) == len(RESULTS) and read["results"][0]["scores"]["liver"]["p95_mm"] == 6.0
    assert [Result.from_dict(each) for each in read["results"]] == RESULTS
    assert read["summary"][0]["dice"]["value"] == pytest.approx(0.175)


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    rows = summarize(RESULTS, ["liver", "bile | duct"])
    assert draw_curves(tmp_path / "evaluation.png", rows, "title")
    assert (tmp_path / "evaluation.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_nothing_is_drawn(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not draw_curves(tmp_path / "evaluation.png", summarize(RESULTS, ["liver"]), "title")
    assert not any(tmp_path.iterdir())
