"""Locked voxels never get a label, and a mask to start from changes only where a prompt contradicts it."""

from __future__ import annotations

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import PromptError, VolumeError
from CoralBayLib.fewshot.constraints.masks import Constraints
from CoralBayLib.fewshot.constraints.sampling import labels_on, points_of_locks, values_at
from CoralBayLib.imaging.grid import Grid, Volume
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid

AXES = np.concatenate([np.eye(3), -np.eye(3)])
KINDS = ["axial", "flipped", "permuted", "anisotropic", "oblique", "sheared"]


def ball(grid: Grid, centre, radius_mm: float, label: int = 1) -> Volume:
    k, j, i = np.indices(grid.shape)
    away = np.linalg.norm(grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3)) - centre, axis=1)
    return Volume((label * (away <= radius_mm)).astype(np.uint8).reshape(grid.shape), grid)


@pytest.fixture(scope="module", params=["axial", "anisotropic"])
def scan(request):
    """A scan with two bright blobs that touch, its features, and prompts on the first."""
    grid = phantom_grid(request.param, extent_mm=84.0, spacing=1.4)
    one, two = grid.center_ras - [8, 0, 0], grid.center_ras + [8, 0, 0]
    volume = phantom(grid, [(one, 7.0, 300.0), (two, 7.0, 300.0)])
    pyramid = cb.embed(volume, PoolingEncoder(strides=(2, 4)))
    beside = grid.center_ras + 22 * AXES[[1, 2, 4, 5]]
    stroke = one + np.linspace(-3, 3, 7)[:, None, None] * np.eye(3)
    prompts = cb.Prompts(np.concatenate([stroke.reshape(-1, 3), beside]), [1] * 21 + [0] * 4, {1: "bright"})
    return volume, pyramid, prompts, one, two


@pytest.mark.parametrize("kind", KINDS)
def test_locked_voxels_never_get_a_label(scan, kind):
    volume, pyramid, prompts, one, two = scan
    free = cb.segment(volume, pyramid, prompts)
    assert free.nearest_values([two])[0] == 1
    locked = ball(phantom_grid(kind, extent_mm=60.0, centre=two, spacing=1.1), two, 9.0, label=7)
    segmenter = cb.Segmenter(pyramid).fit(prompts, locked=locked)
    assert segmenter.prompts_ is prompts
    for grid in (volume.grid, pyramid.grid, locked.grid):
        labelmap = segmenter.labelmap(grid)
        assert labelmap.nearest_values([one])[0] == 1
        assert not labelmap.array[labels_on(locked, grid) > 0].any()
    preview = segmenter.preview()
    held = labels_on(locked, pyramid.grid) > 0
    assert np.array_equal(preview.labels, segmenter.labelmap(pyramid.grid).array)
    assert not preview.percent[1][held].any() and not preview.labels[held].any()
    # Nothing is lost on the other side of what is locked.
    away = np.linalg.norm(volume.grid.to_ras(np.argwhere(free.array > 0)[:, ::-1]) - two, axis=1) > 12
    kept = segmenter.labelmap(volume.grid).array[free.array > 0]
    assert kept[away].mean() > 0.8
    assert np.array_equal(cb.segment(volume, pyramid, prompts, locked=locked).array, segmenter.labelmap(volume.grid).array)


def test_what_only_a_lock_connects_is_apart(scan):
    """A wall between the blobs: the second is no part of the component that was clicked on."""
    volume, pyramid, prompts, one, two = scan
    wall = np.zeros(volume.grid.shape, np.uint8)
    k, j, i = np.indices(volume.grid.shape)
    x = volume.grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))[:, 0].reshape(wall.shape)
    wall[np.abs(x - volume.grid.center_ras[0]) < 3] = 1
    locked = Volume(wall, volume.grid)
    both = cb.Segmenter(pyramid).fit(prompts, locked=locked).labelmap(volume.grid, cb.Options(0.02, connected=False))
    apart = cb.Segmenter(pyramid).fit(prompts, locked=locked).labelmap(volume.grid, cb.Options(0.02))
    assert apart.nearest_values([one])[0] == 1 and apart.nearest_values([two])[0] == 0
    assert (both.array > 0).sum() > (apart.array > 0).sum()


