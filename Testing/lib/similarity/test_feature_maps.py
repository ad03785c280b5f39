"""Colors and clusters of the features."""

import numpy as np
import pytest
import torch

from CoralBayLib.core.errors import Cancelled, EncoderError, ProbeError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.features.embedding import embed
from CoralBayLib.similarity import feature_maps
from CoralBayLib.similarity.feature_maps import FeatureProjection, cluster_basis, cluster_map, color_basis, color_map


@pytest.fixture
def pyramid(pooling, make_phantom, make_grid):
    grid, side = make_grid(), np.array([15, 0, 0])
    volume = make_phantom(grid, [(grid.center_ras + side, 8, 300), (grid.center_ras - side, 8, -200)])
    return embed(volume, pooling())


def test_colors_are_the_dense_projection_and_black_outside(pyramid) -> None:
    basis = color_basis(pyramid)
    colors = color_map(pyramid, basis)
    assert colors.shape == (*pyramid.grid.shape, 3)
    assert not colors[pyramid.body.array == 0].any()
    kji = np.argwhere(pyramid.body.array)[::97]
    points = pyramid.grid.to_ras(kji[:, ::-1])
    expected = pyramid.sample(points) @ basis.weights.T + basis.bias
    expected = ((expected.clamp(-2.5, 2.5) + 2.5) * 255 / 5).numpy()
    assert colors[tuple(kji.T)] == pytest.approx(expected, abs=1.01)
    assert colors[tuple(kji.T)].std() > 10


def test_colors_do_not_depend_on_the_basis_sign(pyramid) -> None:
    assert torch.equal(color_basis(pyramid).weights, color_basis(pyramid).weights)
    weights = color_basis(pyramid).weights
    assert (weights.gather(1, weights.abs().argmax(dim=1, keepdim=True)) > 0).all()


def test_clusters_are_the_nearest_centroids(pyramid) -> None:
    basis = cluster_basis(pyramid, 4)
    labels = cluster_map(pyramid, basis)
    assert set(np.unique(labels.array)) == {0, 1, 2, 3, 4}
    assert not labels.array[pyramid.body.array == 0].any()
    points = pyramid.basis.points_ras.numpy()[:200]
    nearest = (pyramid.sample(points) @ basis.weights.T + basis.bias).argmax(dim=1) + 1
    assert np.mean(labels.nearest_values(points) == nearest.numpy()) > 0.99


def test_a_basis_can_be_saved_and_loaded(pyramid, tmp_path) -> None:
    basis = color_basis(pyramid)
    basis.save(tmp_path / "basis.safetensors")
    again = FeatureProjection.load(tmp_path / "basis.safetensors")
    assert np.array_equal(color_map(pyramid, again), color_map(pyramid, basis))
    with pytest.raises(ProbeError, match="no basis"):
        FeatureProjection.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(ProbeError, match="damaged"):
        FeatureProjection.load(tmp_path / "bad.safetensors")


def test_other_features_bad_numbers_and_cancelling_are_refused(pyramid) -> None:
    with pytest.raises(EncoderError, match="another encoder"):
        color_map(pyramid.select_levels(["pool2"]), color_basis(pyramid))
    with pytest.raises(EncoderError, match="2 to 64"):
        cluster_basis(pyramid, 1)
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        cluster_map(pyramid, cluster_basis(pyramid, 3), cancel)


@pytest.mark.parametrize(
    ("old", "new"), [("LookBasis", FeatureProjection), ("colour_basis", color_basis), ("colour_map", color_map)]
)
def test_old_names_are_deprecated(old, new) -> None:
    with pytest.warns(DeprecationWarning, match=new.__name__):
        assert getattr(feature_maps, old) is new
