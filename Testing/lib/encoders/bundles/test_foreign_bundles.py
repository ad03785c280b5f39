"""Bundles that are foreign, damaged or dangerous are refused, and nothing changes."""

from __future__ import annotations

import zipfile

import pytest

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.encoders.management.bundle import MANIFEST, import_bundle
from Testing.lib.encoders.local_hub import CONTENT

from .conftest import PACKAGED, entry, files_under, rewritten

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
