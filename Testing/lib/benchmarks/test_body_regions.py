"""Retrieval per region of the body: pairs, what counts as right, and the tables."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from CoralBayLib.imaging.grid import Grid, Volume
from Testing.benchmarks import body_regions
from Testing.benchmarks.baselines import position_only
from Testing.benchmarks.body_regions import HEAD, Pair, Patient, measure, pairs_of, region_of_trunk, write_tables
from Testing.benchmarks.encoders import Labelled, kind
from Testing.benchmarks.tables.body_regions import FIRST, UNTRAINED, interval, title_of
from Testing.benchmarks.tables.encoders import TOP
from Testing.lib.conftest import phantom

SPACING_MM = 4.0


def patient(name: str, names: dict[int, str], shift: int = 0, width: int = 6) -> Patient:
    """A body in which a cube of 48 mm has label 1, and one of `width` voxels of 4 mm label 2."""
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[10:22, 8 + shift : 20 + shift, 8:20] = 1
    labels[26 : 26 + width, 22 : 22 + width, 24 : 24 + width] = 2
    matrix = np.diag([SPACING_MM] * 3 + [1.0])
    matrix[:3, 3] = -SPACING_MM * 19.5
    grid = Grid(labels.shape, matrix)
    return Patient(Labelled(name, phantom(grid, radius_mm=75.0), Volume(labels, grid), names))


@pytest.fixture
def two() -> list[Patient]:
    names = {1: "liver", 2: "LeftParotid"}
    return [patient("one", names), patient("other", {**names, 2: "RightParotid"}, shift=1)]


def features_of(patients: list[Patient], noise: float):
    """Features that say which structure a voxel is in, for all patients in the same way."""

    def made(volume: Volume):
        scan = next(each.scan for each in patients if each.scan.volume is volume)
        pyramid = position_only(volume)
        labels = scan.reference.nearest_values(pyramid.grid.to_ras(np.argwhere(np.ones(pyramid.grid.shape))[:, ::-1]))
        told = np.stack([labels == label for label in range(3)]).astype(np.float32).reshape(3, *pyramid.grid.shape)
        told += noise * np.random.default_rng(0).standard_normal(told.shape).astype(np.float32)
        level = replace(pyramid.levels[0], features=torch.from_numpy(told).half())
        return replace(pyramid, levels=(level,))

    return made


def test_a_structure_has_room_for_so_many_regions(two):
    assert two[0].room("liver") == TOP
    # Along each side of a cube of 24 mm (six voxels) two regions that are 10 mm apart have room, and more when staggered.
    assert 8 <= two[0].room("parotid") < TOP
    assert patient("small", {1: "liver", 2: "cord"}, width=2).room("cord") == 1


def test_features_that_know_the_structures_find_all_of_them(two):
    lines = list(measure("knows", features_of(two, 0.01), pairs_of(two, lambda wanted: HEAD, 5), seeds=2))
    assert [(line["asked"], line["searched"]) for line in lines] == [("one", "other"), ("other", "one")]
    for line in lines:
        assert min(line["scores"]["parotid"]["room"]) > 0.9  # peaks need not be packed as tightly as they could be
        assert all(two[0].room("parotid") / TOP <= score < 1 for score in line["scores"]["parotid"]["top"])
        assert line["scores"]["liver"]["top"] == [1.0, 1.0]
        assert line["regions"] == {"liver": HEAD, "parotid": HEAD}
    assert list(measure("knows", features_of(two, 0.01), pairs_of(two, lambda wanted: HEAD, 5), 2, lines)) == []
    blind = list(measure("blind", features_of(two, 100.0), pairs_of(two, lambda wanted: HEAD, 5), seeds=2))
    assert np.mean(blind[0]["scores"]["parotid"]["room"]) < 0.5


def test_pairs_share_no_patient_as_long_as_there_are_enough():
    names = {1: "liver", 2: "LeftParotid"}
    patients = [patient(str(n), names) for n in range(4)] + [patient("4", {1: "heart"})]
    pairs = [(pair.one.scan.name, pair.other.scan.name) for pair in pairs_of(patients, region_of_trunk, 3)]
    assert pairs == [("0", "1"), ("2", "3"), ("0", "2")]
    every = pairs_of(patients, region_of_trunk, 100)
    assert len(every) == 6 and all(
        isinstance(pair, Pair) and "4" not in (pair.one.scan.name, pair.other.scan.name) for pair in every
    )


def test_regions_of_the_body_and_sides():
    assert [region_of_trunk(name) for name in ("liver", "heart", "aorta")] == ["abdomen", "chest", "chest"]
    assert kind("LeftParotid") == kind("RightParotid") == "parotid"


def line(row: str, asked: str, searched: str, value: float) -> dict:
    scores = {name: {"top": [value / 2], "room": [value + more]} for name, more in (("liver", 0.0), ("colon", 0.1))}
    names = {"version": 1, "row": row, "asked": asked, "searched": searched, "seeds": 1}
    return names | {"regions": dict.fromkeys(scores, "abdomen"), "scores": scores}


def test_tables_compare_what_all_rows_have():
    lines = [line(FIRST, "a", "b", 0.4), line(FIRST, "b", "a", 0.6), line(FIRST, "a", "c", 0.9)]
    lines += [line(UNTRAINED, "a", "b", 0.2), line(UNTRAINED, "b", "a", 0.2)]
    text = write_tables(lines)
    assert "| features | abdomen: 1 pair, 2 kinds |" in text
    assert f"| {FIRST} | 0.550 (0.50 to 0.60) |" in text
    assert f"| {UNTRAINED} | -0.300 (-0.30 to -0.30) |" in text
    assert "| abdomen | colon | 0.600 | 0.300 |" in text
    assert "c" not in text.partition("Pairs: ")[2].partition("\n")[0].replace("abdomen", "").replace("and", "")


def test_an_interval_counts_pairs_of_patients_and_not_only_values():
    values = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    apart = [("r", (str(n), "x"), "k") for n in range(6)]
    two_pairs = [("r", (str(n // 3), "x"), str(n)) for n in range(6)]
    assert interval(values, two_pairs) == (0.0, 1.0)
    low, high = interval(values, apart)
    assert 0.0 < low < 0.5 < high < 1.0


def test_a_weights_file_has_its_own_row(tmp_path):
    other = tmp_path / "second.safetensors"
    other.write_bytes(b"weights")
    assert title_of(other) == "second"
    assert list(body_regions.rows([body_regions.WEIGHTS.path, other], None))[:2] == [FIRST, "second"]


def test_the_command_continues_and_writes_its_section(two, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(body_regions, "read_patient", lambda folder: two[int(folder.name)])
    monkeypatch.setattr(body_regions, "rows", lambda weights, store: {"knows": lambda: features_of(two, 0.01)})
    results = tmp_path / "lines.jsonl"
    words = ["body_regions", "--no-sample", "--heads", "0", "1", "--seeds", "1", "--results", str(results)]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", [*words, "--tables", str(tmp_path)])
        body_regions.main()
        assert len(list(map(json.loads, results.read_text().splitlines()))) == 2
    assert "| head and neck | liver | 1.000 |" in capsys.readouterr().out
    assert "head and neck: 1 pair, 2 kinds" in (tmp_path / body_regions.FILE).read_text()