def test_another_lock_is_a_new_fit(scan):
    volume, pyramid, prompts, one, two = scan
    locked = ball(volume.grid, two, 9.0)
    segmenter = cb.Segmenter(pyramid).fit(prompts)
    probe, first = segmenter.probe_, segmenter.preview()
    assert segmenter.fit(prompts).probe_ is probe
    with_lock = segmenter.fit(prompts, locked=locked).preview()
    assert segmenter.probe_ is not probe and (with_lock.labels > 0).sum() < (first.labels > 0).sum()
    probe = segmenter.probe_
    assert segmenter.fit(prompts, locked=Volume(locked.array.copy(), locked.grid)).probe_ is probe
    assert np.array_equal(segmenter.fit(prompts).preview().labels, first.labels)


def test_a_prompt_in_a_lock_is_refused(scan):
    volume, pyramid, prompts, one, _two = scan
    locked = ball(volume.grid, one + [3, 0, 0], 2.0)
    clicks = cb.Prompts(one + 3 * AXES, [1] * 6, {1: "bright"})
    with pytest.raises(PromptError, match=r"A prompt of 'bright' lies in a locked segment; .*Unlock the segment or move"):
        cb.segment(volume, pyramid, clicks, locked=locked)
    # A background prompt says the same as the lock.
    beside = ball(volume.grid, volume.grid.center_ras + 22 * AXES[1], 2.0)
    cb.segment(volume, pyramid, prompts, locked=beside)


def test_masks_of_another_scan_are_refused(scan):
    volume, pyramid, prompts, *_ = scan
    far = phantom_grid(extent_mm=20, centre=(900, 0, 0))
    for name, what in (("locked", "locked"), ("start", "to start from")):
        with pytest.raises(VolumeError, match=f"mask {what} has no voxel inside the scan"):
            cb.segment(volume, pyramid, prompts, **{name: ball(far, far.center_ras, 9.0)})
    with pytest.raises(VolumeError, match="whole numbers"):
        Constraints(start=Volume(np.full((2, 2, 2), 0.5), Grid((2, 2, 2), np.eye(4))))
    # An empty mask says nothing.
    empty = ball(far, far.center_ras, -1.0)
    same = cb.segment(volume, pyramid, prompts, locked=empty, start=empty)
    assert np.array_equal(same.array, cb.segment(volume, pyramid, prompts).array)


def test_locked_points_are_few_and_near_the_prompts():
    grid = phantom_grid(extent_mm=100)
    near = grid.center_ras + [0, 0, 60]
    points = points_of_locks(ball(grid, grid.center_ras, 45.0), grid, near[None])
    assert len(points) == 100
    away = np.linalg.norm(points - near, axis=1)
    assert (np.diff(away) >= 0).all() and away.max() < 60
    # The outermost voxels are left out.
    assert np.linalg.norm(points - grid.center_ras, axis=1).max() < 44.5
    # A thin segment has no others.
    thin = np.zeros(grid.shape, bool)
    thin[10, 5:15, 5] = True
    assert len(points_of_locks(Volume(thin.astype(np.uint8), grid), grid, np.empty((0, 3))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_labelmap_on_another_grid(kind):
    """The value at each voxel's center, and 0 beyond the labelmap."""
    small, large = phantom_grid(kind, extent_mm=30, spacing=1.3), phantom_grid("oblique", extent_mm=60, spacing=1.7)
    labelmap = Volume(np.random.default_rng(0).integers(1, 5, small.shape).astype(np.uint8), small)
    k, j, i = np.indices(large.shape)
    expected = values_at(labelmap, large.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))).reshape(large.shape)
    assert (labels_on(labelmap, large) == expected).mean() > 0.999
    assert (expected == 0).any() and (expected > 0).any()


