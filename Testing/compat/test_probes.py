"""Probes and bases that were saved before: read, and used on the scan they are of and on another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import CoralBayLib as cb

from . import homes, results

PROBES = ["probe", "mini_probe"]
TASKS = ["classify", "regress", "survive"]


def nearly_the_same(found: NDArray, expected: NDArray) -> None:
    """Labels, of which a few at borders may differ with the BLAS library."""
    assert found.dtype == expected.dtype
    assert (found != expected).sum() <= 0.05 * (expected > 0).sum()


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_is_what_it_was(name: str, old: Path, texts: dict[str, Any], same: Callable[..., None]) -> None:
    probe = cb.Probe.load(old / f"{name}.safetensors")
    expected = {key: value for key, value in texts[name].items() if key != "key"}
    assert results.about_probe(probe) == expected
    same(name, {f"memory.{part}": values for part, values in results.of_memory(probe).items()})


def test_a_probe_says_on_its_scan_what_it_said(old: Path, stored: Any, arrays: Any, same: Callable[..., None]) -> None:
    probe = cb.Probe.load(old / "probe.safetensors")
    same("probe", results.of_probe(probe, stored))
    labels = cb.segment(results.ct("a"), stored, probe.prompts_, probe=probe)
    nearly_the_same(labels.array, arrays["probe/here"])


def test_a_probe_is_adapted_to_another_scan_as_it_was(old: Path, pyramids: Any, arrays: Any) -> None:
    probe = cb.Probe.load(old / "probe.safetensors")
    labels = cb.segment(results.ct("b"), pyramids["b"], results.no_prompts(), probe=probe)
    nearly_the_same(labels.array, arrays["probe/there"])


def test_a_probe_of_the_mini_says_what_it_said(old: Path, mini: Any, small: Any, arrays: Any) -> None:
    probe = cb.Probe.load(old / "mini_probe.safetensors")
    # Its scan is embedded anew: in a store's steps of a byte, the last digits of the network make a difference.
    found, expected = results.of_probe(probe, small), dict(results.under(arrays, "mini_probe"))
    for name, values in found.items():
        assert values == pytest.approx(expected[name], abs=0.1)
    labels = cb.segment(results.ct("small"), small, probe.prompts_, probe=probe)
    nearly_the_same(labels.array, expected["here"])
    other = cb.segment(results.ct("b"), cb.embed(results.ct("b"), mini), results.no_prompts(), probe=probe)
    nearly_the_same(other.array, expected["there"])


@pytest.mark.parametrize("task", TASKS)
def test_a_scan_probe_says_what_it_said(
    task: str, old: Path, stored: Any, texts: dict[str, Any], arrays: Any, same: Callable[..., None]
) -> None:
    probe = homes.ScanProbe.load(old / f"scan_probe_{task}.safetensors")
    assert results.about_scan_probe(probe) == texts[f"scan_probe_{task}"]
    same(f"scan_probe_{task}", results.of_scan_probe(probe, arrays["scan_probe/vectors"], stored))


def test_colours_and_clusters_are_what_they_were(old: Path, stored: Any, arrays: Any) -> None:
    bases = [homes.FeatureProjection.load(old / f"{name}.safetensors") for name in ("colours", "clusters")]
    assert [basis.signature for basis in bases] == [stored.signature] * 2
    found = results.of_look(*bases, stored)
    assert found["colours"] == pytest.approx(arrays["look/colours"], abs=1)
    assert np.mean(found["clusters"] != arrays["look/clusters"]) < 0.005
