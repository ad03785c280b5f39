"""What a pretraining taught: the rows, the table and the picture of the curves."""

from __future__ import annotations

import pytest

from CoralBayLib.pretraining.settings import Settings
from Testing.benchmarks import pretraining
from Testing.benchmarks.tables.pretraining import draw_curves, write_tables


def line(row: str, asked: str, searched: str, scores: list[float]) -> dict:
    names = {"version": 1, "row": row, "asked": asked, "searched": searched, "seeds": len(scores)}
    return names | {"regions": {"liver": "all"}, "scores": {"liver": {"room": scores, "top": [0.1] * len(scores)}}}


def test_the_table_shows_each_seed_and_the_difference_from_the_start():
    lines = [line("random", "a", "b", [0.1, 0.3]), line("random", "b", "a", [0.1, 0.3])]
    lines += [line("mine", "a", "b", [0.4, 0.6]), line("mine", "b", "a", [0.6, 0.8])]
    text = write_tables(lines, {"mine": "random"})
    assert "| random | 0.200 (0.20 to 0.20) | 0.100, 0.300 | - |" in text
    assert "| mine | 0.600 (0.60 to 0.60) | 0.500, 0.700 | +0.400 (+0.40 to +0.40) |" in text
    assert "a and b" in text


def test_each_file_stands_beside_its_own_start(tmp_path, monkeypatch):
    settings = Settings(init="random", feature_size=12, steps=9)
    known = {"settings": settings.as_dict(), "steps_done": 7}
    monkeypatch.setattr(pretraining, "described", lambda path: known)
    loads, starts = pretraining.rows([tmp_path / "mine.safetensors"])
    assert starts == {"mine, 7 of 9 steps": "random, 12 wide, seed 0"}
    assert list(loads) == ["random, 12 wide, seed 0", "mine, 7 of 9 steps"]
    pytest.importorskip("monai")
    first, second = (loads["random, 12 wide, seed 0"]().network.state_dict() for _ in range(2))
    assert all((first[key] == second[key]).all() for key in first)


def test_curves_are_drawn(tmp_path):
    curves = tmp_path / "curves.csv"
    curves.write_text("step,loss,entropy,spread,used\n1,6.9,0.8,0.9,700\n2,6.8,0.9,0.8,800\n")
    draw_curves(curves, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
