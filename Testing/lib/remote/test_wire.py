"""The request of a job and the parts of voxels: exact both ways, and strict."""

from __future__ import annotations

import json

import numpy as np
import pytest

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.features.identity import content_hash
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.remote import wire
from CoralBayLib.remote.wire import PART_VOXELS, JobRequest, versions, voxel_type


def _request(volume: Volume, **changes) -> JobRequest:
    fields = {
        "versions": versions(),
        "key": "0" * 64,
        "encoder": "pooling",
        "setting": "",
        "weights": "0" * 64,
        "levels": ["pool4"],
        "shape": list(volume.grid.shape),
        "ijk_to_ras": volume.grid.ijk_to_ras.tolist(),
        "dtype": voxel_type(volume.array),
    }
    return JobRequest(**{**fields, **changes})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-1024, 0, 3071], "<i2"),
        ([-32768.0, 0.0, 32767.0], "<i2"),
        ([0.0, 0.5, 1.0], "<f4"),
        ([0.0, 32768.0, 1.0], "<f4"),
        ([-0.0, 1.0, 2.0], "<f4"),
    ],
)
def test_the_smallest_type_that_keeps_the_hash(values, expected, monkeypatch):
    monkeypatch.setattr(wire, "PART_VOXELS", 10)
    grid = Grid((3, 3, 3), np.eye(4))
    volume = Volume(np.array(values * 9).reshape(3, 3, 3), grid)
    assert voxel_type(volume.array) == expected
    request = _request(volume)
    parts = [request.encode_part(volume, n) for n in range(request.parts)]
    assert len(parts) == 3
    received = np.concatenate([request.decode_part(part, n) for n, part in enumerate(parts)]).reshape(3, 3, 3)
    assert content_hash(Volume(received, grid), {}, ()) == content_hash(volume, {}, ())
    with pytest.raises(ValueError, match="part|shape"):
        request.decode_part(parts[0], 2)


def test_numbers_of_64_bits_are_hashed_and_sent_alike():
    volume = Volume(np.random.default_rng(0).normal(0, 300, (2, 3, 4)), Grid((2, 3, 4), np.eye(4)))
    request = _request(volume)
    received = request.decode_part(request.encode_part(volume, 0), 0).reshape(2, 3, 4)
    assert np.array_equal(received, volume.array.astype(np.float32))


def test_what_cannot_be_compressed_fits_into_a_part():
    array = np.random.default_rng(0).integers(-32768, 32767, (2, 1024, 1024), np.int16)
    volume = Volume(array, Grid(array.shape, np.eye(4)))
    request = _request(volume)
    assert request.parts == 1 and request.voxels == PART_VOXELS
    assert len(request.encode_part(volume, 0)) <= request.most_part_bytes()


def test_a_request_survives_json_to_the_last_bit(make_grid, make_phantom):
    volume = make_phantom(make_grid("oblique"))
    request = JobRequest.from_json(json.loads(json.dumps(_request(volume).as_json())))
    assert np.array_equal(request.grid().ijk_to_ras, volume.grid.ijk_to_ras)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": "../../x"}, "'key' is damaged"),
        ({"key": 5}, "'key' is damaged"),
        ({"shape": [3, 3]}, "'shape' is damaged"),
        ({"shape": [3, 3, 10**9]}, "'shape' is damaged"),
        ({"shape": [1, 3, 3]}, "'shape' is damaged"),
        ({"ijk_to_ras": [[float("nan")] * 4] * 4}, "'ijk_to_ras' is damaged"),
        ({"ijk_to_ras": np.zeros((4, 4)).tolist()}, "IJK-to-RAS"),
        ({"dtype": "O"}, "'dtype' is damaged"),
        ({"levels": []}, "'levels' is damaged"),
        ({"versions": {}}, "'versions' is damaged"),
        ({"assume_hu": 1}, "'assume_hu' is damaged"),
        ({"patient": "Smith"}, "unknown field 'patient'"),
    ],
)
def test_damaged_requests_are_refused(change, words):
    volume = Volume(np.zeros((3, 3, 3), np.int16), Grid((3, 3, 3), np.eye(4)))
    with pytest.raises((ValueError, VolumeError), match=words):
        JobRequest.from_json(_request(volume).as_json() | change)


@pytest.mark.parametrize("content", [None, 3, "x", [], {}])
def test_what_is_no_request_is_refused(content):
    with pytest.raises(ValueError, match="header|lacks"):
        JobRequest.from_json(content)
