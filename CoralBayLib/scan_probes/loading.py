"""Saving and loading of a scan probe of any kind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from CoralBayLib.core.tensor_files import kind_of

from .model import ScanProbe
from .probes.attentive import KIND, AttentiveProbe

AnyProbe: TypeAlias = ScanProbe | AttentiveProbe


def save_scan_probe(probe: AnyProbe, path: str | os.PathLike) -> None:
    """Write a probe with the features and the target that it has as attributes.

    Raises:
        StoreError: the file could not be written; a file that existed before is unchanged.
    """
    if isinstance(probe, AttentiveProbe):
        probe.save(path, probe.signature, probe.target)
    else:
        probe.save(path, probe.signature, probe.pooled, probe.target)


def load_scan_probe(path: str | os.PathLike) -> AnyProbe:
    """Read a probe that `save` of one of the kinds wrote.

    Raises:
        ProbeError: the file is missing, damaged or not a scan probe.
    """
    try:
        kind = kind_of(Path(path))
    except (OSError, ValueError):
        kind = None  # `ScanProbe.load` says what is wrong
    return AttentiveProbe.load(path) if kind == KIND else ScanProbe.load(path)
