"""The commands that are killed, what each writes, and how its results are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from CoralBayLib.library import Library
from CoralBayLib.library.tables import Tables

from .inputs import BUNDLED, INSTALLED

ENCODER = ("--encoder", "pooling", "--encoder-file", str(Path(__file__).with_name("encoder_file.py")))
State = dict[str, Any]
"""Results by name; each is comparable, and absent while there is none."""


@dataclass(frozen=True)
class Verb:
    """A command that is killed.

    Attributes:
        name: for the table of results.
        before: commands that are run first; their results must survive everything.
        command: the command itself.
        results: of a working folder: all that was finished, by name.
        replaced: names of results of `before` that the command writes anew.
        next_status: exit statuses that the next run may have; 1 where scans that are done already are left out, in words.
    """

    name: str
    before: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]
    results: Callable[[Path], State]
    replaced: tuple[str, ...] = ()
    next_status: tuple[int, ...] = (0,)


def make_verbs(inputs: Path, work: Path) -> list[Verb]:
    """All commands.

    Args:
        inputs: the folder of `make_inputs`.
        work: where the commands write; the cache is in it, too.
    """
    first, scans = inputs / "first" / "first.nrrd", inputs / "scans"
    last = str(sorted(scans.iterdir())[-1])
    segmentation = ("segment", str(first), "--prompts", str(inputs / "prompts.json"), *ENCODER, "--no-cache")
    outputs = ("-o", f"{work}/out.seg.nrrd", "--save-probe", f"{work}/probe.safetensors")
    add = ("library", "add", *ENCODER, "--library", f"{work}/library")
    fit = ("scans", "fit", str(inputs / "table.csv"), "--target", "finding", "--task", "classification", *ENCODER)
    folder = ("segment", str(scans), "--probe", str(inputs / "probe.safetensors"), "--output", str(work), *ENCODER)
    earlier = ("segment", str(first), "--probe", str(inputs / "probe.safetensors"), "-o", f"{work}/earlier.seg.nrrd", *ENCODER)
    return [
        Verb("embed", (("embed", str(first), *ENCODER),), ("embed", last, *ENCODER), _files),
        Verb("segment", ((*segmentation, *outputs, "--threshold", "0.9"),), (*segmentation, *outputs), _files, _OUTPUTS),
        Verb("segment a folder", (earlier,), folder, _files, next_status=(0, 1)),
        Verb("library add", ((*add, str(first)),), (*add, str(scans)), _library),
        Verb(
            "weights import",
            (("weights", "import", str(inputs / f"{INSTALLED}.zip")),),
            ("weights", "import", str(inputs / f"{BUNDLED}.zip")),
            _files,
        ),
        Verb("scans fit", (("embed", str(first), *ENCODER),), (*fit, "--folds", "2", "-o", f"{work}/fit"), _files),
    ]


_OUTPUTS = ("out.seg.nrrd", "probe.safetensors")


def file_names(folder: Path) -> set[str]:
    """All files below a folder, hidden ones too, except those inside LanceDB's tables."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if not any(part.endswith(".lance") for part in path.parts)}


def _files(folder: Path) -> State:
    """The SHA-256 of every file that is not hidden."""
    names = [name for name in file_names(folder) if not any(part.startswith(".") for part in name.split("/"))]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def _library(folder: Path) -> State:
    """The rows of every scan of the library, and the stored embeddings."""
    state = _files(folder / "cache")
    library = Library(folder / "library")
    for record in library.scans():
        tables = Tables(library.storage, record.encoder)
        rows = tables.regions.read(where=f"scan = '{record.scan}'")
        vectors = np.array(rows["vector"].to_pylist(), np.float16)
        assert len(vectors) == record.regions, f"{record.path} has {len(vectors)} of {record.regions} regions"
        state[record.path] = (record.scan, record.fingerprint, hashlib.sha256(vectors.tobytes()).hexdigest())
    return state


def library_faults(folder: Path) -> list[str]:
    """What is wrong with a library that no command works on: its own report, and files that no state of a table names."""
    root = folder / "library"
    if not root.is_dir():
        return []
    faults = [f"{issue.kind}: {issue.text}" for issue in Library(root).verify()]
    for table in root.glob("*.lance"):
        states = b"".join(path.read_bytes() for path in (table / "_versions").iterdir())
        files = [*(table / "data").iterdir(), *(table / "_transactions").iterdir()]
        faults += [f"{path.relative_to(root)} belongs to nothing" for path in files if path.name.encode() not in states]
    return faults
