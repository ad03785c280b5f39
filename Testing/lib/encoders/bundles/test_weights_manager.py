"""Weights on this computer: listing, deleting and fetching."""

from __future__ import annotations

import json
import shutil

import pytest

from CoralBayLib.core.errors import EncoderError, WeightsError
from CoralBayLib.encoders import load_encoder
from CoralBayLib.encoders.management.manager import delete, fetch, state, states
from CoralBayLib.encoders.weights import sha256_of
from Testing.lib.encoders.local_hub import CONTENT, SHA256, put_in_cache

from .conftest import PACKAGED


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
