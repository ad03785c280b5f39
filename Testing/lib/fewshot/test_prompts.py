"""Prompts: validation, merging and names."""

import numpy as np
import pytest

from CoralBayLib.core.errors import PromptError
from CoralBayLib.fewshot.prompts import Prompts
from CoralBayLib.imaging.grid import Grid, Volume

GRID = Grid((10, 20, 30), np.array([[-1.0, 0, 0, 100], [0, 2, 0, -50], [0, 0, 5, 10], [0, 0, 0, 1]]))


def prompts(labels, names=None):
    return Prompts(GRID.to_ras(np.arange(len(labels))[:, None] * [1, 1, 1]), labels, names)


def same(one, other):
    np.testing.assert_array_equal(one.points_ras, other.points_ras)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.names == other.names
    return True


def test_types_and_structures():
    made = prompts([2, 0, 5, 2], {2: "liver"})
    assert made.points_ras.dtype == np.float64
    assert made.labels.dtype == np.int64
    assert made.structures == [2, 5]
    assert [made.name(n) for n in (0, 2, 5)] == ["background", "liver", "Structure 5"]
    assert len(made) == 4
    made.require_usable(GRID)


def test_arrays_are_copied():
    points = np.zeros((1, 3))
    made = Prompts(points, [1])
    points[:] = 9
    assert made.points_ras[0, 0] == 0


@pytest.mark.parametrize(
    ("points", "labels", "names", "match"),
    [
        ([[1, 2]], [1], {}, "shape"),
        ([1, 2, 3], [1], {}, "shape"),
        ([[1, 2, "x"]], [1], {}, "mm"),
        ([[1, 2, 3], [1, np.nan, 3]], [1, 0], {}, "1 of 2 points have a NaN .* number 1"),
        ([[1, 2, np.inf]], [1], {}, "infinite"),
        ([[1, 2, 3]], [-1], {}, "from -1"),
        ([[1, 2, 3]], [0.5], {}, "whole"),
        ([[1, 2, 3]], ["1"], {}, "whole"),
        ([[1, 2, 3]], [[1]], {}, "shape"),
        ([[1, 2, 3]], [1, 2], {}, "1 points and 2 labels"),
        ([[1, 2, 3]], [1], {0: "air"}, "background"),
        ([[1, 2, 3]], [1], {1: " "}, "name"),
    ],
)
def test_refused(points, labels, names, match):
    with pytest.raises(PromptError, match=match):
        Prompts(points, labels, names)


def test_unusable_prompts_raise_with_advice():
    for match, made in {
        "no prompts": prompts([]),
        "on the structure": prompts([0, 0]),
    }.items():
        with pytest.raises(PromptError, match=match):
            made.require_usable(GRID)
    prompts([1, 2]).require_usable(GRID)
    prompts([3, 3]).require_usable(GRID)


def test_prompts_outside_are_named():
    far = Prompts([[90, -40, 20], [500.04, 0, 0], [90, -40, 999]], [1, 0, 1])
    with pytest.raises(PromptError) as caught:
        far.require_usable(GRID)
    assert "2 of 3 prompts" in str(caught.value)
    assert "(500.0, 0.0, 0.0)" in str(caught.value)
    assert "from (70.5, -51.0, 7.5) to (100.5, -11.0, 57.5)" in str(caught.value)
    inside = far.inside(GRID)
    assert inside.points_ras.tolist() == [[90, -40, 20]]
    assert far.inside(GRID).labels.tolist() == [1]


def test_thinning_keeps_lone_clicks():
    stroke = np.column_stack([np.linspace(0, 60, 300), np.zeros(300), np.zeros(300)])
    click = np.array([[0.0, 50, 0]])
    made = Prompts(np.concatenate([stroke, click, stroke + [0, 0, 90]]), [1] * 301 + [0] * 300, {1: "liver"})
    few = made.thinned(12, cell_mm=2.0)
    assert few.names == {1: "liver"}
    assert (few.labels == 1).sum() <= 12
    assert 4 <= (few.labels == 0).sum() <= 12
    assert click[0].tolist() in few.points_ras.tolist()
    rows = [made.points_ras.tolist().index(p) for p in few.points_ras.tolist()]
    assert rows == sorted(set(rows))
    along = np.sort(few.points_ras[(few.labels == 1) & (few.points_ras[:, 1] == 0), 0])
    assert np.diff(along).max() < 15  # evenly over the stroke
    assert same(few, made.thinned(12, cell_mm=2.0))


def test_thinning_leaves_few_points_alone():
    made = Prompts([[0, 0, 0], [10, 0, 0], [20, 0, 0]], [1, 1, 0])
    assert same(made.thinned(99), made)
    doubled = Prompts([[0.5, 0.5, 0.5], [0.7, 0.5, 0.5]], [1, 1])
    assert doubled.thinned(9).points_ras.tolist() == [[0.7, 0.5, 0.5]]  # the latest word on a place
    with pytest.raises(PromptError, match="max_per_label"):
        made.thinned(0)


