"""Bundles of weights: what goes in comes out, and nothing else does."""

from __future__ import annotations

import errno
import io
import json
import shutil
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from CoralBayLib.core.errors import Cancelled, EncoderError, StoreError, WeightsError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.encoders.management.bundle import MANIFEST, export_bundle, import_bundle, trust_note
from CoralBayLib.encoders.management.manager import fetch
from CoralBayLib.encoders.weights import WeightsSource, find_weights
from CoralBayLib.encoders.weights import cache as cache_module
from Testing.lib.encoders.local_hub import CONTENT, SHA256, SOURCE, put_in_cache

from .conftest import PACKAGED, entry, files_under, rewritten


def test_what_is_exported_is_found_after_the_import_elsewhere(bundle, other_machine, tmp_path):
    with zipfile.ZipFile(bundle) as archive:
        assert sorted(archive.namelist()) == [MANIFEST, "coralbay/model.safetensors", "packed/packed.pt"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        manifest = {each["encoder"]: each for each in json.loads(archive.read(MANIFEST))["weights"]}
    assert manifest["coralbay"] == {
        "encoder": "coralbay",
        "repo": "some/model",
        "revision": "a" * 40,
        "file": "model.safetensors",
        "sha256": SHA256,
        "bytes": len(CONTENT),
        "licence": "MIT",
        "licence_text": "",
    }
    assert manifest["packed"]["licence_text"] == "Permission is hereby granted."
    other_machine()
    with pytest.raises(WeightsError):
        find_weights(SOURCE)
    told = []
    records = import_bundle(bundle, lambda fraction, message: told.append(fraction))
    assert [record.encoder for record in records] == ["coralbay", "packed"]
    assert told[-1] == 1.0
    found = find_weights(SOURCE)
    assert found.path == tmp_path / "other/weights/coralbay/model.safetensors"
    assert found.path.read_bytes() == CONTENT
    assert found.origin == "hub some/model@aaaaaaaaaaaa"
    assert fetch("packed").path.read_bytes() == PACKAGED
    assert files_under(tmp_path / "other") == ["model.safetensors", "packed.pt", "weights.json", "weights.json"]
    # And on from there, with the licence's text.
    export_bundle(tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_only_what_is_wanted_is_imported(bundle, other_machine, tmp_path):
    other_machine()
    with pytest.raises(WeightsError, match="has no weights of 'mini'; it has those of coralbay, packed"):
        import_bundle(bundle, encoders=["packed", "mini"])
    assert files_under(tmp_path / "other") == []
    # One that cannot be used here does not keep others from being imported.
    foreign = rewritten(bundle, lambda m: entry(m, revision="b" * 40))
    with pytest.raises(WeightsError, match="name the encoders whose weights you want"):
        import_bundle(foreign)
    assert [record.encoder for record in import_bundle(foreign, encoders=["packed"])] == ["packed"]
    assert files_under(tmp_path / "other") == ["packed.pt", "weights.json"]


def test_the_licence_told_is_ours_and_not_the_bundles(bundle, other_machine, tmp_path):
    claim = {"licence": "do what you like"}
    other_machine()
    records = import_bundle(rewritten(bundle, lambda m: [each.update(claim) for each in m["weights"]]))
    assert [record.licence for record in records] == ["MIT", "MIT"]
    assert "do what you like" not in "".join(
        path.read_text(encoding="utf-8") for path in (tmp_path / "other").rglob("weights.json")
    )


def test_whose_word_the_sha256_is_is_told(bundle, other_machine):
    other_machine()
    records = {record.encoder: record for record in import_bundle(bundle)}
    assert trust_note(list(records.values())).startswith(
        "The weights of coralbay were verified only against the SHA-256 in the bundle"
    )
    assert trust_note([records["packed"]]) == ""


def test_an_import_waits_for_no_one_and_changes_nothing_meanwhile(bundle, other_machine, tmp_path):
    other_machine()
    with (
        cache_module.locked(cache_module.make_folder("packed").name),
        pytest.raises(WeightsError, match="Another CoralBay .* 'packed'"),
    ):
        import_bundle(bundle)
    assert files_under(tmp_path / "other") == []


def test_exporting_by_name(cache, tmp_path):
    put_in_cache(cache)
    assert [record.encoder for record in export_bundle(tmp_path / "one.zip", ["coralbay"])] == ["coralbay"]
    with pytest.raises(EncoderError, match="no encoder 'nope'"):
        export_bundle(tmp_path / "two.zip", ["nope"])
    for name, words in [("mini", "come with CoralBay"), ("own", "manages its weights itself")]:
        with pytest.raises(WeightsError, match=words):
            export_bundle(tmp_path / "two.zip", [name])
    assert not (tmp_path / "two.zip").exists()


def test_weights_that_are_missing_or_damaged_are_not_exported(cache, tmp_path, encoders):
    with pytest.raises(WeightsError, match="'coralbay' cannot be exported: .*does not hold the file"):
        export_bundle(tmp_path / "w.zip", ["coralbay"])
    put_in_cache(cache, content=b"damaged")
    with pytest.raises(WeightsError, match="damaged copy"):
        export_bundle(tmp_path / "w.zip", ["coralbay"])
    encoders.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="packed.pt is damaged"):
        export_bundle(tmp_path / "w.zip", ["packed"])
    with pytest.raises(WeightsError, match="no weights on this computer"):
        export_bundle(tmp_path / "w.zip")
    assert not (tmp_path / "w.zip").exists()


def test_an_export_that_is_cancelled_or_cannot_be_written_leaves_nothing(cache, tmp_path, monkeypatch):
    put_in_cache(cache)
    cancel = CancelToken()
    with pytest.raises(Cancelled):
        export_bundle(tmp_path / "w.zip", None, lambda *_: cancel.cancel(), cancel)
    with pytest.raises(StoreError, match="does not exist"):
        export_bundle(tmp_path / "nowhere" / "w.zip")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6, 0))
    with pytest.raises(WeightsError, match=r"too full: 1\.0 MB are needed"):
        export_bundle(tmp_path / "w.zip")
    assert not list(tmp_path.glob("*.zip"))


