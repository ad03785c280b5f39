"""What a person does with a scan, with each encoder: embed, store, probe, find like regions, look inside.

The networks are small and untrained, so nothing is said of how good their answers are.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.core.errors import EncoderError
from CoralBayLib.features.preprocessing import prepare, to_tensor
from CoralBayLib.similarity.feature_maps import cluster_basis, cluster_map, color_basis, color_map

pytestmark = pytest.mark.slow

pytest.importorskip("monai")

CHANNELS = {"ct-fm": 64, "voxelfm": 72, "fm-ct": 192}
"""Of the scan embedding, with the small networks."""


@pytest.fixture(params=CHANNELS)
def family(request):
    return request.param


@pytest.fixture
def volume(make_grid, make_phantom):
    grid = make_grid("oblique", extent_mm=110)
    side = np.array([18.0, 0, 0])
    return make_phantom(grid, [(grid.center_ras + side, 9, 400), (grid.center_ras - side, 9, -300)], radius_mm=45)


def test_every_verb_runs(family, volume, make_encoder, tmp_path):
    encoder, store = make_encoder(family), cb.Store(tmp_path / "store")
    pyramid = cb.embed(volume, encoder, store=store)
    assert pyramid.scan_embedding.shape == (CHANNELS[family],)
    assert all(torch.isfinite(level.features.float()).all() for level in pyramid.levels)

    centre, side = volume.grid.center_ras, np.array([18.0, 0, 0])
    points = np.array([centre + side, centre - side, centre + [0, 25, 0], centre - [0, 25, 0]])
    probe = cb.Probe().fit(pyramid, cb.Prompts(points, [1, 2, 0, 0], {1: "bright", 2: "dark"}))
    probability = probe.predict(pyramid)
    assert probability.shape == (2, *pyramid.grid.shape)
    at = np.round(pyramid.grid.to_ijk(points[:2])).astype(int)[:, ::-1]
    assert all(float(probability[n, k, j, i]) > 0.5 for n, (k, j, i) in enumerate(at))

    query = cb.Query.sphere(points[0], radius_mm=6)
    similarity = cb.similarity_map(pyramid, query)
    k, j, i = at[0]
    assert similarity.array[k, j, i] > 0.7
    assert similarity.array[pyramid.body.array > 0].std() > 0.01
    regions = cb.find_regions(similarity, k=3, min_distance_mm=10)
    assert len(regions) == 3
    assert np.linalg.norm(np.array(regions[0].ras) - points[0]) < 15

    assert color_map(pyramid, color_basis(pyramid))[pyramid.body.array > 0].std() > 10
    assert set(np.unique(cluster_map(pyramid, cluster_basis(pyramid, 3)).array)) == {0, 1, 2, 3}

    again = cb.embed(volume, encoder, store=store)
    assert torch.equal(again.scan_embedding, pyramid.scan_embedding)
    assert again.signature == pyramid.signature


@pytest.mark.parametrize("family", ["voxelfm", "fm-ct"])
def test_the_scan_embedding_is_the_token_of_the_whole_volume(family, volume, make_encoder):
    encoder = make_encoder(family)
    prepared = prepare(volume, encoder.input)
    sides = [-(-n // m) * m for n, m in zip(prepared.image.grid.size, encoder.input.multiple, strict=True)]
    (token,) = encoder.forward_features(to_tensor(prepared.image, encoder.input, tuple(sides)), ("cls",))
    torch.testing.assert_close(cb.embed(volume, encoder).scan_embedding, token[0])


def test_the_scan_embedding_of_ctfm_is_the_average_of_its_deepest_map(volume, make_encoder):
    pyramid = cb.embed(volume, make_encoder("ct-fm"), levels=["stage4", "stage5"])
    torch.testing.assert_close(pyramid.scan_embedding, pyramid.levels[-1].features.float().mean(dim=(1, 2, 3)))
    assert cb.embed(volume, make_encoder("ct-fm"), levels=["stage4"]).scan_embedding is None


def test_an_unknown_level_is_told(volume, make_encoder):
    with pytest.raises(EncoderError, match="has levels patches; asked for"):
        cb.embed(volume, make_encoder("voxelfm"), levels=["cls"])
