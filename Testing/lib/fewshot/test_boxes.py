"""Boxes: geometry, their part in prompts, and the segmentation of what is in them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import PromptError
from CoralBayLib.fewshot.constraints.boxes import MARGIN_MM, Box, outside_of
from CoralBayLib.imaging.grid import Volume
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid, rotation

TURN = rotation(20, -35, 60).T
BOX = Box([10, -20, 30], TURN, [20, 30, 44], 2)


def none(names=None, boxes=()):
    return cb.Prompts(np.empty((0, 3)), [], names or {}, boxes)


def test_a_turned_box_contains_what_is_inside():
    inside = [[0, 0, 0], [9.9, 14.9, 21.9], [-9.9, -14.9, -21.9]]
    outside = [[10.1, 0, 0], [0, -15.1, 0], [0, 0, 22.1]]
    points = BOX.center_ras + np.array(inside + outside) @ BOX.axes
    assert BOX.contains(points).tolist() == [True] * 3 + [False] * 3
    assert BOX.contains(points, 0.2).all()
    assert BOX.distance_mm(BOX.center_ras + [13, 19, 22] @ BOX.axes) == pytest.approx([5.0])
    # A margin is a distance, so that the box with a margin has round edges and corners.
    assert BOX.corners().shape == (8, 3) and BOX.contains(BOX.corners()).all()
    assert not BOX.contains(BOX.corners(MARGIN_MM), MARGIN_MM).any()


def test_points_of_a_box():
    core, shell = BOX.core_points(), BOX.shell_points()
    local = (core - BOX.center_ras) @ BOX.axes.T / BOX.size_mm
    assert len(core) > 100 and (np.abs(core - BOX.center_ras).max(axis=1) < 1e-9).any()
    assert 0.2 < np.abs(local).max() <= 0.3
    away = BOX.distance_mm(shell)
    assert len(shell) == 294 and away.min() > 2 and away.max() < 6


@pytest.mark.parametrize("kind", ["axial", "anisotropic", "oblique", "sheared"])
def test_voxels_outside_of_boxes(kind):
    grid = phantom_grid(kind, centre=BOX.center_ras, spacing=3.0)
    other = Box(BOX.center_ras + [25, 0, 0], np.eye(3), [10, 10, 400], 2)
    k, j, i = np.indices(grid.shape)
    points = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    expected = ~(BOX.contains(points, MARGIN_MM) | other.contains(points, MARGIN_MM))
    assert np.array_equal(outside_of([BOX, other], grid).ravel(), expected)
    assert expected.any() and not expected.all()
    for margin in (0.0, MARGIN_MM):
        assert np.array_equal(BOX.mask_on(grid, margin).ravel(), BOX.contains(points, margin))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (([0, 0], np.eye(3), [1, 1, 1], 1), "center of a box must be 3 finite"),
        (([0, 0, np.nan], np.eye(3), [1, 1, 1], 1), "finite"),
        (([0, 0, 0], np.eye(3) * 2, [1, 1, 1], 1), "right angles"),
        (([0, 0, 0], [[1, 0, 0], [1, 0, 0], [0, 0, 1]], [1, 1, 1], 1), "right angles"),
        (([0, 0, 0], np.eye(2), [1, 1, 1], 1), "3 x 3"),
        (([0, 0, 0], np.eye(3), [1, 0, 1], 1), "more than 0"),
        (([0, 0, 0], np.eye(3), ["a", 1, 1], 1), "must be numbers"),
        (([0, 0, 0], np.eye(3), [1, 1, 1], 0), "a box marks a structure|A box marks a structure"),
        (([0, 0, 0], np.eye(3), [1, 1, 1], 1.5), "whole number"),
    ],
)
def test_refused(values, match):
    with pytest.raises(PromptError, match=match):
        Box(*values)


def test_prompts_keep_their_boxes(tmp_path):
    one = cb.Prompts([[0, 0, 0], [1, 1, 1]], [1, 0], {1: "liver", 2: "Kidney"}, [BOX])
    assert one.structures == [1, 2] and one.boxes == (BOX,)
    assert not one.same_as(cb.Prompts(one.points_ras, one.labels, one.names))
    assert one.without(1).boxes == (BOX,) and one.without(2).boxes == () and one.structures_only().boxes == (BOX,)
    assert one.thinned(1).boxes == (BOX,)
    one.save(tmp_path / "p.json")
    again = cb.read_prompts(tmp_path / "p.json")
    assert again.same_as(one)
    document = json.loads((tmp_path / "p.json").read_text())
    document["coordinateSystem"] = "LPS"
    for point in document["points"]:
        point["ras"] = [-point["ras"][0], -point["ras"][1], point["ras"][2]]
    for box in document["boxes"]:
        box["center"] = (np.array(box["center"]) * [-1, -1, 1]).tolist()
        box["axes"] = (np.array(box["axes"]) * [-1, -1, 1]).tolist()
    (tmp_path / "lps.json").write_text(json.dumps(document))
    assert cb.read_prompts(tmp_path / "lps.json").same_as(one)
    # Structures of the same name become one, and others get a free label.
    merged = cb.Prompts([[5, 5, 5]], [2], {2: "spleen", 7: "kidney"}) + one
    assert [box.label for box in merged.boxes] == [7]
    assert np.array_equal(merged.boxes[0].axes, BOX.axes)
    assert [box.label for box in (cb.Prompts([[5, 5, 5]], [2], {2: "spleen"}) + none({2: "Kidney"}, [BOX])).boxes] == [3]


def test_prompts_without_boxes_are_saved_as_before(tmp_path):
    cb.Prompts([[0, 0, 0]], [1], {1: "liver"}).save(tmp_path / "p.json")
    assert sorted(json.loads((tmp_path / "p.json").read_text())) == ["coordinateSystem", "names", "points"]


def test_only_boxes_on_the_grid_are_inside():
    grid = phantom_grid(centre=BOX.center_ras)
    away = Box(BOX.center_ras + [300, 0, 0], np.eye(3), [9, 9, 9], 1)
    assert none(boxes=[BOX, away]).inside(grid).boxes == (BOX,)


@pytest.fixture(scope="module")
def scan():
    """A scan with two like blobs, and its features."""
    grid = phantom_grid("anisotropic", extent_mm=90.0, spacing=1.5)
    one, two = grid.center_ras - [13, 0, 0], grid.center_ras + [13, 0, 0]
    volume = phantom(grid, [(one, 6.0, 300.0), (two, 6.0, 300.0)])
    return volume, cb.embed(volume, PoolingEncoder(strides=(2, 4))), one, two


def test_a_box_is_enough(scan):
    volume, pyramid, one, two = scan
    box = Box(one, TURN, [22, 22, 22], 1)
    prompts = none({1: "blob"}, [box])
    segmenter = cb.Segmenter(pyramid).fit(prompts)
    labelmap = segmenter.labelmap(volume.grid)
    assert labelmap.nearest_values([one])[0] == 1 and labelmap.nearest_values([two])[0] == 0
    points = volume.grid.to_ras(np.argwhere(labelmap.array > 0)[:, ::-1])
    assert np.linalg.norm(points.mean(axis=0) - one) < 2 and len(points) * volume.grid.voxel_volume_mm3 > 4 / 3 * np.pi * 4**3
    assert segmenter.prompts_ is prompts and len(prompts) == 0
    assert np.array_equal(segmenter.preview().labels, segmenter.labelmap(pyramid.grid).array)
    assert cb.Probe().fit(pyramid, prompts).labels_ == [1]


@pytest.mark.parametrize("connected", [True, False])
def test_nothing_lies_far_outside_of_the_box(scan, connected):
    """The box cuts the blob in half, and the click says that all of it looks the same."""
    volume, pyramid, one, _two = scan
    box = Box(one + [10, 0, 0], np.eye(3), [20, 20, 20], 1)
    prompts = cb.Prompts([one + [2, 0, 0]], [1], {1: "blob"}, [box])
    segmenter = cb.Segmenter(pyramid).fit(prompts)
    free = cb.segment(volume, pyramid, cb.Prompts(prompts.points_ras, [1]), threshold=0.02, connected=connected)
    for grid in (volume.grid, pyramid.grid):
        labelmap = segmenter.labelmap(grid, cb.Options(0.02, connected))
        points = grid.to_ras(np.argwhere(labelmap.array > 0)[:, ::-1])
        assert len(points) and box.contains(points, MARGIN_MM).all()
    assert not box.contains(volume.grid.to_ras(np.argwhere(free.array > 0)[:, ::-1]), MARGIN_MM).all()
    outside = outside_of([box], pyramid.grid)
    assert not segmenter.preview(cb.Options(0.02, connected)).percent[1][outside].any()


def test_points_of_a_box_give_way_to_prompts_that_contradict_them(scan):
    _volume, pyramid, one, _two = scan
    box = Box(one, np.eye(3), [60, 24, 24], 1)
    alone = none({}, [box]).with_points_of_boxes(pyramid.body)
    core = alone.points_ras[alone.labels == 1]
    assert len(core) > 100 and (alone.labels == 0).sum() > 100 and alone.boxes == ()
    # A click on the structure elsewhere does not say that the middle is wrong.
    clicked = cb.Prompts([one + [20, 0, 0]], [1], {}, [box]).with_points_of_boxes(pyramid.body)
    assert (clicked.labels == 1).sum() == len(core) + 1
    wrong = one - [9, 0, 0]
    corrected = cb.Prompts([wrong], [0], {}, [box]).with_points_of_boxes(pyramid.body)
    kept = corrected.points_ras[corrected.labels == 1]
    assert 0 < len(kept) < len(core) and np.linalg.norm(kept - wrong, axis=1).min() > 20
    both = cb.Prompts([wrong, one + [9, 0, 0]], [0, 1], {}, [box]).with_points_of_boxes(pyramid.body)
    assert len(kept) < (both.labels == 1).sum() - 1 < len(core)
    # Some are always left while there is nothing else.
    small = Box(one, np.eye(3), [24, 24, 24], 1)
    corrected = cb.Prompts([one], [0], {}, [small]).with_points_of_boxes(pyramid.body)
    assert 0 < (corrected.labels == 1).sum() < 60
    box = small
    # Another structure may lie beside the box.
    near = none({}, [box, Box(one + [25, 0, 0], np.eye(3), [24, 24, 24], 2)]).with_points_of_boxes(pyramid.body)
    assert not near.points_ras[near.labels == 0][:, 0].max() < one[0]
    background = near.points_ras[near.labels == 0]
    assert (
        not box.contains(background).any() and not Box(one + [25, 0, 0], np.eye(3), [24, 24, 24], 2).contains(background).any()
    )


def test_boxes_that_contradict_are_refused(scan):
    volume, pyramid, one, two = scan
    box = Box(one, np.eye(3), [20, 20, 20], 1)
    with pytest.raises(PromptError, match=r"A prompt of 'blob' lies outside of the box .*Enlarge the box or remove"):
        cb.segment(volume, pyramid, cb.Prompts([one, two], [1, 1], {1: "blob"}, [box]))
    air = Box(volume.grid.center_ras + [500, 0, 0], np.eye(3), [20, 20, 20], 1)
    with pytest.raises(PromptError, match="middle of the box of 'blob' lies outside the patient"):
        cb.segment(volume, pyramid, none({1: "blob"}, [air]))


def test_a_box_with_a_lock(scan):
    volume, pyramid, one, _two = scan
    locked = Volume((volume.array > 250).astype(np.uint8), volume.grid)
    labelmap = cb.segment(volume, pyramid, none({1: "blob"}, [Box(one, np.eye(3), [26, 26, 26], 1)]), locked=locked)
    assert labelmap.array.any() and not labelmap.array[locked.array > 0].any()
