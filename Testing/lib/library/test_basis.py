"""Damage to the basis of a library is found, and repaired from the copy in its file."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from safetensors.torch import load, save

import CoralBayLib as cb
from CoralBayLib.core.errors import LibraryError, Remedy
from Testing.lib.conftest import PoolingEncoder

from .conftest import CENTRE, make_scan

pytestmark = pytest.mark.slow

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")

KEY = "coralbay.library-basis"


def edited(data, change, tensors=lambda tensors: tensors):
    """The content of a basis file with another header or other tensors, and the checksum that it had."""
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    metadata[KEY] = json.dumps(change(json.loads(metadata[KEY])))
    return save(tensors(load(data)), metadata=metadata)


def same(header):
    return header


def scaled(tensors):
    projection = tensors["projection"].clone()
    projection[0, 0] *= 1000
    return tensors | {"projection": projection}


def not_finite(tensors):
    return tensors | {"offset": tensors["offset"] * float("nan")}


DAMAGE = {
    "signature": lambda data: edited(data, lambda header: header | {"signature": "x"}),
    "levels": lambda data: edited(data, lambda header: header | {"levels": ["s4"]}),
    "null": lambda data: edited(data, lambda header: None),
    "one number": lambda data: edited(data, same, scaled),
    "not finite": lambda data: edited(data, same, not_finite),
    "no header": lambda data: data[:60] + b"\0" * 20 + data[80:],
    "no length": lambda data: b"\xff" * 8 + data[8:],
    "the copy's type": lambda data: data.replace(b'"U8"', b'"F8_E4M3"')[:8] + data[8:].replace(b'"U8"', b'"XX"', 1),
    "bytes inserted": lambda data: data[:900] + b"12345" + data[900:],
    "end lost": lambda data: data[:-300],
    "bytes appended": lambda data: data + b"12345",
    "the copy": lambda data: data[:-5] + bytes([data[-5] ^ 0x10]) + data[-4:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_repaired(filled, damage):
    path = filled.storage.root / "pooling.basis.safetensors"
    scan = cb.embed(make_scan("a", "axial"), PoolingEncoder((4, 8)))
    expected = [hit.ras for hit in filled.search_regions(scan, cb.Query.point(CENTRE), k=3)]
    assert filled.verify() == []
    written = path.read_bytes()
    path.write_bytes(DAMAGE[damage](written))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = [hit.ras for hit in filled.search_regions(scan, cb.Query.point(CENTRE), k=3)]
    assert np.array_equal(found, expected)
    assert any("The copy in the same file is used" in str(warning.message) for warning in told) == (damage != "the copy")
    assert [(issue.kind, issue.remedy) for issue in filled.verify()] == [("basis", Remedy.REPAIR_LIBRARY)]
    assert [(issue.kind, issue.repaired) for issue in filled.verify(repair=True)] == [("basis", True)]
    assert path.read_bytes() == written
    assert filled.verify() == []
    assert len(filled.scans()) == 3


def test_parts_that_do_not_fit_are_found_without_a_checksum(filled):
    """Version 0.1.0 wrote no checksum and no copy."""
    path = filled.storage.root / "pooling.basis.safetensors"
    data = path.read_bytes()

    def as_before(**change):
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        tensors = {name: tensor for name, tensor in load(data).items() if name != "copy"}
        return save(tensors, metadata={KEY: json.dumps(json.loads(metadata[KEY]) | change)})

    path.write_bytes(as_before())
    assert filled.verify() == []
    scan = cb.embed(make_scan("a", "axial"), PoolingEncoder((4, 8)))
    for change in ({"signature": "x"}, {"levels": ["s4"]}, {"identity": {"encoder": "pooling"}}):
        path.write_bytes(as_before(**change))
        assert [issue.kind for issue in filled.verify()] == ["basis"]
        with pytest.raises(LibraryError, match="basis is damaged"):
            filled.search_regions(scan, cb.Query.point(CENTRE))
