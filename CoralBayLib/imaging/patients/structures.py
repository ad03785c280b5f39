"""Names of the structures in labelmaps: from JSON files, and the same for all patients. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.names import fold, is_background, printable_name
from CoralBayLib.core.paths import error_message
from CoralBayLib.core.schemas import MAX_LABEL
from CoralBayLib.imaging.grid import Volume

_LARGEST_JSON = 1 << 20
"""Bytes; a list of names is far smaller."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        VolumeError: it cannot be read, or holds something else.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise VolumeError(f"{path.name} is too large for a list of names. Check that it is the right file.")
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise VolumeError(f"{path.name} cannot be read: {error_message(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise VolumeError(f"{path.name} is not valid JSON ({error_message(error)}). Correct it, or write it again.") from error
    if not isinstance(document, dict):
        raise VolumeError(f'{path.name} is not a JSON object. Expected the names by label, as in {{"1": "liver"}}.')
    return document


def names_from_json(given: Mapping[str, Any], file: str) -> dict[int, str]:
    """The names of structures by label, without the background.

    Args:
        given: names by label, as in {"1": "liver"}, or labels by name, as nnU-Net has it, {"background": 0, "liver": 1}.
        file: its name, for messages.

    Raises:
        VolumeError: a label is no number from 0 to 65535 or is given twice, two structures have one name, or labels that
            stand for several structures (nnU-Net's regions) or for voxels to ignore.
    """
    names: dict[int, str] = {}
    for key, value in given.items():
        name, label = (key, value) if type(value) is int else (value, key)
        if isinstance(label, list | tuple) or isinstance(name, list | tuple):
            raise VolumeError(f"{file}: '{key}' stands for several labels (a region). Only one label a structure is supported.")
        if not isinstance(name, str) or not str(label).isdecimal() or int(label) > MAX_LABEL:
            raise VolumeError(
                f'{file}: the entry "{key}" is not a name with a label from 0 to {MAX_LABEL}. Expected {{"1": "liver", ...}}.'
            )
        name, label = printable_name(name), int(label)
        if label == 0:
            continue
        if not fold(name):
            raise VolumeError(f"{file}: label {label} has no name. Name it, or leave it out.")
        if is_background(name):
            raise VolumeError(f"{file}: label {label} is named '{name}'. The background has the label 0.")
        if fold(name) == "ignore":
            raise VolumeError(f"{file}: labels for voxels to ignore are not supported. Leave such patients out.")
        if label in names:
            raise VolumeError(f"{file}: label {label} is named twice, '{names[label]}' and '{name}'.")
        names[label] = name
    require_distinct(names.values(), file)
    return names


def require_distinct(names: Iterable[str], file: str) -> None:
    """Refuse two structures of one name.

    Raises:
        VolumeError: there are two.
    """
    seen: dict[str, str] = {}
    for name in names:
        if fold(name) in seen:
            raise VolumeError(f"{file}: two structures are named '{name}'. Give each its own name.")
        seen[fold(name)] = name


def common_names(names: Iterable[Mapping[int, str]]) -> dict[int, str]:
    """One numbering, from 1, for the structures of all patients; structures are the same when their names are alike.

    Args:
        names: of each patient, by label.

    Returns:
        Names by common label, in the order of the labels in the first patient that has them.
    """
    known: dict[str, str] = {}
    for each in names:
        for _, name in sorted(each.items()):
            known.setdefault(fold(name), name)
    return dict(enumerate(known.values(), start=1))


def common_labels(names: Mapping[int, str], common: Mapping[int, str]) -> dict[int, int]:
    """The common label of each of a patient's labels.

    Args:
        names: of the patient's structures, by label.
        common: names by common label.

    Returns:
        By the patient's label; without structures that are not in `common`.
    """
    by_name = {fold(name): label for label, name in common.items()}
    return {label: by_name[fold(name)] for label, name in names.items() if fold(name) in by_name}


def renumbered(labelmap: Volume, names: Mapping[int, str], common: Mapping[int, str]) -> Volume:
    """A labelmap with the labels of a common numbering.

    Args:
        labelmap: with the labels in `names`.
        names: by label.
        common: names by common label. A structure that is not in it becomes background.

    Returns:
        uint8, or uint16 for labels over 255.
    """
    kind = np.uint16 if max(common, default=0) > 255 else np.uint8
    table = np.zeros(max([int(labelmap.array.max(initial=0)), *names]) + 1, kind)
    for label, new in common_labels(names, common).items():
        table[label] = new
    return Volume(table[labelmap.array], labelmap.grid)


def chosen_names(known: Mapping[int, str], chosen: Sequence[str]) -> dict[int, str]:
    """Some of the structures, numbered anew from 1 in their order.

    Args:
        known: names by label.
        chosen: names; empty for all.

    Raises:
        VolumeError: there is no structure of a name; lists those there are.
    """
    folded = {fold(name) for name in known.values()}
    unknown = [name for name in chosen if fold(name) not in folded]
    if unknown:
        raise VolumeError(f"No patient has a structure named '{unknown[0]}'. There are {', '.join(known.values())}.")
    names = [name for _, name in sorted(known.items()) if not chosen or fold(name) in set(map(fold, chosen))]
    return dict(enumerate(names, start=1))
