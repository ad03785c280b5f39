"""Reads prompts from CoralBay's JSON files and from Slicer's markups files.

The markups format is Slicer's markups-schema (Modules/Loadable/Markups/Resources/Schema): positions are in LPS unless
`coordinateSystem` is RAS. An ROI has the fields of vtkMRMLMarkupsROIJsonStorageNode: the columns of `orientation`, which is
written row by row, are its axes. A markups file does not contain the node's parent transform, which must be hardened before
saving.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from CoralBayLib.core.deprecation import deprecated_function
from CoralBayLib.core.errors import PromptError
from CoralBayLib.core.names import fold, is_background
from CoralBayLib.core.paths import error_message

from .constraints.boxes import Box
from .prompts import BACKGROUND, MAX_LABEL, Prompts

_POINT_MARKUPS = ("Fiducial", "Line", "Curve", "ClosedCurve")
_DEFAULT_NAMES = ("f", "p", "l", "c", "cc", "oc", "markupsfiducial", "pointlist", "fiducials")
"""Names that Slicer gives to new lists, lines and curves, folded."""
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
"""Columns of a .fcsv without a line that names them."""
_SIGNS = {"RAS": np.array([1.0, 1.0, 1.0]), "LPS": np.array([-1.0, -1.0, 1.0])}


def read_prompts(*paths: str | os.PathLike) -> Prompts:
    """Read and merge prompts from CoralBay's JSON (see `Prompts.save`) or Slicer's markups (`.mrk.json`, `.fcsv`).

    Args:
        paths: one file or more; structures of the same name become one (see `Prompts.merged`).

    Raises:
        PromptError: no path is given; a file is missing, of another format, damaged, or has neither points nor boxes.
    """
    if not paths:
        raise PromptError("Expected at least one file with prompts.")
    prompts = [_read(Path(path)) for path in paths]
    return sum(prompts[1:], start=prompts[0])


def _read(path: Path) -> Prompts:
    """Read one file of either format."""
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
        document = None if _is_fcsv(path) else json.loads(text, object_pairs_hook=_object)
    except OSError as error:
        raise PromptError(f"Prompts file {path} could not be read: {error_message(error)}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise PromptError(
            f"{path.name} is not a file of prompts. Choose Slicer's markups (.mrk.json, .fcsv) or prompts in JSON."
        ) from error
    except (ValueError, RecursionError, RuntimeError) as error:  # broken JSON; no home folder
        raise PromptError(f"{path.name} is not valid JSON ({error}). Save the prompts or markups again.") from error
    try:
        if document is None and _is_fcsv(path):
            prompts = _from_fcsv(text, _stem(path))
        elif isinstance(document, dict) and "markups" in document:
            prompts = _from_markups(document["markups"], _stem(path))
        elif isinstance(document, dict) and "points" in document:
            prompts = _from_own(document)
        else:
            raise PromptError('expected "points" (CoralBay prompts) or "markups" (Slicer markups) at the top.')
    except PromptError as error:
        raise PromptError(f"{path.name}: {error}") from error
    if not len(prompts) and not prompts.boxes:
        raise PromptError(f"{path.name} has no points. Place some, then save it again.")
    return prompts


def _from_own(document: dict) -> Prompts:
    _require_spelling(document, "coordinateSystem", "names")
    sign = _sign(document.get("coordinateSystem", "RAS"))
    points, labels = [], []
    for n, point in enumerate(_list(document["points"], "points")):
        points.append(_position(_get(point, "ras", f"point {n}"), f"point {n}") * sign)
        labels.append(_get(point, "label", f"point {n}"))
    names = document.get("names") or {}
    if not isinstance(names, dict) or not all(k.isdecimal() and isinstance(v, str) for k, v in names.items()):
        raise PromptError('expected "names" to give a name for each label, such as {"1": "liver"}.')
    if any(len(k) > len(str(MAX_LABEL)) for k in names) or len({int(k) for k in names}) < len(names):
        raise PromptError(f'expected "names" for labels of at most {MAX_LABEL}, each once and without leading zeros.')
    if not all(type(label) is int for label in labels):
        raise PromptError("expected every label to be a whole number: 0 for background, 1 and more for structures.")
    for key, name in names.items():
        if not int(key) and not is_background(name):
            raise PromptError(
                f"label 0 is named '{name[:60]}', but it is the background. Give the structure a label of 1 or more."
            )
        if int(key) and is_background(name):
            raise PromptError(
                f"label {key} is named '{name[:60]}', but the background has the label 0. Give its points the label 0, or "
                "rename the structure."
            )
    boxes = [_turned(Box.from_dict(box), sign) for box in _list(document.get("boxes", []), "boxes")]
    return Prompts(np.array(points), np.asarray(labels), {int(k): v for k, v in names.items() if int(k)}, tuple(boxes))


def _require_spelling(value: dict, *keys: str) -> None:
    """Refuse a key that is one of `keys` in another spelling, which would be ignored."""
    for found in value:
        alike = next((key for key in keys if re.sub(r"[\s_-]", "", found).lower() == key.lower() and found != key), None)
        if alike:
            raise PromptError(f'"{found[:40]}" is to be written "{alike}".')


def _from_markups(markups: Any, stem: str) -> Prompts:
    points: list[np.ndarray] = []
    structures: list[str] = []
    boxes: list[Box] = []
    for markup in _list(markups, "markups"):
        kind = _get(markup, "type", "a markup")
        _require_spelling(markup, "coordinateSystem", "coordinateUnits")
        if kind != "ROI" and kind not in _POINT_MARKUPS:
            raise PromptError(f"a markup of type {kind} cannot be a prompt. Use a point list, a line, a curve or an ROI.")
        if markup.get("coordinateUnits", "mm") not in ("mm", ["mm", "mm", "mm"]):
            raise PromptError(f"expected coordinates in mm, got {markup['coordinateUnits']!r}. Save it in mm.")
        sign = _sign(markup.get("coordinateSystem", "LPS"))
        if kind == "ROI":
            boxes.append(_turned(_from_roi(markup, stem), sign))
            continue
        texts = []
        for n, point in enumerate(_list(_get(markup, "controlPoints", "the markup"), "controlPoints")):
            where = f"control point {n}"
            _require_object(point, where)
            if point.get("positionStatus", "defined") != "defined":
                continue
            points.append(_position(_get(point, "position", where), where) * sign)
            texts.append(str(point.get("label") or ""))
        structures += _structures_of(texts, stem)
    prompts = _named_points(points, structures)
    if not boxes:
        return prompts
    return prompts + replace(Prompts.none(), names={1: structure_name(stem, stem)}, boxes=tuple(boxes))


def _from_roi(markup: dict, stem: str) -> Box:
    """The box of an ROI, with the label 1, in the markup's own coordinates."""
    if is_background(stem):
        raise PromptError("an ROI marks a structure, not the background. Rename the ROI as the structure.")
    if markup.get("insideOut", False) is not False:
        raise PromptError("the ROI is inside out. Turn that off, so that it contains the structure.")
    values = [_get(markup, "center", "the ROI"), _get(markup, "size", "the ROI")]
    center, size = (_position(value, "the ROI") for value in values)
    flat = markup.get("orientation", np.eye(3).ravel().tolist())
    if not isinstance(flat, list) or len(flat) != 9 or not all(type(v) in (int, float) for v in flat):
        raise PromptError(f"the ROI has the orientation {str(flat)[:60]}. Expected nine numbers. Save it again.")
    return Box(center, np.array(flat, np.float64).reshape(3, 3).T, size, 1)


