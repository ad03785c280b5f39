"""Files of CoralBay and Slicer that are no scans: which kind they are, and whether they can be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import CoralBayError, ProbeError
from CoralBayLib.core.paths import error_message, printable
from CoralBayLib.core.tensor_files import kind_of, read_tensors
from CoralBayLib.imaging.formats import DICOM_SEGMENTATION_SUFFIX


@dataclass(frozen=True)
class OtherFile:
    """A file that is no scan.

    Attributes:
        path: of the file, as text that can be printed.
        text: what it is, in words.
        faults: why it cannot be used.
    """

    path: str
    text: str
    faults: tuple[CoralBayError, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The attributes in values that JSON can represent."""
        return {"path": self.path, "text": self.text, "faults": [fault.as_dict() for fault in self.faults]}


def inspect_other(path: Path) -> OtherFile | None:
    """What is known of a file that is no scan; None when its name is not that of such a file."""
    name = path.name.lower()
    if name.endswith(DICOM_SEGMENTATION_SUFFIX) and find_spec("highdicom") is None and _is_dicom_seg(path):
        return OtherFile(printable(path), "a DICOM segmentation; it was not checked, because that needs the package highdicom")
    found = next(((kind, read) for suffixes, kind, read in _KINDS if name.endswith(suffixes)), None)
    if found is None or not os.path.isfile(path):  # noqa: PTH113 - False for a name that no file can have
        return None
    kind, read = found
    try:
        return OtherFile(printable(path), read(path))
    except CoralBayError as error:
        return OtherFile(printable(path), kind, (error,))


def _is_dicom_seg(path: Path) -> bool:
    from CoralBayLib.imaging.segments.dicom_reader import is_dicom_seg

    return is_dicom_seg(path)


def _prompts(path: Path) -> str:
    from CoralBayLib.fewshot.prompt_io import read_prompts
    from CoralBayLib.fewshot.prompts import BACKGROUND

    prompts = read_prompts(path)
    described = []
    for label in (*prompts.structures, BACKGROUND):
        count, boxes = int((prompts.labels == label).sum()), sum(box.label == label for box in prompts.boxes)
        described.append(f"{prompts.name(label)} ({count}{', with a box' if boxes else ''})")
    return "prompts with points for " + ", ".join(described)


def _table(path: Path) -> str:
    from CoralBayLib.scan_probes.tables.rows import read_rows

    columns, rows = read_rows(path)
    return f"a table with {len(rows)} rows and the columns {', '.join(columns)}"


def _tensors(path: Path) -> str:
    """Files of tensors are told apart by their header; those of CoralBay have a checksum."""
    try:
        kind = kind_of(path)
    except (OSError, ValueError) as error:
        raise ProbeError(
            f"{printable(path.name)} cannot be read as safetensors ({error_message(error)}). Copy it again."
        ) from error
    if kind == "probe":
        from CoralBayLib.fewshot.probe import Probe

        return f"a probe for {', '.join(Probe.load(path).names_.values())}"
    if kind in ("scan probe", "attentive scan probe"):
        from CoralBayLib.scan_probes import load_scan_probe

        return f"a scan probe for {load_scan_probe(path).target}"
    if kind is None:
        return "tensors of another program, such as the weights of a network; they were not checked"
    read_tensors(path, kind)
    return f"a file of CoralBay of the kind '{kind}'"


_KINDS: tuple[tuple[tuple[str, ...], str, Callable[[Path], str]], ...] = (
    ((".json", ".fcsv"), "prompts", _prompts),
    ((".csv", ".tsv"), "a table", _table),
    ((".safetensors",), "a file of tensors", _tensors),
)
"""By suffixes: what such a file is, and the function that reads and describes it."""