def test_an_import_that_is_cancelled_changes_nothing(bundle, other_machine, tmp_path):
    other_machine()
    cancel = CancelToken()
    with pytest.raises(Cancelled):
        import_bundle(bundle, lambda *_: cancel.cancel(), cancel)
    assert files_under(tmp_path / "other") == []


def test_an_import_needs_room_on_the_disk(bundle, other_machine, tmp_path, monkeypatch):
    other_machine()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6, 1000))
    with pytest.raises(WeightsError, match="too full"):
        import_bundle(bundle)
    assert files_under(tmp_path / "other") == []


def test_a_disk_that_fills_up_during_an_import_is_told_and_leaves_what_was_there(bundle, other_machine, tmp_path, monkeypatch):
    other_machine()
    import_bundle(bundle)
    here = {path: path.read_bytes() for path in (tmp_path / "other").rglob("*") if path.is_file()}

    class FullDisk(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", **k: (FullDisk if mode == "wb" else real)(path, mode, **k))
    with pytest.raises(WeightsError, match=r"The disk is full.* 1\.0 MB are needed there.*Existing weights are unchanged"):
        import_bundle(bundle)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in (tmp_path / "other").rglob("*") if path.is_file()} == here


def test_an_import_replaces_a_damaged_copy(bundle, other_machine):
    other_machine()
    import_bundle(bundle)
    path = find_weights(SOURCE).path
    path.write_bytes(b"x" * len(CONTENT))
    with pytest.raises(WeightsError, match="CoralBay's folder: holds a damaged copy"):
        find_weights(SOURCE)
    import_bundle(bundle)
    assert find_weights(SOURCE).path.read_bytes() == CONTENT


def test_another_revision_in_our_folder_does_not_count(bundle, other_machine):
    other_machine()
    import_bundle(bundle)
    later = WeightsSource("coralbay", "some/model", "model.safetensors", "b" * 40, "CORALBAY_WEIGHTS", "MIT")
    with pytest.raises(WeightsError, match=f"holds revision {'a' * 40} of some/model"):
        find_weights(later)


@pytest.mark.parametrize("record", ["", "[]", "{}", "[" * 100_000, None], ids=["empty", "list", "object", "deep", "none"])
def test_a_damaged_record_in_our_folder_does_not_count(bundle, other_machine, record):
    other_machine()
    import_bundle(bundle)
    beside = find_weights(SOURCE).path.with_name("weights.json")
    beside.write_text(record) if record is not None else beside.unlink()
    with pytest.raises(WeightsError, match="does not hold the file" if record is None else "cannot be read"):
        find_weights(SOURCE)
