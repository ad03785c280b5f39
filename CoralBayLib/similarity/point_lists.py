"""Named points in Slicer's point lists (`.mrk.json`, `.fcsv`).

Unlike prompts, of which several mark one structure, each point has a name of its own: the label of the control point as it
is. The formats are those of `fewshot.prompt_io`.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import QueryError
from CoralBayLib.core.names import fold
from CoralBayLib.core.paths import atomic_write, error_message

_SIGNS = {
    "RAS": np.array([1.0, 1.0, 1.0]),
    "LPS": np.array([-1.0, -1.0, 1.0]),
    "0": np.ones(3),
    "1": np.array([-1.0, -1.0, 1.0]),
}
_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)


def read_points(path: str | os.PathLike) -> tuple[list[str], NDArray[np.float64]]:
    """The names and the positions, (N, 3) RAS mm, of the points of a file.

    Args:
        path: a point list of Slicer. Points that are not placed are left out.

    Raises:
        QueryError: the file is missing, damaged, of another format, or has no points.
    """
    path = Path(path)
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
        pairs = (
            _from_fcsv(text) if path.suffix.lower() == ".fcsv" else _from_markups(json.loads(text, object_pairs_hook=_object))
        )
        points = np.array([position for _, position in pairs], dtype=np.float64)
        if points.shape[1:] != (3,) or not np.isfinite(points).all() or np.abs(points).max() > 1e6:
            raise QueryError(f"{path.name} has no points, or positions that are not three numbers in mm.")
    except OSError as error:
        raise QueryError(f"The points in {path} could not be read: {error_message(error)}. Check the path.") from error
    except QueryError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, csv.Error) as error:
        raise QueryError(
            f"{path.name} is not a point list of Slicer (.mrk.json or .fcsv), or is damaged. Save it again in Slicer."
        ) from error
    return [name for name, _ in pairs], points


def read_landmarks(path: str | os.PathLike) -> dict[str, NDArray[np.float64]]:
    """The points of a file by name, (3,) RAS mm each.

    Raises:
        QueryError: as `read_points`, or a point has no name, or the names of two are alike (see `fold`).
    """
    names, points = read_points(path)
    for name in names:
        if not fold(name):
            raise QueryError(f"A point in {Path(path).name} has no name. Label each point as the landmark that it marks.")
        if [fold(each) for each in names].count(fold(name)) > 1:
            raise QueryError(f"Two points in {Path(path).name} are named '{name[:60]}'. Give each landmark a name of its own.")
    return dict(zip(names, points, strict=True))


def write_points(
    path: str | os.PathLike, names: Sequence[str], points_ras: Iterable[Sequence[float]], notes: Sequence[str] = ()
) -> None:
    """Write a point list that Slicer opens.

    Args:
        path: of the `.mrk.json`; an existing file is replaced.
        names: of the points.
        points_ras: (N, 3) RAS mm.
        notes: a description of each point, or none.

    Raises:
        StoreError: the file could not be written.
    """
    points = [
        {
            "id": str(n + 1),
            "label": name,
            "description": notes[n] if notes else "",
            "position": (np.asarray(position, dtype=float) * _SIGNS["LPS"]).tolist(),
            "positionStatus": "defined",
        }
        for n, (name, position) in enumerate(zip(names, points_ras, strict=True))
    ]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": points}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({"@schema": _SCHEMA, "markups": [markup]}, indent=1), encoding="utf-8")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without a key that is there twice, or that would be ignored because of its spelling."""
    known = ("coordinateSystem", "coordinateUnits", "positionStatus")
    keys = [{name.lower(): name for name in known}.get(re.sub(r"[\s_-]", "", key).lower(), key) for key, _ in pairs]
    if len(set(keys)) < len(pairs) or any(key != given for key, (given, _) in zip(keys, pairs, strict=True)):
        raise ValueError("a key is there twice, or misspelled")
    return dict(pairs)


def _from_markups(document: Any) -> list[tuple[str, NDArray[np.float64]]]:
    found = []
    for markup in document["markups"]:
        if markup.get("coordinateUnits", "mm") not in ("mm", ["mm", "mm", "mm"]):
            raise QueryError("The positions of a point list must be in mm. Save it in mm.")
        sign = _SIGNS[markup.get("coordinateSystem", "LPS")]
        for point in markup["controlPoints"]:
            if point.get("positionStatus", "defined") == "defined":
                found.append((str(point.get("label") or ""), np.array(point["position"], dtype=np.float64) * sign))
    return found


def _from_fcsv(text: str) -> list[tuple[str, NDArray[np.float64]]]:
    header = dict(re.findall(r"^#\s*(\w[\w ]*?)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
    sign = _SIGNS[header["CoordinateSystem"]]
    columns = [name.strip() for name in header.get("columns", _COLUMNS).split(",")]
    if len(set(columns)) < len(columns):
        raise ValueError("a column is there twice")
    rows = list(csv.reader((line for line in text.splitlines() if line.strip() and not line.startswith("#")), strict=True))
    for n, row in enumerate(rows, 1):
        if any(cell.strip() for cell in row[len(columns) :]):
            raise QueryError(f"Point {n} has {len(row)} cells for {len(columns)} columns. Are there decimal commas?")
    cells = [dict(zip(columns, row, strict=False)) for row in rows]
    return [(row.get("label") or "", np.array([float(row[axis]) for axis in "xyz"]) * sign) for row in cells]
