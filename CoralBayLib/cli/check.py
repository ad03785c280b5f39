"""`coralbay check`: what is known of scans, and what is wrong with them, without computing anything."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.core.errors import CoralBayError, VolumeError
from CoralBayLib.core.formatting import format_file_size
from CoralBayLib.core.paths import expand, printable
from CoralBayLib.imaging.formats import SEGMENTATION_SUFFIX

from .console import Console
from .options import Common
from .other_files import OtherFile, inspect_other
from .remedies import remedy_text

if TYPE_CHECKING:
    from CoralBayLib.imaging.discovery import ScanSource, Skipped
    from CoralBayLib.imaging.facts import FileFacts
    from CoralBayLib.imaging.grid import Grid
    from CoralBayLib.imaging.inspection import ScanReport

_LEAST_ANGLE_DEG = 0.1
"""Smaller angles come from rounding."""


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        parents=[common.output],
        help="report format, geometry and faults of scans, without computing anything",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="FILE|FOLDER",
        help="image files, folders with scans in them, folders of DICOM slices; also segmentations, prompts, probes and tables",
    )
    parser.add_argument(
        "--assume-hu", action="store_true", help="skip the check that the values look like Hounsfield units (HU)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay check`; status 1 when a file has a fault."""
    scans: list[ScanReport] = []
    others: list[OtherFile] = []
    for found in _inspect(args.paths, args.assume_hu):
        faults: tuple[CoralBayError, ...] = found.faults
        if isinstance(found, OtherFile):
            others.append(found)
            lines = [f"Read as {found.text}." if faults else f"Not a scan: {found.text}."]
        else:
            scans.append(found)
            lines = _describe(found)
        for fault in faults:
            advice = remedy_text(fault, vars(args))
            lines.append(f"Fault: {fault} {advice}".rstrip())
        console.result(f"{'FAULT' if faults else 'ok   '}  {found.path}")
        for line in lines:
            console.result("       " + line.replace("\n", "\n       "))
    faulty = sum(bool(report.faults) for report in scans) + sum(bool(other.faults) for other in others)
    usable = sum(report.kind == "scan" and not report.faults for report in scans)
    rest = len(scans) + len(others) - usable - faulty
    console.result(f"Scans that can be used: {usable}. Other files: {rest}. With a fault: {faulty}.")
    return {
        "usable_scans": usable,
        "other_files": rest,
        "faulty": faulty,
        "scans": [report.as_dict() for report in scans],
        "others": [other.as_dict() for other in others],
        "exit_status": int(faulty > 0),
    }


def _inspect(paths: Iterable[str], assume_hu: bool) -> Iterator[ScanReport | OtherFile]:
    """The reports on files and on all that folders contain, each file once."""
    from CoralBayLib.imaging.discovery import Skipped, iter_scans
    from CoralBayLib.imaging.inspection import ScanReport

    seen: set[str] = set()
    for each in paths:
        path = expand(each)
        if (other := _guarded(path, inspect_other)) is not None:
            yield other
            continue
        sources: set[str] = set()
        for source in iter_scans([path]):
            sources.add(source.path)
            if source.path in seen:
                continue
            seen.add(source.path)
            # A scout beside the only series of its folder is told of in the report on that series.
            if not isinstance(source, Skipped) or source.is_fault or source.path.lower().endswith(SEGMENTATION_SUFFIX):
                yield _inspect_source(source, _as_given(source.path, path), assume_hu)
            elif str(Path(source.path).parent) not in sources:
                yield OtherFile(printable(_as_given(source.path, path)), source.reason.rstrip("."))
        if not sources:
            nothing = VolumeError("There are no scans in this folder. Choose one with NRRD, NIfTI, MetaImage or DICOM files.")
            yield ScanReport(printable(path), faults=(nothing,))


def _as_given(found: str, path: Path) -> str:
    """A path that was found, relative to the working folder if the path that the user gave is; the rest may name a patient."""
    return found if path.is_absolute() else os.path.relpath(found)


def _inspect_source(source: ScanSource | Skipped, path: str, assume_hu: bool) -> ScanReport:
    from CoralBayLib.imaging.discovery import Skipped
    from CoralBayLib.imaging.inspection import inspect_scan

    report: ScanReport = _guarded(path, partial(inspect_scan, assume_hu=assume_hu))
    if isinstance(source, Skipped) and source.is_fault and not report.faults:
        return replace(report, faults=(VolumeError(source.reason),))
    return report


def _guarded(path: Path | str, inspect: Callable[[Any], Any]) -> Any:
    """What `inspect` returns, or a report on the error that it did not foresee."""
    from CoralBayLib.imaging.inspection import ScanReport, unexpected_fault

    try:
        return inspect(path)
    except Exception as error:  # one file must not end the check of the others
        return ScanReport(printable(path), faults=(unexpected_fault(path, error),))


def _describe(report: ScanReport) -> list[str]:
    """A report as lines for a person, without its faults."""
    from CoralBayLib.imaging.inspection import LABELMAP, SEGMENTATION

    facts, lines = report.facts, []
    if facts.format:
        lines.append(_files(facts))
    if facts.size_ijk:
        lines.append(f"{_by(facts.size_ijk)} voxels{_place(facts.grid) if facts.grid else ''}")
    if report.kind == SEGMENTATION:
        lines.append(f"Not a scan: a segmentation with the segments {', '.join(report.segments) or '(none)'}.")
    elif report.kind == LABELMAP and report.values:
        lines.append("Not a scan: a labelmap with labels from {:g} to {:g}.".format(*report.values))
    elif report.values:
        low, high = report.values
        what = {True: ", as in a CT in HU", False: ", not HU", None: ""}[report.is_hu]
        lines.append(f"values from {low:g} to {high:g}{what}")
    return lines + [f"Note: {note}" for note in facts.notes]


def _files(facts: FileFacts) -> str:
    series = facts.series
    parts = [facts.format]
    if series:
        aside = series.images - series.slices if series.slices else 0
        images = f"{series.slices or series.images} {'slices' if series.slices else 'images'}"
        parts = [f"DICOM, series '{series.description}'" if series.description else "DICOM, series without a description"]
        parts += [images + (f", {aside} more set aside" if aside else "")]
    if facts.bytes:
        parts.append(format_file_size(facts.bytes))
    kind = f" ({facts.compression})" if facts.compression not in ("", "DICOM") else ""
    if facts.compression or facts.complete:
        parts.append(f"compressed{kind}" if facts.compression else "not compressed")
    checksum = {"correct": "checksum correct", "none": "no checksum in this format", None: ""}[facts.checksum]
    return ", ".join([*parts, *([checksum] if checksum else [])])


def _place(grid: Grid) -> str:
    """Spacing, extent and orientation."""
    extent = [n * spacing for n, spacing in zip(grid.size, grid.spacing_mm, strict=True)]
    text = f" of {_by(grid.spacing_mm, '.3g')} mm ({_by(extent, '.0f')} mm), {grid.slice_plane} slices"
    if grid.obliqueness_deg >= _LEAST_ANGLE_DEG:
        text += f", oblique by {grid.obliqueness_deg:.1f} degrees"
    if grid.shear_deg >= _LEAST_ANGLE_DEG:
        text += f", axes sheared by {grid.shear_deg:.1f} degrees"
    return f"{text}, i, j, k point to {', '.join(grid.directions)}"


def _by(numbers: Iterable[float], form: str = "g") -> str:
    return " x ".join(f"{n:{form}}" for n in numbers)
