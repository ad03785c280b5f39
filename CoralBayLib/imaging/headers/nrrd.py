"""Headers of NRRD files (https://teem.sourceforge.net/nrrd/format.html), attached and detached."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from CoralBayLib.core.errors import VolumeError

from .header import MAX_HEADER_BYTES, Header, damaged, data_files, real_numbers, text_of, whole_numbers
from .source import Source

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_ENCODINGS = {
    "raw": "raw",
    "gzip": "gzip",
    "gz": "gzip",
    "bzip2": "bzip2",
    "bz2": "bzip2",
    "txt": "ascii",
    "text": "ascii",
    "ascii": "ascii",
    "hex": "hex",
}
_PER_AXIS = ("sizes", "spacings", "axis mins", "axis maxs", "centers", "centerings", "kinds")
_SPACES = (
    *("right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "ras", "las", "lps"),
    *("right-anterior-superior-time", "left-anterior-superior-time", "left-posterior-superior-time", "rast", "last", "lpst"),
    *("scanner-xyz", "scanner-xyz-time", "3d-right-handed", "3d-left-handed"),
    *("3d-right-handed-time", "3d-left-handed-time"),
)
_MILLIMETERS = ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "", "???", "none")
"""Units of the geometry; the last three are no unit."""
_DOMAIN = ("domain", "space", "time", "???", "none")


def read_header(source: Source, path: Path) -> Header:
    """The header of a NRRD file, of which `source` gives the first byte.

    Raises:
        VolumeError: a field is missing, twice, or cannot be right.
    """
    name = path.name
    lines = _lines(source, name)
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    listed: list[str] = []
    for n, line in enumerate(lines[1:], 1):
        if line.startswith("#") or not line.strip():
            continue
        if ":=" in line and (": " not in line or line.index(":=") < line.index(": ")):
            key, value = line.split(":=", 1)
            pairs[key] = re.sub(r"\\([n\\])", lambda escaped: "\n" if escaped[1] == "n" else "\\", value)
        elif ":" in line:
            key, value = line.split(":", 1)
            key = _canonical(key.strip().lower())
            if key in fields:
                raise damaged(name, f"it gives '{key}' twice")
            fields[key] = value.strip()
            if key == "data file" and fields[key].split()[:1] == ["LIST"]:
                listed = lines[n + 1 :]
                break
        else:
            raise damaged(name, f"line {n + 1} is '{line[:60]}'")
    return _made(fields, pairs, listed, path)


def _lines(source: Source, name: str) -> list[str]:
    """The lines of the header up to the empty one that ends it, or to the end of a detached header."""
    length = 1 << 14
    while True:
        head = source.peek(length)
        end = re.search(rb"\r?\n\r?\n", head)
        if end or len(head) < length:
            break
        if length >= MAX_HEADER_BYTES:
            raise damaged(name, "no empty line ends it")
        length *= 4
    header = source.read(end.end() if end else len(head))
    if b"\0" in header:
        raise damaged(name, "it holds zero bytes, as after a lost sector")
    return [text_of(line.rstrip(b"\r")) for line in header.split(b"\n")]


def _canonical(key: str) -> str:
    aliases = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "axismins": "axis mins"}
    return {**aliases, "axismaxs": "axis maxs", "centers": "centerings"}.get(key, key)


def _made(fields: dict[str, str], pairs: dict[str, str], listed: list[str], path: Path) -> Header:
    name = path.name
    for key in ("type", "dimension", "sizes", "encoding"):
        if not fields.get(key):
            raise damaged(name, f"it lacks '{key}'")
    kind = next((code for code, names in _TYPES.items() if fields["type"].lower() in names), None)
    if kind is None:
        raise VolumeError(f"{name} has voxels of the type '{fields['type'][:40]}', which is not supported.")
    encoding = _ENCODINGS.get(fields["encoding"].lower())
    if encoding is None:
        raise VolumeError(f"{name} has the encoding '{fields['encoding'][:40]}', which is unknown. Save it as gzip.")
    (dimension,) = whole_numbers([fields["dimension"]], "'dimension'", name, 1, 16)
    sizes = whole_numbers(fields["sizes"].split(), "'sizes'", name)
    if len(sizes) != dimension:
        raise damaged(name, f"it has {dimension} axes and {len(sizes)} sizes")
    order = fields.get("endian", sys.byteorder if int(kind[1]) == 1 or encoding == "ascii" else "").lower()
    if order not in ("little", "big"):
        raise damaged(name, "it lacks 'endian'" if not order else f"'endian' is '{order[:40]}'")
    spatial = _spatial_axes(fields, dimension, name)
    components = int(np.prod([sizes[a] for a in range(dimension) if a not in spatial], dtype=object))
    words = fields.get("data file", "").split()
    ranged = len(words) >= 4 and "%" in words[0]
    pattern = words[0] if ranged or words[:1] == ["LIST"] else fields.get("data file", "")
    return Header(
        name=name,
        size=tuple(sizes[a] for a in spatial),
        components=components,
        planar=components > 1 and 0 in spatial,
        dtype=np.dtype(kind).newbyteorder("<" if order == "little" else ">"),
        encoding=encoding,
        files=data_files(pattern, listed, path.parent, name, words[1:4] if ranged else ()) if words else (),
        skip=whole_numbers([fields.get("byte skip", "0")], "'byte skip'", name, -1, 1 << 40)[0],
        skip_lines=whole_numbers([fields.get("line skip", "0")], "'line skip'", name, 0)[0],
        suffix=".nrrd",
        text=_geometry(fields, sizes, spatial, name),
        fields=pairs,
    )


def _spatial_axes(fields: dict[str, str], dimension: int, name: str) -> list[int]:
    """The axes that are not components: by their kinds, and by the space directions that are "none"."""
    kinds = fields.get("kinds", "").lower().split()
    if kinds and len(kinds) != dimension:
        raise damaged(name, f"it has {dimension} axes and {len(kinds)} kinds")
    spatial = [a for a in range(dimension) if not kinds or kinds[a] in _DOMAIN]
    directions = _directions(fields)
    if directions and len(directions) != dimension:
        raise damaged(name, f"it has {dimension} axes and {len(directions)} space directions")
    if directions:
        spatial = [a for a in spatial if directions[a] != "none"]
    middle = [a for a in range(dimension) if a not in spatial and a not in (0, dimension - 1)]
    if middle or dimension - len(spatial) > 1:
        raise VolumeError(f"{name} has {dimension} axes, of which {len(spatial)} are of space. Expected one 3D image.")
    return spatial


def _directions(fields: dict[str, str]) -> list[str]:
    return re.findall(r"none|\([^()]*\)", fields.get("space directions", "").lower())


def _geometry(fields: dict[str, str], sizes: tuple[int, ...], spatial: list[int], name: str) -> bytes:
    """A header of the spatial axes alone. Its numbers are the file's own text."""
    out = ["NRRD0004", "type: uchar", f"dimension: {len(spatial)}"]
    directions = _directions(fields)
    if fields.get("space", "ras").lower() not in _SPACES:
        raise damaged(name, f"'space' is '{fields['space'][:60]}'")
    if "space dimension" in fields:
        whole_numbers([fields["space dimension"]], "'space dimension'", name, 1, 8)
    _require_mm(fields, spatial, name)
    for key in ("space", "space dimension"):
        if key in fields:
            out.append(f"{key}: {fields[key]}")
    out.append("sizes: " + " ".join(str(sizes[a]) for a in spatial))
    if directions:
        chosen = [directions[a] for a in spatial]
        vectors = np.array([real_numbers(_words(d), "'space directions'", name, _space(fields, chosen)) for d in chosen])
        if len(spatial) == vectors.shape[1] and abs(np.linalg.det(vectors)) < 1e-12:
            raise damaged(name, f"'space directions' is '{' '.join(chosen)[:80]}', which does not span space")
        out.append("space directions: " + " ".join(chosen))
    elif "spacings" in fields:
        words = fields["spacings"].split()
        if len(words) != len(sizes):
            raise damaged(name, f"it has {len(sizes)} axes and {len(words)} spacings")
        chosen = [words[a] for a in spatial]
        if min(real_numbers(chosen, "'spacings'", name)) <= 0:
            raise damaged(name, f"'spacings' is '{' '.join(chosen)[:60]}'")
        out.append("spacings: " + " ".join(chosen))
    elif len(spatial) >= 3:
        raise VolumeError(f"{name} has no spacing of its voxels (space directions, spacings). Save it again with it.")
    if "space origin" in fields:
        real_numbers(_words(fields["space origin"]), "'space origin'", name, _space(fields, directions))
        out.append(f"space origin: {fields['space origin']}")
    centerings = fields.get("centerings", "").split()
    if len(centerings) == len(sizes):  # with mins alone, tells whether voxels begin or lie at these
        out.append("centerings: " + " ".join(centerings[a] for a in spatial))
    for key in ("axis mins", "axis maxs"):
        words = fields.get(key, "").split()
        if len(words) == len(sizes) and not directions:
            real_numbers([words[a] for a in spatial], f"'{key}'", name)
            out.append(f"{key}: " + " ".join(words[a] for a in spatial))
    return ("\n".join([*out, "encoding: raw"]) + "\n\n").encode("ascii", "replace")


def _require_mm(fields: dict[str, str], spatial: list[int], name: str) -> None:
    """Refuse a geometry in another unit than mm; ITK ignores the unit."""
    axes = re.findall(r'"[^"]*"|\S+', fields.get("units", ""))
    units = [*re.findall(r'"[^"]*"|\S+', fields.get("space units", "")), *(axes[a] for a in spatial if a < len(axes))]
    for unit in (each.strip('" ') for each in units):
        if unit.lower() not in _MILLIMETERS:
            raise VolumeError(f"{name} has its geometry in '{unit[:20]}'. Expected mm: convert it, and save it again.")


def _words(vector: str) -> list[str]:
    return vector.strip("() ").replace(",", " ").split()


def _space(fields: dict[str, str], directions: list[str]) -> int:
    if "space" in fields:
        return 4 if fields["space"].lower().endswith(("time", "t")) and "-time" in fields["space"].lower() else 3
    if "space dimension" in fields:
        return whole_numbers([fields["space dimension"]], "'space dimension'", fields.get("content", "the file"), 1, 8)[0]
    return len(_words(next((d for d in directions if d != "none"), "")))