@pytest.mark.parametrize(
    ("one", "other", "labels", "names"),
    [
        (({1: "liver"}), ({1: "Liver"}), [0, 1, 2, 0, 1, 2], {1: "liver"}),
        (({1: "liver"}), ({2: "liver", 1: "spleen"}), [0, 1, 2, 0, 3, 1], {1: "liver", 3: "spleen"}),
        (({1: "liver", 2: "spleen"}), ({1: "spleen", 2: "liver"}), [0, 1, 2, 0, 2, 1], {1: "liver", 2: "spleen"}),
        (({}), ({1: "liver"}), [0, 1, 2, 0, 1, 2], {1: "liver"}),
        (({1: "liver"}), ({}), [0, 1, 2, 0, 1, 2], {1: "liver"}),
        (({2: "liver"}), ({1: "liver"}), [0, 1, 2, 0, 2, 3], {2: "liver"}),
        (({}), ({}), [0, 1, 2, 0, 1, 2], {}),
    ],
)
def test_merging_matches_names_then_labels(one, other, labels, names):
    made = prompts([0, 1, 2], one) + prompts([0, 1, 2], other)
    assert made.labels.tolist() == labels
    assert made.names == names
    assert len(made.points_ras) == 6


def test_merging_with_nothing():
    made = prompts([1, 0], {1: "liver"})
    assert same(Prompts([], []) + made, made)
    assert same(made + Prompts([], []), made)


def test_from_labelmap():
    array = np.zeros(GRID.shape, np.uint8)
    array[1, 2, 3], array[4, 5, 6], array[7, 8, 9] = 1, 2, 9
    made = Prompts.from_labelmap(Volume(array, GRID), background=9, names={1: "liver", 2: "spleen", 9: "not these"})
    assert made.labels.tolist() == [1, 2, 0]
    np.testing.assert_allclose(made.points_ras, GRID.to_ras([[3, 2, 1], [6, 5, 4], [9, 8, 7]]))
    assert made.names == {1: "liver", 2: "spleen"}
    assert Prompts.from_labelmap(Volume(array, GRID)).structures == [1, 2, 9]
    assert len(Prompts.from_labelmap(Volume(np.zeros_like(array), GRID))) == 0
    with pytest.raises(PromptError, match="whole"):
        Prompts.from_labelmap(Volume(array * 0.5, GRID))


def test_points_drawn_from_a_segmentation_are_spread_over_it():
    grid = Grid((30, 40, 50), np.diag([1.0, 1.0, 3.0, 1.0]))
    array = np.zeros(grid.shape, np.uint8)
    array[2:28, 5:15, 5:45], array[4, 30, 30] = 1, 2
    made = Prompts.from_labelmap(Volume(array, grid), names={1: "tube", 2: "dot"}, per_structure=60, seed=3)
    assert [(made.labels == n).sum() for n in (0, 1, 2)] == [60, 60, 1]
    np.testing.assert_array_equal(Volume(array, grid).nearest_values(made.points_ras), made.labels)
    # Each eighth of the tube along its longest axis (78 mm), and each of its other halves, has its share.
    tube = made.points_ras[made.labels == 1]
    assert np.histogram(tube[:, 2], 4, (6, 84))[0].min() >= 10
    assert all(np.histogram(tube[:, axis], 2, span)[0].min() >= 20 for axis, span in ((0, (5, 45)), (1, (5, 15))))
    assert made.same_as(Prompts.from_labelmap(Volume(array, grid), names={1: "tube", 2: "dot"}, per_structure=60, seed=3))
    assert not made.same_as(Prompts.from_labelmap(Volume(array, grid), names={1: "tube", 2: "dot"}, per_structure=60, seed=4))


def test_the_background_of_a_segmentation_is_drawn_from_the_body():
    grid = Grid((20, 20, 20), np.eye(4))
    array, body = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    array[5:8, 5:8, 5:8], body[4:12, 4:12, 4:12] = 9, 1
    made = Prompts.from_labelmap(Volume(array, grid), per_structure=40, body=Volume(body, grid))
    background = made.points_ras[made.labels == 0]
    assert len(background) == 40 and (Volume(body, grid).nearest_values(background) == 1).all()
    with pytest.raises(PromptError, match="another grid"):
        Prompts.from_labelmap(Volume(array, grid), per_structure=40, body=Volume(body[:-1], Grid((19, 20, 20), np.eye(4))))
    with pytest.raises(PromptError, match="at least one point"):
        Prompts.from_labelmap(Volume(array, grid), per_structure=0)


def test_largest_label():
    assert Prompts([[0, 0, 0]], [65535]).labels.tolist() == [65535]


def test_two_structures_of_one_name_are_kept():
    assert prompts([1, 2, 3], {1: "lesion", 2: "Lesion", 3: "liver"}).names == {1: "lesion", 2: "Lesion (2)", 3: "liver"}
    merged = prompts([1, 2], {1: "lesion", 2: "lesion"}) + prompts([1, 2], {1: "lesion", 2: "lesion"})
    assert merged.labels.tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize("names", [{1: "Structure 2"}, {1: "structure  2"}])
def test_a_structure_without_a_name_does_not_take_that_of_another(names):
    made = prompts([1, 2, 0], names)
    assert made.name(2) == "Structure 2 (2)"
    assert prompts([1, 2, 0], {1: "liver"}).name(2) == "Structure 2"


def test_names_that_no_file_can_hold_become_plain():
    assert prompts([1, 2], {1: "a\0b\nc", 2: "\ud800x"}).names == {1: "a b c", 2: "x"}
