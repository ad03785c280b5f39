"""Scans become arrays at the encoder's spacing, or are left out with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from CoralBayLib.core.errors import TrainingError
from CoralBayLib.imaging.discovery import find_scans
from CoralBayLib.pretraining.settings import Settings
from CoralBayLib.pretraining.views.dataset import Batches, ViewDataset
from CoralBayLib.pretraining.views.scans import Preparation, load_prepared, prepare_all

SETTINGS = Settings(global_size=64, local_size=48, local_crops=2, batch=4, steps=3)


@pytest.fixture
def prepared(scans, tmp_path):
    folder = tmp_path / "prepared"
    folder.mkdir()
    found, _ = find_scans([scans])
    return folder, list(prepare_all(found, Preparation(folder, 3.0, 144.0)))


def test_each_scan_is_prepared_or_left_out_with_the_reason(prepared):
    _, made = prepared
    reasons = {each.path.rsplit("/", 1)[-1]: each.reason for each in made}
    assert reasons["ct0.nii.gz"] == reasons["ct1.nii.gz"] == ""
    assert "too small" in reasons["small.nrrd"] and "144 mm" in reasons["small.nrrd"]
    assert reasons["damaged.nrrd"]


def test_a_prepared_scan_has_the_spacing_and_the_place_of_the_patient(prepared):
    folder, made = prepared
    scan = load_prepared(folder, next(each.key for each in made if each.path.endswith("ct0.nii.gz")))
    np.testing.assert_allclose(scan.grid.spacing_mm, 3.0)
    assert scan.grid.directions == "RAS"
    bright = scan.hu[tuple(scan.grid.nearest_ijk([[20.0, 10.0, 5.0]])[0][::-1])]
    assert 380 < bright < 450
    at_points = scan.hu[tuple(scan.points[:, ::-1].T)]
    assert len(at_points) == 4096 and np.mean(at_points > -600) > 0.9


def test_it_is_not_prepared_again(prepared, scans):
    folder, made = prepared
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = list(prepare_all(find_scans([scans])[0], Preparation(folder, 3.0, 144.0)))
    assert again == made
    assert times == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_damaged_prepared_scan_is_named(prepared):
    folder, made = prepared
    key = next(each.key for each in made if each.key)
    (folder / f"{key}.npy").write_bytes(b"")
    with pytest.raises(TrainingError, match=key):
        load_prepared(folder, key)


def test_examples_depend_on_their_number_only_and_use_every_scan(prepared):
    folder, made = prepared
    keys = [each.key for each in made if each.key]
    one, other = ViewDataset(folder, keys, SETTINGS), ViewDataset(folder, keys, SETTINGS)
    whole, local = one[5]
    assert whole.shape == (2, 1, 64, 64, 64) and local.shape == (2, 1, 48, 48, 48)
    other[0]
    assert (other[5][0] == whole).all() and (other[5][1] == local).all()
    assert not (one[6][1] == local).all()
    assert {one._scan(n) for n in (0, 1)} == {one._scan(n) for n in (6, 7)} == {0, 1}


def test_devices_share_a_batch_and_a_later_start_goes_on():
    alone = list(Batches(SETTINGS))
    assert alone == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert list(Batches(SETTINGS, start=1)) == alone[1:]
    halves = [list(Batches(SETTINGS, device=device, devices=2)) for device in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == alone
