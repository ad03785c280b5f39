"""Headers of NIfTI-1 files (https://nifti.nimh.nih.gov/nifti-1): .nii, and .hdr with its .img."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import VolumeError

from .header import MAX_PER_AXIS, Header, damaged
from .source import Source

LENGTH = 348
_MAGIC = slice(344, 348)
_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_SCANNER = 1
"""Code of a qform or sform in the coordinates of the scanner."""
_COMPLEX = (32, 1792, 2048)
_COLOR = {128: 3, 2304: 4}


def looks_like(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a NIfTI-1 header."""
    return len(head) >= LENGTH and head[_MAGIC] in (b"n+1\0", b"ni1\0")


def looks_like_nifti2(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a NIfTI-2 header."""
    return head[4:8] in (b"n+2\0", b"ni2\0")


def read_header(source: Source, path: Path) -> Header:
    """The header of a NIfTI-1 file, of which `source` gives the first byte.

    Raises:
        VolumeError: a field cannot be right.
    """
    name = path.name
    head = bytearray(source.read(LENGTH))
    order = next((o for o in "<>" if 1 <= struct.unpack_from(f"{o}h", head, 40)[0] <= 7), None)
    if order is None or struct.unpack_from(f"{order}i", head, 0)[0] != LENGTH:
        raise damaged(name, "its length or its number of axes is wrong")
    dims = struct.unpack_from(f"{order}8h", head, 40)
    if not all(1 <= n <= MAX_PER_AXIS for n in dims[1 : dims[0] + 1]):
        raise damaged(name, f"its sizes are {dims[1 : dims[0] + 1]}")
    code, bits = struct.unpack_from(f"{order}2h", head, 70)
    if code in _COMPLEX:
        raise VolumeError(f"{name} holds complex numbers. Expected a CT in HU.")
    color = _COLOR.get(code, 1)
    kind = "u1" if color > 1 else _TYPES.get(code)
    if kind is None:
        raise VolumeError(f"{name} has voxels of the NIfTI type {code}, which is not supported. Save it with 16-bit integers.")
    if bits != 8 * color * int(kind[1]):
        raise damaged(name, f"its type {code} has {8 * color * int(kind[1])} bits, and it says {bits}")
    offset, slope, intercept = struct.unpack_from(f"{order}3f", head, 108)
    single = bytes(head[_MAGIC]) == b"n+1\0"
    if not np.isfinite(offset) or offset != int(offset) or not (352 if single else 0) <= offset < 1 << 30:
        raise damaged(name, f"its voxels are said to begin at byte {offset:g}")
    scale = None
    if np.isfinite(slope) and slope != 0 and (slope, intercept) != (1, 0):
        scale = (float(slope), float(intercept))
    if np.isinf(slope) or slope < 0 or (scale and not np.isfinite(intercept)):
        raise damaged(name, f"the slope and intercept of its values are {slope:g} and {intercept:g}")
    size = tuple(dims[1:4]) if dims[0] >= 3 else tuple(dims[1 : dims[0] + 1])
    more = tuple(dims[4 : dims[0] + 1])
    vectors = int(np.prod(more[1:])) if len(more) > 1 and more[0] == 1 else 1
    if more and vectors == 1 and max(more) > 1:
        size += more
    notes = _mend_geometry(head, order, name, size)
    data = () if single else (_data_file(path),)
    return Header(
        name=name,
        size=size,
        components=vectors * color,
        planar=color == 1,
        dtype=np.dtype(f"{order}{kind}"),
        encoding="gzip" if data and data[0].name.endswith(".gz") else "raw",
        files=data,
        skip=int(offset) - (LENGTH if single else 0),
        scale=scale,
        suffix=".nii",
        text=_geometry(head, order, size),
        notes=notes,
    )


def _data_file(path: Path) -> Path:
    """The .img of a .hdr, in the folder of the header that was named."""
    stem = path.name[: -len(".hdr")] if path.name.lower().endswith(".hdr") else path.stem
    choices = [path.with_name(f"{stem}{suffix}") for suffix in (".img", ".IMG", ".img.gz")]
    return next((choice for choice in choices if choice.exists()), choices[0])


def _mend_geometry(head: bytearray, order: str, name: str, size: tuple[int, ...]) -> tuple[str, ...]:
    """Leave one of the two placements of the voxels, qform and sform, with its own spacing, and make that positive.

    The sform is taken where the qform is unknown, or where it is that of the scanner, as in ITK and Slicer.

    Returns:
        A sentence when the two place the voxels differently.
    """
    pixdim = list(struct.unpack_from(f"{order}8f", head, 76))
    qform, sform = struct.unpack_from(f"{order}2h", head, 252)
    quaternion = np.array(struct.unpack_from(f"{order}6f", head, 256), np.float64)
    rows = np.array(struct.unpack_from(f"{order}12f", head, 280), np.float64).reshape(3, 4)
    spacing = np.abs(np.array(pixdim[1:4], np.float64))
    notes: tuple[str, ...] = ()
    usable = np.isfinite([*quaternion, *spacing]).all() and spacing.min() > 0 and (quaternion[:3] ** 2).sum() <= 1.001
    if sform > 0 and qform > 0 and not usable:
        qform = 0
    if sform > 0 and qform > 0:
        is_sform = sform == _SCANNER and _is_orthogonal(rows)
        apart = _largest_distance(rows, _qform(pixdim, quaternion), size)
        if not apart <= 0.5 * max(float(spacing.min()), 0.1):
            used, other = ("sform", "qform") if is_sform else ("qform", "sform")
            notes = (
                f"{name} has two placements in space, which differ by up to {apart:.1f} mm. The {used} is used, as in Slicer; "
                f"programs that use the {other} show it elsewhere.",
            )
        if is_sform:
            qform = 0
        else:
            sform = 0
    struct.pack_into(f"{order}2h", head, 252, qform, sform)
    if sform > 0:
        lengths = np.linalg.norm(rows[:, :3], axis=0)
        if not np.isfinite(rows).all() or lengths.min() <= 0 or abs(np.linalg.det(rows[:, :3])) < 1e-6 * lengths.prod():
            raise damaged(name, "its sform does not place its voxels in space")
        if not np.allclose(spacing, lengths, rtol=1e-3):
            spacing = lengths
    elif qform > 0 and (not np.isfinite(quaternion).all() or (quaternion[:3] ** 2).sum() > 1.001):
        raise damaged(name, "its qform does not place its voxels in space")
    if not np.isfinite(spacing).all() or spacing.min() <= 0:
        raise damaged(name, f"its spacing (pixdim) is {pixdim[1]:g} x {pixdim[2]:g} x {pixdim[3]:g}")
    pixdim[0] = pixdim[0] if pixdim[0] in (-1.0, 1.0) else 1.0
    if sform > 0 and not np.isfinite(quaternion).all():
        struct.pack_into(f"{order}6f", head, 256, *[0.0] * 6)
    struct.pack_into(f"{order}4f", head, 76, pixdim[0], *spacing.tolist())
    return notes


def _is_orthogonal(rows: NDArray[np.float64]) -> bool:
    """Whether the axes of an sform can be those of a grid without shear."""
    lengths = np.linalg.norm(rows[:, :3], axis=0)
    if not np.isfinite(rows).all() or lengths.min() <= 0:
        return True  # it is refused below
    axes = rows[:, :3] / lengths
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() < 1e-3)


def _qform(pixdim: list[float], quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first three rows of the matrix of a qform (nifti1.h, METHOD 2)."""
    b, c, d = quaternion[:3]
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    spacing = np.abs(np.array(pixdim[1:4], np.float64)) * [1, 1, -1 if pixdim[0] == -1 else 1]
    return np.column_stack([rotation * spacing, quaternion[3:]])


def _largest_distance(one: NDArray[np.float64], other: NDArray[np.float64], size: tuple[int, ...]) -> float:
    """Between the places that two matrices give to a corner of a volume of some size, in the unit of the header."""
    last = np.array([*size[:3], 1, 1][:3]) - 1
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * last
    difference = one - other
    return float(np.linalg.norm(corners @ difference[:, :3].T + difference[:, 3], axis=1).max())


def _geometry(head: bytearray, order: str, size: tuple[int, ...]) -> bytes:
    """The header with one byte per voxel, unscaled, in one file."""
    patched = bytearray(head)
    dims = [len(size), *size, *[1] * (7 - len(size))]
    struct.pack_into(f"{order}8h", patched, 40, *dims)
    struct.pack_into(f"{order}2h", patched, 70, 2, 8)
    struct.pack_into(f"{order}3f", patched, 108, 352, 1, 0)
    patched[_MAGIC] = b"n+1\0"
    return bytes(patched) + bytes(4)
