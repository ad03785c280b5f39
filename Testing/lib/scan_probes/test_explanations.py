"""Saliency maps of scan probes, and the stability of scan embeddings."""

from __future__ import annotations

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib import scan_probes
from CoralBayLib.core.errors import ProbeError, ScansError


@pytest.fixture
def study(make_grid, make_phantom, pooling, tmp_path):
    """Scans with and without a bright ball, and their probe."""
    ball = [([12, -30, 45], 10.0, 600.0)]
    volumes = [make_phantom(make_grid("oblique"), ball if n % 2 else [], seed=n) for n in range(8)]
    encoder = pooling()
    paths = []
    for n, volume in enumerate(volumes):
        paths.append(tmp_path / f"{n}.nrrd")
        cb.write_volume(volume, paths[-1])
    embeddings = scan_probes.embed_scans(paths, encoder)
    values = ["ball" if n % 2 else "none" for n in range(8)]
    probe = scan_probes.ScanProbe(0.1).fit(embeddings.vectors, scan_probes.Labels.of("classification", values, range(8)))
    probe.save(tmp_path / "probe.safetensors", embeddings.signature, embeddings.pooled, "ball")
    return volumes, encoder, embeddings, scan_probes.ScanProbe.load(tmp_path / "probe.safetensors"), paths


def test_averages_of_the_map_are_the_prediction(study):
    volumes, encoder, embeddings, probe, _ = study
    pyramid = cb.embed(volumes[1], encoder)
    weights = np.split(probe.weights_[0], np.cumsum([channels for _, channels in probe.pooled])[:-1])
    total = sum(
        float((w @ level.features.float().numpy().reshape(level.channels, -1)).mean())
        for w, level in zip(weights, pyramid.levels, strict=True)
    )
    logit = probe.decision_function(embeddings.vectors[1:2])[0, 0]
    assert total + probe.bias_[0] == pytest.approx(logit, abs=2e-3 * max(1, abs(logit)))
    assert probe.decision_function(probe.mean_[None])[0, 0] == pytest.approx(probe.weights_[0] @ probe.mean_ + probe.bias_[0])


def test_the_location_that_separates_the_classes_is_salient(study):
    volumes, encoder, _, probe, _ = study
    assert probe.classes_ == ["ball", "none"]
    pyramid = cb.embed(volumes[1], encoder)
    saliency = scan_probes.saliency_map(pyramid, probe)
    at_ball = saliency.nearest_values(np.array([[12.0, -30.0, 45.0]]))[0]
    assert at_ball < np.percentile(saliency.array[pyramid.body.array > 0], 2)
    assert saliency.grid.same_as(pyramid.grid)


def test_saliency_of_other_features_is_refused(study, pooling):
    volumes, _, _, probe, _ = study
    with pytest.raises(ProbeError, match="another encoder"):
        scan_probes.saliency_map(cb.embed(volumes[0], pooling(strides=(2, 4))), probe)
    probe.pooled = ()
    with pytest.raises(ProbeError, match="not an average"):
        scan_probes.saliency_map(cb.embed(volumes[0], pooling()), probe)


def test_scans_that_cannot_be_read_are_left_out_and_named(study, tmp_path):
    _, encoder, _, _, paths = study
    (tmp_path / "broken.nrrd").write_bytes(b"no image")
    embeddings = scan_probes.embed_scans([tmp_path / "broken.nrrd", paths[0], tmp_path / "gone.nrrd"], encoder)
    assert embeddings.rows.tolist() == [1]
    # With the folder, because the scans of a study often have the same file name.
    assert [skipped.scan for skipped in embeddings.left_out] == [tmp_path / name for name in ("broken.nrrd", "gone.nrrd")]
    assert all(str(skipped).startswith(f"{skipped.scan}: ") for skipped in embeddings.left_out)
    with pytest.raises(ScansError, match="None of the scans"):
        scan_probes.embed_scans([tmp_path / "gone.nrrd"], encoder)


def test_small_changes_hardly_change_the_embedding(study):
    volumes, encoder, *_ = study
    cosines = scan_probes.stability(volumes[1], encoder)
    assert len(cosines) == 3
    assert all(0.9 < cosine <= 1 + 1e-6 for cosine in cosines.values())
    assert min(cosines.values()) < 1 - 1e-9