def _turned(box: Box, sign: np.ndarray) -> Box:
    """A box in RAS, from one in coordinates that differ in signs."""
    return Box(box.center_ras * sign, box.axes * sign, box.size_mm, box.label)


def _from_fcsv(text: str, stem: str) -> Prompts:
    """Points of Slicer's older format: a CSV whose header lines begin with "#" (vtkMRMLMarkupsFiducialStorageNode)."""
    if "\0" in text:
        raise PromptError("it contains null bytes, so it is damaged. Save the markups again.")
    header = dict(re.findall(r"^#\s*(\w[\w ]*?)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
    system = header.get("CoordinateSystem")
    sign = _sign({"0": "RAS", "1": "LPS"}.get(str(system), system))
    columns = [name.strip() for name in header.get("columns", _FCSV_COLUMNS).split(",")]
    if not {"x", "y", "z"} <= set(columns):
        raise PromptError(f"expected the columns x, y and z, got {', '.join(columns)}.")
    points, texts = [], []
    if len(set(columns)) < len(columns):
        raise PromptError(f"a column is there twice: {', '.join(columns)}.")
    lines = [line for line in text.splitlines(keepends=True) if line.strip() and not line.startswith("#")]
    try:
        rows = list(csv.reader(io.StringIO("".join(lines), newline=""), strict=True))
    except csv.Error as error:
        raise PromptError(f"its points are not a table ({error}). Save the markups again.") from error
    for n, cells in enumerate(rows):
        if any(cell.strip() for cell in cells[len(columns) :]):
            raise PromptError(f"point {n} has {len(cells)} cells for {len(columns)} columns. Are there decimal commas?")
        row = dict(zip(columns, cells, strict=False))
        try:
            position = [float(row[axis]) for axis in "xyz"]
        except (KeyError, ValueError) as error:
            raise PromptError(f"point {n} has no position of three numbers.") from error
        points.append(_position(position, f"point {n}") * sign)
        texts.append(row.get("label") or "")
    return _named_points(points, _structures_of(texts, stem))


def _structures_of(labels: list[str], stem: str) -> list[str]:
    """The structure of each point of a list, from the labels of the points and the name of the list.

    Slicer labels a point by the name that the list has when the point is placed, and keeps the label when the list is renamed.
    A list with a name for background is background, unless its points have labels of several structures.
    """
    names = [structure_name(label, stem) for label in labels]
    folded = {fold(name) for name in names}
    if is_background(stem) and len(folded) == 1:
        return [stem] * len(names)
    return [stem if fold(name) in _DEFAULT_NAMES else name for name in names]


def _named_points(points: list[np.ndarray], structures: list[str]) -> Prompts:
    """Prompts from points and the structure of each; structures are numbered in their order."""
    numbers: dict[str, int] = {}
    names: dict[int, str] = {}
    labels = []
    for name in structures:
        label = BACKGROUND if is_background(name) else numbers.setdefault(fold(name), len(numbers) + 1)
        if label != BACKGROUND and not fold(name):
            raise PromptError("the name of a structure has no visible character. Rename the list and its points.")
        if label != BACKGROUND:
            names.setdefault(label, name)
        labels.append(label)
    return Prompts(np.array(points), np.asarray(labels), names)


def structure_name(label: str, stem: str) -> str:
    """The structure that a control point marks: "liver-3", "liver 3" and "liver_3" all mark "liver"."""
    return re.sub(r"(?:\s*[-_]\s*|\s+)\d+$", "", label.strip()).strip() or stem


def _stem(path: Path) -> str:
    return re.sub(r"(\.mrk)?\.json$|\.fcsv$", "", path.name, flags=re.IGNORECASE)


def _is_fcsv(path: Path) -> bool:
    return path.suffix.lower() == ".fcsv"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without duplicate keys, of which Python would silently use the last."""
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _value in pairs]
        raise ValueError(f'"{next(key for key in keys if keys.count(key) > 1)}" is there twice')
    return result


def _sign(system: Any) -> np.ndarray:
    if not isinstance(system, str) or system not in _SIGNS:
        raise PromptError(f'expected coordinateSystem "RAS" or "LPS", got {system!r}.')
    return _SIGNS[system]


def _position(value: Any, where: str) -> np.ndarray:
    if not isinstance(value, list) or len(value) != 3 or not all(type(v) in (int, float) and abs(v) < 1e6 for v in value):
        raise PromptError(f"{where} has position {value!r}. Expected three numbers in mm.")
    return np.array(value, dtype=np.float64)


def _list(value: Any, what: str) -> list:
    if not isinstance(value, list):
        raise PromptError(f'expected "{what}" to be a list.')
    return value


def _require_object(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise PromptError(f"{where} is not an object in braces.")


def _get(value: Any, key: str, where: str) -> Any:
    _require_object(value, where)
    if key not in value:
        raise PromptError(f'{where} has no "{key}".')
    return value[key]


read = deprecated_function("read", read_prompts)
