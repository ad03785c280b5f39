"""Prompts become labels on the source grid, accurate to half a working voxel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy import ndimage

import CoralBayLib as cb
from CoralBayLib.core.errors import Cancelled, PromptError, VolumeError
from CoralBayLib.demo.annotator import Annotator
from CoralBayLib.fewshot.labeling import keep_prompted_components
from CoralBayLib.imaging.grid import Grid, Volume
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid, rotation


@st.composite
def oblique_grids(draw):
    """Grids of about 80 mm with any rotation, flips, anisotropy and some shear."""
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    spacing = np.array([draw(st.floats(1.2, 3.0)) for _ in range(3)])
    shear = np.eye(3)
    shear[0, 2] = draw(st.floats(-0.3, 0.3))
    shear[1, 2] = draw(st.floats(-0.3, 0.3))
    axes = rotation(*angles) @ shear @ np.diag([draw(st.sampled_from([1.0, -1.0])) for _ in range(3)])
    size = np.round(80 / spacing).astype(int)
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing
    centre = np.array([draw(st.floats(-200, 200)) for _ in range(3)])
    matrix[:3, 3] = centre - matrix[:3, :3] @ ((size - 1) / 2)
    return Grid(tuple(size[::-1]), matrix)


def blob_prompts(grid, centre, sigma):
    """A cross of points in the blob, and a ring of background points around it."""
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    inside = np.concatenate([[centre], centre + axes * sigma * 0.5])
    around = centre + axes * sigma * 2.2
    return cb.Prompts(np.concatenate([inside, around]), [1] * 7 + [0] * 6, {1: "blob"})


@pytest.mark.slow
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # a failing grid is telling enough; making it simpler takes minutes
)
@given(grid=oblique_grids(), shift=st.tuples(*[st.floats(-6, 6)] * 3))
def test_a_blob_is_found_at_its_position(grid, shift):
    """Embedding grid, segmentation and similarity all agree with RAS, on any grid."""
    sigma = 6.0
    centre = grid.center_ras + np.array(shift)
    volume = phantom(grid, [(centre, sigma, 400.0)], radius_mm=30)
    # Features 2 and 4 mm apart: with coarser ones the lattice itself would blur the place by half a voxel.
    pyramid = cb.embed(volume, PoolingEncoder(strides=(1, 2)), levels=["pool1", "pool2"])
    target = pyramid.grid.to_ijk(centre)[0]

    bright = pyramid.linear_map(torch.eye(pyramid.channels)[:1])[0].numpy()
    assert np.abs(heaviest(bright, pyramid, target) - target).max() < 0.5

    labelmap = cb.segment(volume, pyramid, blob_prompts(grid, centre, sigma))
    assert labelmap.grid.same_as(grid)
    kji = np.argwhere(labelmap.array == 1)
    assert len(kji)
    middle = grid.to_ras(kji.mean(axis=0)[::-1])[0]
    # Noise and the coarse source voxels move a centroid by far less than a voxel, a wrong offset by half of one.
    assert np.abs(pyramid.grid.to_ijk(middle)[0] - target).max() < 0.5
    volume_mm3 = len(kji) * grid.voxel_volume_mm3
    assert 4 / 3 * np.pi * (0.4 * sigma) ** 3 < volume_mm3 < 4 / 3 * np.pi * (2.2 * sigma) ** 3

    simmap = cb.similarity_map(pyramid, cb.Query.sphere(centre, 3.0, step_mm=1.0))
    assert np.abs(heaviest(simmap.array, pyramid, target) - target).max() < 0.5
    best = cb.find_regions(simmap, k=1)[0]
    assert np.linalg.norm(np.subtract(best.ras, centre)) < sigma


def heaviest(values, pyramid, near):
    """Centroid (IJK) of what rises above the halfway mark between the median of the body and the peak, around a place."""
    body = pyramid.body.array > 0
    k, j, i = np.indices(values.shape)
    steps = np.stack([i, j, k], -1) - near
    around = np.linalg.norm(steps @ pyramid.grid.ijk_to_ras[:3, :3].T, axis=-1) < 14
    floor = np.median(values[body])
    weights = np.where(around & body, values - (floor + values[around & body].max()) / 2, 0).clip(0)
    return np.array([np.average(axis, weights=weights) for axis in (i, j, k)])


@pytest.mark.parametrize("kind", ["axial", "flipped", "permuted", "anisotropic", "oblique", "sheared"])
def test_working_labels_return_to_the_source_grid(kind, make_grid, make_phantom, pooling):
    """The labels on the source grid, seen from the working grid, are the working labels."""
    grid = make_grid(kind, spacing=1.4)
    centre = grid.center_ras + [5, 3, -4]
    volume = make_phantom(grid, [(centre, 9.0, 300.0)])
    pyramid = cb.embed(volume, pooling(strides=(2, 4)))
    prompts = blob_prompts(grid, centre, 9.0)
    probe = cb.Probe().fit(pyramid, prompts)
    working = probe.predict_labels(pyramid, prompts=prompts)
    source = cb.segment(volume, pyramid, prompts, probe=probe)
    there_and_back = cb.resample(source, pyramid.grid, "nearest").array == 1
    mask = working.array == 1
    assert mask.sum() > 100
    # The border may move by less than a voxel, for it is drawn anew on the other grid; nothing may shift.
    assert there_and_back[ndimage.binary_erosion(mask)].all()
    assert ndimage.binary_dilation(mask)[there_and_back].all()
    assert np.abs(np.argwhere(there_and_back).mean(0) - np.argwhere(mask).mean(0)).max() < 0.25
    there = (source.array == 1).sum() * grid.voxel_volume_mm3
    assert there == pytest.approx(mask.sum() * pyramid.grid.voxel_volume_mm3, rel=0.1)
    assert source.array.dtype == np.uint8


def test_the_most_probable_structure_gets_the_voxel(make_grid, make_phantom, pooling):
    grid = make_grid()
    one, other = grid.center_ras + [9, 0, 0], grid.center_ras - [9, 0, 0]
    volume = make_phantom(grid, [(one, 8.0, 300.0), (other, 8.0, -200.0)])
    pyramid = cb.embed(volume, pooling(strides=(2, 4)))
    axes = 3 * np.concatenate([np.eye(3), -np.eye(3)])
    points = np.concatenate([one + axes, other + axes, grid.center_ras + 10 * axes[[1, 2, 4, 5]]])
    prompts = cb.Prompts(points, [3] * 6 + [300] * 6 + [0] * 4)
    labelmap = cb.segment(volume, pyramid, prompts)
    assert labelmap.array.dtype == np.uint16
    assert set(np.unique(labelmap.array)) == {0, 3, 300}
    assert (labelmap.nearest_values(one + axes / 2) == 3).all()
    assert (labelmap.nearest_values(other + axes / 2) == 300).all()


def test_only_prompted_components_are_kept(make_grid, make_phantom, pooling):
    grid = make_grid()
    here, there = grid.center_ras + [20, 0, 0], grid.center_ras - [20, 0, 0]
    volume = make_phantom(grid, [(here, 6.0, 300.0), (there, 6.0, 300.0)])
    pyramid = cb.embed(volume, pooling(strides=(2, 4)))
    axes = 3 * np.concatenate([np.eye(3), -np.eye(3)])
    background = grid.center_ras + np.array([[0, 0, 0], [0, 20, 0], [0, -20, 0], [0, 0, 20], [0, 0, -20.0]])
    prompts = cb.Prompts(np.concatenate([here + axes, background]), [1] * 6 + [0] * 5)
    everywhere = cb.segment(volume, pyramid, prompts, connected=False)
    assert everywhere.nearest_values([there])[0] == 1
    touched = cb.segment(volume, pyramid, prompts)
    assert touched.nearest_values([there])[0] == 0
    assert touched.nearest_values([here])[0] == 1


def test_other_components_of_a_fragmented_structure_are_found(make_grid, make_phantom, pooling):
    """Such as ribs: users do not click on each of them."""
    grid = make_grid()
    steps = np.stack(np.meshgrid([-24.0, -8, 8, 24], [-24.0, -8, 8, 24], [-10.0, 10], indexing="ij"), -1).reshape(-1, 3)
    pieces = grid.center_ras + steps[np.linalg.norm(steps[:, :2], axis=1) < 30]
    volume = make_phantom(grid, [(piece, 3.0, 700.0) for piece in pieces], radius_mm=44.0)
    pyramid = cb.embed(volume, pooling(strides=(2, 4)))
    background = grid.center_ras + np.array([[0, 0, 0], [0, 16, 0], [16, 0, 10], [-16, 0, -10], [0, -16, 0.0]])

    def found(marked):
        prompts = cb.Prompts(np.concatenate([pieces[:marked], background]), [1] * marked + [0] * len(background))
        return cb.segment(volume, pyramid, prompts).nearest_values(pieces).astype(bool), cb.Probe().fit(pyramid, prompts)

    few, probe = found(4)
    assert few[:4].all() and not few[4:].any() and not probe.fragmented_
    many, probe = found(14)
    assert len(pieces) > 20 and many.all() and probe.fragmented_ == {1}


def test_all_components_are_kept_if_none_is_prompted():
    grid = Grid((1, 1, 7), np.eye(4))
    margin = np.array([[[1, -1, 2, -1, -1, 3, -1]]], dtype=np.float32)
    keep_prompted_components(margin, grid, np.array([[3.0, 0, 0]]))
    assert (margin[0, 0] > 0).tolist() == [True, False, True, False, False, True, False]
    keep_prompted_components(margin, grid, np.array([[2.0, 0, 0]]))
    assert margin[0, 0].tolist() == [-1, -1, 2, -1, -1, -3, -1]


def test_a_higher_threshold_gives_less(make_grid, make_phantom, pooling):
    grid = make_grid()
    volume = make_phantom(grid, [(grid.center_ras, 9.0, 300.0)])
    pyramid = cb.embed(volume, pooling(strides=(2, 4)))
    prompts = blob_prompts(grid, grid.center_ras, 9.0)
    counts = [int((cb.segment(volume, pyramid, prompts, threshold=t).array > 0).sum()) for t in (0.1, 0.5, 0.9)]
    assert counts[0] > counts[1] > counts[2] > 0
    with pytest.raises(VolumeError, match="between 0 and 1"):
        cb.segment(volume, pyramid, prompts, threshold=1.0)


def test_another_volume_is_refused(make_grid, make_phantom, pooling):
    pyramid = cb.embed(make_phantom(make_grid()), pooling())
    other = make_phantom(make_grid(centre=(0, 0, 0)))
    with pytest.raises(VolumeError, match="embed this volume"):
        cb.segment(other, pyramid, cb.Prompts([[0, 0, 0], [1, 1, 1]], [0, 1]))


def test_cancel(make_grid, make_phantom, pooling):
    volume = make_phantom(make_grid())
    pyramid = cb.embed(volume, pooling())
    cancel = cb.CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        cb.segment(volume, pyramid, blob_prompts(volume.grid, volume.grid.center_ras, 6.0), cancel=cancel)


def test_annotator_marks_inside_and_outside(make_grid):
    grid = make_grid("flipped")
    k, j, i = np.indices(grid.shape)
    ras = grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    truth = (np.linalg.norm(ras - grid.center_ras, axis=1) < 15).reshape(grid.shape)
    reference = Volume(truth.astype(np.uint8), grid)
    annotator = Annotator(reference, 1)
    points, inside = annotator.strokes(3)
    assert (reference.nearest_values(points) == inside).all()
    assert len(np.unique(np.round(points[inside][:, 2], 3))) == 3
    empty = np.zeros(annotator.truth.shape, bool)
    points, positive = annotator.click(empty)
    assert positive
    assert (reference.nearest_values(points) == 1).all()
    points, positive = annotator.click(np.ones_like(empty))
    assert not positive
    assert (reference.nearest_values(points) == 0).all()
    assert annotator.click(annotator.truth) is None
    assert np.linalg.norm(annotator.deepest() - grid.center_ras) < 3


@pytest.fixture(scope="module")
def two_blobs():
    """A scan with two bright blobs, one of them twice, and prompts on both."""
    grid = phantom_grid(extent_mm=80.0)
    one, other = grid.center_ras + [12, 0, 0], grid.center_ras - [12, 0, 0]
    volume = phantom(grid, [(one, 7.0, 300.0), (other, 7.0, -200.0), (grid.center_ras + [0, 24, 0], 5.0, 300.0)])
    pyramid = cb.embed(volume, PoolingEncoder(strides=(2, 4)))
    axes = 3 * np.concatenate([np.eye(3), -np.eye(3)])
    points = np.concatenate([one + axes, other + axes, grid.center_ras + 10 * axes[[1, 2, 4, 5]]])
    return pyramid, cb.Prompts(points, [1] * 6 + [2] * 6 + [0] * 4, {1: "bright", 2: "dark"})


@pytest.mark.parametrize(("threshold", "connected"), [(0.5, True), (0.83, True), (0.2, True), (0.5, False), (0.3, False)])
def test_the_preview_equals_the_labelmap_on_the_working_grid(two_blobs, threshold, connected):
    pyramid, prompts = two_blobs
    options = cb.Options(threshold, connected)
    segmenter = cb.Segmenter(pyramid).fit(prompts)
    preview = segmenter.preview(options)
    assert {0, 1, 2} <= set(np.unique(preview.labels))
    assert np.array_equal(preview.labels, segmenter.labelmap(pyramid.grid, options).array)
    # Nothing that the preview keeps changes the answer.
    assert np.array_equal(preview.labels, cb.Segmenter(pyramid).fit(prompts).labelmap(pyramid.grid, options).array)
    for label in (1, 2):
        assert (preview.percent[label][preview.labels == label] >= int(100 * threshold)).all()
        assert 0 < preview.dice_estimate[label][0] <= 1
    assert preview.uncertainty.max() > 50 and not preview.uncertainty[pyramid.body.array == 0].any()


def test_the_same_prompts_are_not_fitted_twice(two_blobs, monkeypatch):
    pyramid, prompts = two_blobs
    segmenter = cb.Segmenter(pyramid).fit(prompts)
    first = segmenter.preview()
    monkeypatch.setattr(cb.Probe, "fit", lambda *_: pytest.fail("fitted again"))
    monkeypatch.setattr(cb.Probe, "logits", lambda *_, **__: pytest.fail("computed again"))
    again = cb.Prompts(prompts.points_ras.copy(), prompts.labels.copy(), dict(prompts.names))
    assert np.array_equal(segmenter.fit(again).preview().labels, first.labels)
    assert (segmenter.preview(cb.Options(0.9)).labels > 0).sum() < (first.labels > 0).sum()
    with pytest.raises(pytest.fail.Exception, match="fitted again"):
        segmenter.fit(prompts + cb.Prompts([pyramid.grid.center_ras], [0]))


def test_a_quick_preview_updates_the_clicked_structure(two_blobs):
    pyramid, prompts = two_blobs
    segmenter = cb.Segmenter(pyramid).fit(prompts)
    before = segmenter.preview()
    more = prompts + cb.Prompts([pyramid.grid.center_ras + [0, 24, 0]], [1])
    partial, preview = segmenter.preview_of_one(1, more, before)
    whole = cb.Segmenter(pyramid).fit(more).preview()
    assert preview.percent[2] is before.percent[2] and preview.percent[1] is not before.percent[1]
    kept = preview.labels == 2
    assert kept[before.labels == 2].mean() > 0.95
    one, all_ = preview.labels == 1, whole.labels == 1
    assert 2 * (one & all_).sum() / (one.sum() + all_.sum()) > 0.9
    assert np.array_equal(preview.labels, partial.labelmap(pyramid.grid).array)
    assert np.array_equal(before.labels, segmenter.labelmap(pyramid.grid).array)


def test_a_quick_preview_adds_a_new_structure(two_blobs):
    pyramid, prompts = two_blobs
    segmenter = cb.Segmenter(pyramid).fit(prompts)
    place = pyramid.grid.center_ras + [0, 24, 0]
    more = prompts + cb.Prompts(place + 2 * np.eye(3), [3] * 3, {3: "new"})
    _, preview = segmenter.preview_of_one(3, more, segmenter.preview())
    assert preview.labelmap.nearest_values([place])[0] == 3
    assert set(preview.percent) == {1, 2, 3}


def test_a_segmenter_without_prompts_raises(two_blobs):
    with pytest.raises(PromptError, match="no prompts"):
        cb.Segmenter(two_blobs[0]).preview()


def test_the_functions_of_version_0_1_still_work(two_blobs):
    from CoralBayLib.fewshot.segmenter import labelmap_on
    from CoralBayLib.fewshot.transfer import for_scan

    pyramid, prompts = two_blobs
    probe = cb.Probe().fit(pyramid, prompts)
    with pytest.warns(DeprecationWarning, match=r"labelmap_on is called Probe\.predict_labels now"):
        labels = labelmap_on(pyramid.grid, pyramid, probe, prompts).array
    assert np.array_equal(labels, probe.predict_labels(pyramid, prompts=prompts).array)
    with pytest.warns(DeprecationWarning, match="for_scan is called adapt now"):
        assert for_scan(probe, pyramid, prompts) is probe
