"""Fewer bootstrap samples than a user gets, since they take nearly all of the time."""

from __future__ import annotations

import pytest

from CoralBayLib.scan_probes import metrics


@pytest.fixture
def all_resamples() -> None:
    """For a test of the intervals: as many bootstrap samples as a user gets."""


@pytest.fixture(autouse=True)
def _few_resamples(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "all_resamples" not in request.fixturenames:
        monkeypatch.setattr(metrics, "RESAMPLES", 100)
