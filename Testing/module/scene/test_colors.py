"""Structures and their segments have the colors that the command line gives to the same labels."""

from typing import Any

import pytest

from CoralBayLib.imaging.palette import label_color


def test_structures_and_segments_have_the_colors_of_their_labels(coralbay: Any, scan: Any) -> None:
    from CoralBaySlicerCore.scene import structures

    node, place = scan()
    made = [structures.add(node) for _ in range(10)]
    assert [each.color for each in made] == [pytest.approx(label_color(each.label)) for each in made]
    structures.remove(made[1])
    assert structures.of_volume(node)[1].color == pytest.approx(label_color(3))
    prompts = {"one": [place], "two": [place - [32, 0, 0]], "background": [place + [0, 22, 0]]}
    output = coralbay.logic.segment(node, prompts)
    (applied,) = coralbay.logic.applyProbe(coralbay.logic.probe, [node])
    for segmentation in (output, applied):
        inner = segmentation.GetSegmentation()
        assert [inner.GetNthSegment(n).GetName() for n in range(2)] == ["one", "two"]
        for number in range(2):
            assert inner.GetNthSegment(number).GetColor() == pytest.approx(label_color(number + 1))