@pytest.mark.parametrize("kind", KINDS)
def test_without_prompts_the_start_is_the_answer(scan, kind):
    volume, pyramid, _prompts, one, _two = scan
    start = ball(phantom_grid(kind, extent_mm=50, centre=one, spacing=1.2), one, 9.0, label=300 % 256)
    names = cb.Prompts(np.empty((0, 3)), [], {44: "bright"})
    segmenter = cb.Segmenter(pyramid).fit(names, start=start)
    for grid in (start.grid, volume.grid, pyramid.grid):
        assert np.array_equal(segmenter.labelmap(grid).array, labels_on(start, grid))
    assert segmenter.probe_.names_ == {44: "bright"}
    preview = segmenter.preview()
    assert np.array_equal(preview.labels, labels_on(start, pyramid.grid)) and preview.dice_estimate == {}


def test_prompts_that_agree_with_the_start_change_nothing(scan):
    volume, pyramid, prompts, one, _two = scan
    start = ball(volume.grid, one, 6.0)
    result = cb.segment(volume, pyramid, prompts, start=start)
    assert np.array_equal(result.array, start.array)


def test_a_click_adds_the_part_it_lies_in(scan):
    """The start has the first blob, and a part of air; the click is in the second blob."""
    volume, pyramid, prompts, one, two = scan
    wrong = volume.grid.center_ras + [0, 30, 0]
    start = Volume(ball(volume.grid, one, 8.0).array | ball(volume.grid, wrong, 4.0).array, volume.grid)
    own = cb.Prompts(two + 2 * AXES, [1] * 6, {1: "bright"})
    segmenter = cb.Segmenter(pyramid).fit(own, start=start)
    result = segmenter.labelmap(volume.grid)
    assert (result.nearest_values(two + 2 * AXES) == 1).all()
    assert (result.array[ball(volume.grid, wrong, 4.0).array > 0] == 1).all()
    added = volume.grid.to_ras(np.argwhere(result.array > start.array)[:, ::-1])
    assert np.linalg.norm(added - two, axis=1).max() < 24
    assert np.array_equal(segmenter.preview().labels, segmenter.labelmap(pyramid.grid).array)
    # The points of the mask are no prompts of the user.
    assert segmenter.prompts_ is own and len(segmenter.probe_.prompts_) > len(own)


def test_a_click_on_the_background_removes_the_part_it_lies_in(scan):
    volume, pyramid, _prompts, one, _two = scan
    wrong = volume.grid.center_ras + [0, 28, 0]
    start = Volume(ball(volume.grid, one, 8.0).array | ball(volume.grid, wrong, 5.0).array, volume.grid)
    result = cb.segment(volume, pyramid, cb.Prompts([wrong], [0], {1: "bright"}), start=start)
    assert result.nearest_values([wrong])[0] == 0
    assert (result.array[ball(volume.grid, one, 8.0).array > 0] == 1).all()


def test_a_structure_without_a_start_takes_no_voxel_of_one_that_has_one(scan):
    volume, pyramid, prompts, one, two = scan
    start = ball(volume.grid, two, 9.0, label=2)
    result = cb.segment(volume, pyramid, cb.Prompts(prompts.points_ras, prompts.labels, {1: "bright", 2: "other"}), start=start)
    assert np.array_equal(result.array == 2, start.array == 2)
    assert result.nearest_values([one])[0] == 1


def test_a_lock_wins_over_the_start(scan):
    volume, pyramid, _prompts, one, _two = scan
    start, locked = ball(volume.grid, one, 9.0), ball(volume.grid, one + [6, 0, 0], 5.0)
    result = cb.segment(volume, pyramid, start=start, locked=locked)
    assert np.array_equal(result.array > 0, (start.array > 0) & (locked.array == 0))


