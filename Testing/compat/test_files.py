"""Prompts and segmentations in files that people and Slicer keep."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import CoralBayLib as cb

from .results import DATA, NAMES, ct


@pytest.mark.parametrize("name", ["probe", "mini_probe"])
def test_prompts_are_read_as_they_were_written(name: str, old: Path, texts: dict[str, Any]) -> None:
    prompts = cb.read_prompts(old / f"{name}_prompts.json")
    assert prompts.points_ras.tolist() == texts[name]["points"]
    assert prompts.labels.tolist() == texts[name]["told"]
    assert prompts.names == NAMES


def test_prompts_are_written_as_they_were(old: Path, tmp_path: Path) -> None:
    cb.read_prompts(old / "probe_prompts.json").save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text(encoding="utf-8") == (DATA / "probe_prompts.json").read_text(encoding="utf-8")


def test_markups_of_the_module_are_prompts(old: Path) -> None:
    scene = json.loads((DATA / "scene.json").read_text(encoding="utf-8"))
    prompts = cb.read_prompts(*(old / f"structure_{label}.mrk.json" for label in (1, 2, 0)))
    structures = {label: (name, np.array(points)) for label, name, _, points in scene["structures"]}
    assert prompts.names == {label: structures[label][0] for label in (1, 2)}
    for label, (_, points) in structures.items():
        assert np.allclose(prompts.points_ras[prompts.labels == label], points, atol=1e-6)


def test_a_segmentation_is_read_as_it_was_written(old: Path, texts: dict[str, Any], arrays: Any) -> None:
    labelmap, segments = cb.read_segmentation(old / "segmentation.seg.nrrd")
    found = json.loads(json.dumps([asdict(segment) for segment in segments]))
    assert found == texts["segments"]
    assert np.array_equal(labelmap.array, arrays["probe/here"])
    assert labelmap.grid.same_as(ct("a").grid)
    assert np.array_equal(cb.read_labelmap(old / "segmentation.seg.nrrd").array, arrays["probe/here"])
