"""Choices that belong to this computer rather than to a scene, kept in the application's settings."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import qt


@cache
def read(key: str) -> str:
    """The text under a key of the application's settings, or ""; read once, because every click asks for some."""
    return str(qt.QSettings().value(key) or "")


def write(key: str, text: str) -> None:
    """Save a text under a key of the application's settings."""
    qt.QSettings().setValue(key, text)
    read.cache_clear()


def read_again() -> None:
    """Have the settings read again, as after they were changed elsewhere."""
    read.cache_clear()


def weights_file(encoder: str) -> str:
    """The path of the weights file that the user chose for an encoder, or ""."""
    return read(f"CoralBaySlicer/Weights/{encoder}")


def set_weights_file(encoder: str, path: str) -> None:
    """Save the path of a weights file; "" for none."""
    write(f"CoralBaySlicer/Weights/{encoder}", path)


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
    return read("CoralBaySlicer/Device") or "auto"


def set_device(name: str) -> None:
    """Save the choice of a device."""
    write("CoralBaySlicer/Device", name)
