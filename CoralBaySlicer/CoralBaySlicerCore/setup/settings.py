"""Choices that belong to this computer rather than to a scene, kept in the application's settings."""

from __future__ import annotations

from pathlib import Path

import qt


def weights_file(encoder: str) -> str:
    """The path of the weights file that the user chose for an encoder, or ""."""
    return str(qt.QSettings().value(f"CoralBaySlicer/Weights/{encoder}") or "")


def set_weights_file(encoder: str, path: str) -> None:
    """Save the path of a weights file; "" for none."""
    qt.QSettings().setValue(f"CoralBaySlicer/Weights/{encoder}", path)


def weights_fingerprint(encoder: str) -> tuple[int, ...]:
    """Modification time (ns) and size (bytes) of the chosen weights file; empty when there is none."""
    file = weights_file(encoder)
    try:
        stat = Path(file).stat() if file else None
    except OSError:
        return ()
    return (stat.st_mtime_ns, stat.st_size) if stat else ()


def device() -> str:
    """The device that the user chose; "auto" by default."""
    return str(qt.QSettings().value("CoralBaySlicer/Device") or "auto")


def set_device(name: str) -> None:
    """Save the choice of a device."""
    qt.QSettings().setValue("CoralBaySlicer/Device", name)
