"""Structures in the scene and their names."""

from typing import Any

import numpy as np


def test_two_structures_of_one_name_are_kept_apart(coralbay: Any, make_volume: Any) -> None:
    from CoralBaySlicerCore.scene import structures

    volume = make_volume()
    first, second = structures.add(volume, "lesion"), structures.add(volume, "Lesion")
    assert [first.name, second.name] == ["lesion", "Lesion (2)"]
    second.node.SetName("lesion")
    for structure in (first, second):
        structures.add_point(structure, [0, 0, 0])
    _points, labels, names = structures.points_in(volume, structures.of_volume(volume))
    assert labels.tolist() == [1, 2]
    assert names == {1: "lesion", 2: "lesion (2)"}


def test_segments_find_their_structure_in_any_unicode_form(coralbay: Any, make_volume: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import segments

    volume = make_volume()
    painted = segments.new(volume, "painted")
    for name in ("La\u0308sion", "background_1", "other"):
        segment_id = painted.GetSegmentation().AddEmptySegment("", name)
        mask = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
        mask[20, 20, 20] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, painted, segment_id, volume)
    points, labels = segments.prompts(painted, {1: "L\u00e4sion"}, volume)
    assert len(points) == 2
    assert labels.tolist() == [1, 0]
    assert segments.new_names(painted, ["L\u00e4sion"]) == ["other"]