def test_a_probe_of_another_scan_respects_locks_and_start(scan):
    volume, pyramid, prompts, one, two = scan
    probe = cb.Segmenter(pyramid).fit(prompts).probe_
    other = phantom(volume.grid, [(one, 7.0, 300.0), (two, 7.0, 300.0)], seed=1)
    features = cb.embed(other, PoolingEncoder(strides=(2, 4)))
    locked, start = ball(volume.grid, two, 8.0), ball(volume.grid, one, 5.0)
    segmenter = cb.Segmenter(features, probe).fit(locked=locked)
    assert segmenter.is_adapted
    assert not segmenter.labelmap(volume.grid).array[locked.array > 0].any()
    result = segmenter.fit(cb.Prompts(np.empty((0, 3)), [], {1: "bright"}), start=start).labelmap(volume.grid)
    assert np.array_equal(result.array, start.array)


def test_a_quick_preview_respects_locks(scan):
    volume, pyramid, prompts, one, two = scan
    segmenter = cb.Segmenter(pyramid).fit(prompts, locked=ball(volume.grid, two, 9.0))
    more = prompts + cb.Prompts([one + [0, 5, 0]], [1])
    partial, preview = segmenter.preview_of_one(1, more, segmenter.preview())
    assert not preview.labels[labels_on(ball(volume.grid, two, 9.0), pyramid.grid) > 0].any()
    assert np.array_equal(preview.labels, partial.labelmap(pyramid.grid).array)


def test_a_probe_remembers_the_answer_and_not_what_is_locked(scan, tmp_path):
    volume, pyramid, prompts, _one, two = scan
    locked = ball(volume.grid, two, 10.0)
    probe = cb.Segmenter(pyramid).fit(prompts, locked=locked).probe_
    probe.save(tmp_path / "probe.safetensors")
    memory = cb.Probe.load(tmp_path / "probe.safetensors").memory
    inside = memory.positions[memory.labels.numpy() == 1]
    held = Volume(labels_on(locked, pyramid.grid), pyramid.grid)
    assert len(inside) and not values_at(held, inside).any()


def test_structures_that_are_removed_keep_their_names(scan):
    """A structure of the start of which nothing is left is empty, and not unknown."""
    volume, pyramid, prompts, one, two = scan
    small = ball(volume.grid, volume.grid.to_ras(np.round(volume.grid.to_ijk(two)))[0], 0.5, label=2)
    start = Volume(small.array | ball(volume.grid, one, 5.0).array, volume.grid)
    assert (small.array == 2).sum() == 1
    named = cb.Prompts([two], [0], {1: "bright", 2: "dot"})
    segmenter = cb.Segmenter(pyramid).fit(named, start=start)
    assert segmenter.names == {1: "bright", 2: "dot"}
    assert set(np.unique(segmenter.labelmap(volume.grid).array)) <= {0, 1, 2}


@pytest.mark.parametrize("kind", ["box", "core and lock"])
def test_a_probe_of_another_scan_with_a_box(scan, kind):
    volume, pyramid, prompts, one, two = scan
    probe = cb.Segmenter(pyramid).fit(prompts).probe_
    other = cb.embed(phantom(volume.grid, [(one, 7.0, 300.0), (two, 7.0, 300.0)], seed=1), PoolingEncoder(strides=(2, 4)))
    box = cb.Box(one, np.eye(3), [14, 20, 20], 3)
    boxed = cb.Prompts(np.empty((0, 3)), [], {3: "Bright"}, (box,))
    locked = None if kind == "box" else ball(volume.grid, two, 8.0)
    segmenter = cb.Segmenter(other, probe).fit(boxed, locked=locked)
    labelmap = segmenter.labelmap(volume.grid)
    found = volume.grid.to_ras(np.argwhere(labelmap.array == 3)[:, ::-1])
    assert len(found) and box.contains(found, 2.0).all() and segmenter.names == {3: "Bright"}
