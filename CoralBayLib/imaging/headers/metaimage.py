"""Headers of MetaImage files, .mha and .mhd (https://itk.org/Wiki/MetaIO/Documentation)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from CoralBayLib.core.errors import VolumeError

from .header import Header, damaged, data_files, real_numbers, text_of, whole_numbers
from .source import Source

_TYPES = {
    "MET_CHAR": "i1",
    "MET_ASCII_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_KNOWN = (
    "ObjectType",
    "NDims",
    "BinaryData",
    "DimSize",
    "Comment",
    "TransformMatrix",
    "ElementType",
    "ElementSpacing",
    "BinaryDataByteOrderMSB",
    "Name",
)
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")
_ORIGIN = ("Offset", "Position", "Origin")


def looks_like(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a MetaImage header."""
    key, found, _ = head.split(b"\n", 1)[0].partition(b"=")
    return bool(found) and text_of(key).strip() in _KNOWN


def read_header(source: Source, path: Path) -> Header:
    """The header of a MetaImage file, of which `source` gives the first byte.

    Raises:
        VolumeError: a field is missing, twice, or cannot be right.
    """
    name = path.name
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = _line(source, name)
        if line is None:
            raise damaged(name, "it lacks 'ElementDataFile'")
        if "\0" in line:
            raise damaged(name, "it holds zero bytes, as after a lost sector")
        if not line.strip():
            continue
        key, found, value = line.partition("=")
        key = key.strip()
        if not found:
            raise damaged(name, f"it has a line '{line[:60]}'")
        if key in fields:
            raise damaged(name, f"it gives '{key}' twice")
        fields[key] = value.strip()
    return _made(fields, source, path)


def _line(source: Source, name: str) -> str | None:
    head = source.peek(1 << 12)
    end = head.find(b"\n")
    if end < 0:
        head = source.peek(1 << 20)
        end = head.find(b"\n")
    if end < 0 and len(head) == 1 << 20:
        raise damaged(name, "one of its lines has no end")
    if not head:
        return None
    return text_of(source.read(end + 1 if end >= 0 else len(head)).rstrip(b"\r\n"))


def _made(fields: dict[str, str], source: Source, path: Path) -> Header:
    name = path.name
    for key in ("NDims", "DimSize", "ElementType"):
        if not fields.get(key):
            raise damaged(name, f"it lacks '{key}'")
    (dimension,) = whole_numbers([fields["NDims"]], "'NDims'", name, 1, 9)
    _require_plain_values(fields, name)
    size = whole_numbers(fields["DimSize"].split(), "'DimSize'", name)
    if len(size) != dimension:
        raise damaged(name, f"it has {dimension} axes and {len(size)} sizes")
    kind = _TYPES.get(fields["ElementType"])
    if kind is None:
        raise VolumeError(f"{name} has voxels of the type '{fields['ElementType'][:40]}', which is not supported.")
    (components,) = whole_numbers([fields.get("ElementNumberOfChannels", "1")], "'ElementNumberOfChannels'", name)
    big = _yes(fields, "BinaryDataByteOrderMSB", name) or _yes(fields, "ElementByteOrderMSB", name)
    target = fields["ElementDataFile"]
    words = target.split()
    files: tuple[Path, ...] = ()
    if words[:1] == ["LIST"]:
        listed = []
        while (line := _line(source, name)) is not None:
            listed.append(line)
        files = data_files("LIST", listed, path.parent, name, ())
    elif target.upper() != "LOCAL":
        ranged = len(words) >= 3 and "%" in words[0]
        files = data_files(words[0] if ranged else target, (), path.parent, name, words[1:4] if ranged else ())
    binary = _yes(fields, "BinaryData", name, default=True)
    compressed = _yes(fields, "CompressedData", name)
    return Header(
        name=name,
        size=size,
        components=components,
        dtype=np.dtype(kind).newbyteorder(">" if big else "<"),
        encoding="gzip" if compressed else "raw" if binary else "ascii",
        files=files,
        skip=whole_numbers([fields.get("HeaderSize", "0")], "'HeaderSize'", name, -1, 1 << 40)[0],
        suffix=".mha",
        text=_geometry(fields, size, name),
        fields=fields,
    )


def _require_plain_values(fields: dict[str, str], name: str) -> None:
    """Refuse another modality or unit, and values that are to be scaled: ITK and Slicer do not scale them."""
    modality = fields.get("Modality", "").upper().removeprefix("MET_MOD_")
    if modality not in ("", "CT", "OTHER", "UNKNOWN"):
        raise VolumeError(f"{name} has modality {modality[:20]}. Expected CT: the encoders work on Hounsfield units only.")
    unit = fields.get("DistanceUnits", "mm")
    if unit.lower() not in ("mm", "", "?", "???"):  # ITK ignores it
        raise VolumeError(f"{name} has its geometry in '{unit[:20]}'. Expected mm: convert it, and save it again.")
    for key, neutral in (("ElementToIntensityFunctionSlope", 1), ("ElementToIntensityFunctionOffset", 0)):
        if key in fields and real_numbers([fields[key]], f"'{key}'", name) != (neutral,):
            raise VolumeError(
                f"{name} has values that are to be scaled ({key} = {fields[key][:20]}), which many programs ignore. Save it "
                "again with the values in HU and without it."
            )


def _yes(fields: dict[str, str], key: str, name: str, default: bool = False) -> bool:
    value = fields.get(key, str(default)).lower()
    if value not in ("true", "false", "1", "0", "yes", "no"):
        raise damaged(name, f"'{key}' is '{value[:40]}'")
    return value in ("true", "1", "yes")


def _geometry(fields: dict[str, str], size: tuple[int, ...], name: str) -> bytes:
    """A header with the geometry alone. Its numbers are the file's own text."""
    n = len(size)
    out = ["ObjectType = Image", f"NDims = {n}", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
    matrix = next((fields[key] for key in _MATRIX if key in fields), None)
    if matrix is not None:
        numbers = real_numbers(matrix.split(), "'TransformMatrix'", name, n * n)
        if abs(np.linalg.det(np.reshape(numbers, (n, n)))) < 1e-6:
            raise damaged(name, f"'TransformMatrix' is '{matrix[:80]}', which does not span space")
        if np.abs(np.linalg.norm(np.reshape(numbers, (n, n)), axis=1) - 1).max() > 0.01:
            raise damaged(name, f"'TransformMatrix' is '{matrix[:80]}', whose directions do not have the length 1")
        out.append(f"TransformMatrix = {matrix}")
    origins = [fields[key] for key in _ORIGIN if key in fields]
    origin = origins[0] if origins else None
    if origin is not None:
        if len({real_numbers(each.split(), "'Offset'", name, n) for each in origins}) > 1:
            raise damaged(name, f"it gives two positions, '{origins[0][:60]}' and '{origins[-1][:60]}'")
        out.append(f"Offset = {origin}")
    spacing = fields.get("ElementSpacing", fields.get("ElementSize"))
    if spacing is not None:
        if min(real_numbers(spacing.split(), "'ElementSpacing'", name, n)) <= 0:
            raise damaged(name, f"'ElementSpacing' is '{spacing[:60]}'")
        out.append(f"ElementSpacing = {spacing}")
    elif n >= 3:
        raise VolumeError(f"{name} has no spacing of its voxels (ElementSpacing). Save it again with it.")
    out.append("DimSize = " + " ".join(map(str, size)))
    return ("\n".join([*out, "ElementType = MET_UCHAR", "ElementDataFile = LOCAL"]) + "\n").encode("ascii", "replace")
