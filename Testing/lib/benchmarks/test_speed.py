"""The benchmark of speed: parts that stay, cases that run once, and tables of what they gave."""

from __future__ import annotations

import json
import sys

import pytest

from Testing.benchmarks import speed
from Testing.benchmarks.tables.sections import machine, put_part

ONE = {"seconds": 2.0, "cpu_seconds": 1.0, "peak_gb": 3.0, "machine": "A machine.", "others_ran": False}


@pytest.fixture
def cases(tmp_path):
    return speed.Cases(tmp_path / "results.jsonl", tmp_path)


def remember(cases, case: str, result: dict, **options) -> None:
    cases.known[f"{case} {json.dumps(options, sort_keys=True)}"] = result


def test_only_parts_that_are_asked_for_are_written(tmp_path, monkeypatch):
    file = tmp_path / speed.FILE
    put_part(file, speed.TITLE, "The whole sample", "kept")
    lines = [
        {"case": f'long_scan {{"encoder": "{name}"}}', "result": ONE | {"others_ran": name == "faithful"}}
        for name in ("coralbay-mini", "faithful")
    ]
    (tmp_path / "results.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setattr(sys, "argv", ["speed", "--parts", "long", "--output", str(tmp_path), "--tables", str(tmp_path)])
    speed.main()
    kept, _, written = file.read_text(encoding="utf-8").partition("## A long scan\n\n")
    assert kept == "# Speed and memory\n\n## The whole sample\n\nkept\n\n"
    assert written.startswith("A machine. Other programs ran at the same time, so compare processor times.\n\n| 512x512x800")
    assert "| CoralBay-mini | 2 | 1 | 3.0 |" in written


def test_a_part_stays_when_one_of_its_cases_fails(tmp_path, monkeypatch, capsys):
    file = tmp_path / speed.FILE
    put_part(file, speed.TITLE, "One window", "kept")
    monkeypatch.setattr(sys, "argv", ["speed", "--parts", "window", "--output", str(tmp_path), "--tables", str(tmp_path)])
    monkeypatch.setattr(speed.sys, "executable", "false")
    speed.main()
    assert "kept" in file.read_text(encoding="utf-8")
    assert "One window is not changed" in capsys.readouterr().err


def test_times_are_compared_by_the_processor(cases):
    for name in speed.TITLES:
        more = {"cpu_seconds": 345.0 if name == "monai" else 1.0, "size": "4x4x4", "dice": 0.5}
        remember(cases, "whole_sample", ONE | more, encoder=name)
    assert f"| {speed.TITLES['whole']} | 2.0 | 1.0 | 345 | 3.0 | 0.5000 |" in speed.whole_sample(cases)


def test_what_storing_costs_is_told_beside_the_raw_ct(cases):
    dice = {"dice_single": 0.8, "dice_half": 0.79, "dice_stored": 0.78}
    found = ONE | dice | {"raw_mb": 40.0, "half_mb": 60.0, "stored_mb": 10.0, "reading": {"seconds": 0.4, "cpu_seconds": 0.3}}
    for encoder in ("coralbay-mini", "astra", "whole"):
        remember(cases, "store", found, encoder=encoder)
    assert "| astra | 60 | 10.0 | 0.25 | 0.40 (0.30) | 0.8000 | 0.7900 | 0.7800 |" in speed.stored(cases)


def test_growth_draws_its_plots(cases, tmp_path):
    for encoder, spacing_mm in (("whole", 1.5), ("faithful", 1.5), ("coralbay-mini", 3.0)):
        for side in speed.SIDES:
            remember(cases, "growth", ONE, encoder=encoder, side=side, spacing_mm=spacing_mm)
    for points, structures in [(n, 1) for n in speed.POINTS] + [(100, n) for n in speed.STRUCTURES]:
        remember(cases, "interaction_growth", ONE | {"fit": ONE, "draw": ONE}, points=points, structures=structures)
    assert "| 96^3 | 1.0 / 3.0 | 1.0 / 3.0 | 1.0 / 3.0 |" in speed.growth(cases)
    assert (tmp_path / speed.PICTURE).stat().st_size > 1000


def test_a_measurement_says_what_it_ran_on():
    assert "3 threads" in machine(3)
    assert "torch" in machine(3)
