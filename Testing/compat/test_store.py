"""A stored embedding, and the encoder file of a user's own that it was made with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import CoralBayLib as cb

from .results import DATA, ct, of_features, of_pyramid


def test_the_encoder_file_is_as_its_user_wrote_it(texts: dict[str, Any]) -> None:
    """Keys hold its hash: a tool that edits or formats all files must leave it out."""
    assert hashlib.sha256((DATA / "own_encoder.py").read_bytes()).hexdigest() == texts["encoder"]["weights"]


def test_an_encoder_file_still_runs(own: Any, pyramids: dict, texts: dict[str, Any], same: Callable[..., None]) -> None:
    assert [own.name] == texts["encoder"]["names"]
    assert own.weights_sha256 == texts["encoder"]["weights"]
    assert own.name in [card.name for card in cb.encoder_cards()]
    same("features", of_features(pyramids["c"]))


def test_a_stored_embedding_is_read_as_it_was(stored: cb.FeaturePyramid, texts: dict[str, Any], same: Callable) -> None:
    expected = texts["store"]
    assert (stored.key, stored.identity, stored.signature) == (expected["key"], expected["identity"], expected["signature"])
    same("store", of_pyramid(stored), exact=True)


def test_a_stored_embedding_is_found(old: Path, own: Any, texts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("computed, not found")

    monkeypatch.setattr(own, "forward_features", refuse, raising=False)
    store = cb.Store(old / "store")
    assert [entry.key for entry in store.entries()] == [texts["store"]["key"]]
    assert cb.embed(ct("a"), own, store=store).key == texts["store"]["key"]


def test_what_is_computed_today_is_what_was_stored(own: Any, stored: cb.FeaturePyramid) -> None:
    fresh = cb.embed(ct("a"), own)
    assert (fresh.key, fresh.signature) == (stored.key, stored.signature)
    np.testing.assert_array_equal(fresh.image.array, stored.image.array)
    points = stored.basis.points_ras.numpy()[::10]
    # A byte a number is kept.
    assert np.abs((fresh.sample(points) - stored.sample(points)).numpy()).max() < 0.02


def test_the_mini_has_the_key_it_had(small: cb.FeaturePyramid, texts: dict[str, Any]) -> None:
    assert small.key == texts["mini_probe"]["key"]
    assert small.signature == texts["mini_probe"]["signature"]
