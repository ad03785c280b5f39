"""Masks from the named segments of a file: which are locked, and which structures start as which segment. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.names import fold
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.segmentation_io import Segment


def locked_segments(
    labelmap: Volume, segments: Sequence[Segment], chosen: Sequence[str] = (), structures: Collection[str] = ()
) -> Volume:
    """The mask of the segments to lock.

    Args:
        labelmap: of the segments.
        segments: of the file.
        chosen: names of the segments to lock, or their labels; all by default, except those named as a structure.
        structures: names of the structures to segment.

    Returns:
        uint8, 1 where locked.

    Raises:
        VolumeError: there is no segment of a chosen name, or none to lock.
    """
    known = {fold(segment.name): segment.label for segment in segments}
    by_number = {str(segment.label): segment.label for segment in segments}
    labels = []
    for name in chosen:
        label = known.get(fold(name), by_number.get(name.strip()))
        if label is None:
            raise VolumeError(f"There is no segment '{name}' to lock. {_listed(segments)}")
        labels.append(label)
    if not chosen:
        own = {fold(name) for name in structures}
        labels = [segment.label for segment in segments if fold(segment.name) not in own]
        if not labels:
            raise VolumeError(f"There is no segment to lock, because structures to segment are not locked. {_listed(segments)}")
    return Volume(np.isin(labelmap.array, labels).astype(np.uint8), labelmap.grid)


def start_of(
    labelmap: Volume, segments: Sequence[Segment], names: Mapping[int, str], structures: Collection[int]
) -> tuple[Volume, dict[int, str]]:
    """The segments of a file as a mask to start from, with the labels of the structures.

    A segment that has the name of a structure gets its label. Other segments become structures of their own, which stay as
    they are. In a labelmap without names, the values are the labels.

    Args:
        labelmap: of the segments.
        segments: of the file.
        names: of the structures, by label.
        structures: labels of the structures that have prompts, or that a probe knows.

    Returns:
        The mask, and the names of all structures by label.

    Raises:
        VolumeError: there is no segment, or none with the name or label of a structure.
    """
    if not segments or not labelmap.array.any():
        raise VolumeError("The mask to start from is empty. Choose a file with at least one segment.")
    result, nameless = dict(names), all(segment.name == f"Segment_{segment.label}" for segment in segments)
    by_name = {fold(name): label for label, name in names.items()}
    labels = {s.label: s.label if nameless else by_name.get(fold(s.name)) for s in segments}
    if structures and not set(labels.values()) & {*structures, *names}:
        known = ", ".join(f"'{names.get(label, label)}'" for label in sorted({*structures, *names}))
        raise VolumeError(
            f"No segment of the mask to start from is one of the structures: {known}. {_listed(segments)} Rename the segment, "
            "or the structure."
        )
    table = np.zeros(int(labelmap.array.max()) + 1, np.int32)
    free = max([0, *structures, *names, *(label for label in labels.values() if label is not None)])
    for segment in segments:
        label = labels[segment.label]
        if label is None:
            free += 1
            label = free
        if not nameless or label not in structures:
            result.setdefault(label, segment.name)
        if segment.label < len(table):
            table[segment.label] = label
    return Volume(table[labelmap.array], labelmap.grid), result


def _listed(segments: Sequence[Segment]) -> str:
    shown = ", ".join(f"'{segment.name}'" for segment in segments[:20])
    return f"Segments of the file: {shown}{', ...' if len(segments) > 20 else ''}." if segments else "The file has no segments."
