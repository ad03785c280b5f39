"""Uses with a fault of each kind, which show that the run sees it. They are no kinds of input of CoralBay."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .kinds import Build, Input


def _faulty(fault: Callable[[Path], Any]) -> Build:
    """An input whose use is right as long as its file is whole."""

    def build(folder: Path) -> Input:
        path, whole = folder / "file", b"whole" * 9
        path.write_bytes(whole)
        return Input([path], lambda: fault(path) if path.read_bytes() != whole else 1, vouched=lambda _path: 0)

    return build


def _raise(error: BaseException) -> None:
    raise error


def _hungry(_path: Path) -> int:
    return len(b"\1" * (2 << 30))


FAULTY: dict[str, Build] = {
    "faulty: none": _faulty(lambda _path: 1),
    "faulty: exception": _faulty(lambda _path: _raise(KeyError("x"))),
    "faulty: exit": _faulty(lambda _path: _raise(SystemExit(0))),
    "faulty: silent": _faulty(lambda _path: 2),
    "faulty: abort": _faulty(lambda _path: os.abort()),
    "faulty: hang": _faulty(lambda _path: time.sleep(1000)),
    "faulty: memory": _faulty(_hungry),
    "faulty: stray": _faulty(lambda path: path.with_name("stray").write_text("x") and 1),
    "faulty: other file": _faulty(lambda path: (path.parents[1] / "home" / "x").write_text("x") and 1),
    "faulty: code": _faulty(lambda _path: os.system("true") or 1),
    "faulty: outside": _faulty(lambda path: path.parents[2].joinpath("coralbay-fuzz-outside").mkdir(exist_ok=True) or 1),
}
