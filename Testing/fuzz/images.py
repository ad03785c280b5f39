"""Volumes and labelmaps of every format that is read."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.segmentation_io import Segment, read_segmentation, write_segmentation
from CoralBayLib.imaging.volume_io import read_volume, to_itk
from Testing.lib.conftest import phantom, phantom_grid

from .edits import lines_edit, within_gzip, wrong_sum
from .kinds import Build, Input, of_volume
from .mutations import Edit

_REALS = (0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), 1.0, 3.0)
_NRRD = (lines_edit(b"\n\n", ":"),)
_META = (lines_edit(b"ElementDataFile", "="), lines_edit(b"\n", "="))


def scan() -> Volume:
    """12 x 14 x 15 voxels, oblique."""
    return phantom(phantom_grid("oblique", extent_mm=30.0), [([12, -30, 45], 6.0, 500.0)], radius_mm=12.0)


def edited_nifti(data: bytes, chance: random.Random) -> bytes:
    """A field of a NIfTI-1 header is another."""
    head = bytearray(data)
    match chance.randrange(4):
        case 0:
            at = chance.choice([0, *range(40, 56, 2), 70, 72, 252, 254])
            struct.pack_into("<h", head, at, chance.choice((-32768, -1, 0, 1, 2, 4, 7, 8, 16, 512, 32767)))
        case 1 | 2:
            at = chance.choice([*range(76, 108, 4), 108, 112, 116, *range(256, 328, 4)])
            struct.pack_into("<f", head, at, chance.choice(_REALS))
        case _:
            at = chance.choice((40, 344))
            head[at : at + 4] = chance.choice((b"n+1\0", b"ni1\0", b"n+2\0", b"\0\0\0\0", b"\3\0\3\0", b"\7\0\7\0"))
    return bytes(head)


def _image(name: str, write: Callable[[sitk.Image, Path], None], **kept) -> Build:
    """A volume that is written as `name`; see `_input` for `kept`."""

    def build(folder: Path) -> Input:
        path = folder / name
        write(to_itk(scan()), path)
        return _input(path, **kept)

    return build


def _input(path: Path, edits: tuple[Edit, ...] = (), body: str = "", whole: bool = False, ends: bytes = b"") -> Input:
    """Input of a volume.

    Args:
        path: of the volume, or of its header.
        edits: of the header.
        body: suffix of the file with the voxels, where it is another one.
        whole: whether a checksum vouches for all that is in the file.
        ends: the header of a file, after which a checksum vouches for the rest, ends with these bytes.
    """
    files = [path, *([path.with_suffix(body)] if body else [])]
    header = path.read_bytes()
    begin = 0 if whole else header.index(ends) + len(ends) if ends and not body else -1

    def vouched(file: Path) -> int:
        return begin if file == path else 0 if ends else -1

    return Input(files, lambda: of_volume(read_volume(path)), {path: edits}, vouched)


def _write(compress: bool) -> Callable[[sitk.Image, Path], None]:
    return lambda image, path: sitk.WriteImage(image, str(path), useCompression=compress)


def _nrrd(encoding: str, pack: Callable[[bytes], bytes]) -> Callable[[sitk.Image, Path], None]:
    """A NRRD file in an encoding that ITK does not write."""

    def write(image: sitk.Image, path: Path) -> None:
        sitk.WriteImage(image, str(path), useCompression=False)
        head, body = path.read_bytes().split(b"\n\n", 1)
        path.write_bytes(head.replace(b"encoding: raw", b"encoding: " + encoding.encode()) + b"\n\n" + pack(body))

    return write


def _bzip2(data: bytes) -> bytes:
    import bz2

    return bz2.compress(data)


def _text(data: bytes) -> bytes:
    return " ".join(map(str, np.frombuffer(data, "<i2"))).encode()


def _nifti_pair(image: sitk.Image, path: Path) -> None:
    sitk.WriteImage(image, str(path.with_suffix(".nii")))
    loaded = nibabel.load(path.with_suffix(".nii"))
    nibabel.save(nibabel.Nifti1Pair(np.asarray(loaded.dataobj), loaded.affine), path)
    path.with_suffix(".nii").unlink()


def _labels() -> Volume:
    volume = scan()
    array = np.where(volume.array > 100, 2, np.where(volume.array > -500, 1, 0)).astype(np.uint8)
    return Volume(array, volume.grid)


def _segmentation_of(path: Path, **kept) -> Input:
    found = _input(path, **kept)

    def use() -> list:
        volume, segments = read_segmentation(path)
        return [*of_volume(volume), [(s.label, s.name, s.color_rgb) for s in segments]]

    return Input(found.files, use, found.edits, found.vouched)


def our_segmentation(folder: Path) -> Input:
    """A `.seg.nrrd` that CoralBay wrote."""
    path = folder / "ours.seg.nrrd"
    write_segmentation(_labels(), [Segment(1, "liver", (1, 0, 0)), Segment(2, "Läsion", (0, 1, 0.5))], path)
    return _segmentation_of(path, edits=_NRRD, whole=True)


def layered_segmentation(folder: Path) -> Input:
    """A `.seg.nrrd` of two layers, as Slicer writes it."""
    path, labels = folder / "layers.seg.nrrd", _labels()
    image = sitk.JoinSeries([to_itk(Volume((labels.array == n).astype(np.uint8), labels.grid)) for n in (1, 2)])
    array = np.stack([(labels.array == n).astype(np.uint8) for n in (1, 2)], -1)
    image = sitk.GetImageFromArray(array, isVector=True)
    image.CopyInformation(to_itk(labels))
    for n, name in enumerate(("one", "two")):
        fields = {"ID": f"s{n}", "Name": name, "Layer": str(n), "LabelValue": "1", "Color": "1 0 0"}
        for key, value in fields.items():
            image.SetMetaData(f"Segment{n}_{key}", value)
    image.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")
    sitk.WriteImage(image, str(path), useCompression=True)
    return _segmentation_of(path, edits=_NRRD, ends=b"\n\n")


IMAGES: dict[str, Build] = {
    "NIfTI (.nii)": _image("scan.nii", _write(False), edits=(edited_nifti,)),
    "NIfTI (.nii.gz)": _image(
        "scan.nii.gz", _write(True), edits=(within_gzip(edited_nifti), within_gzip(edited_nifti), wrong_sum), whole=True
    ),
    "NIfTI (.hdr, .img)": _image("scan.hdr", _nifti_pair, edits=(edited_nifti,), body=".img"),
    "NRRD raw": _image("scan.nrrd", _write(False), edits=_NRRD),
    "NRRD gzip": _image("scan.nrrd", _write(True), edits=_NRRD, ends=b"\n\n"),
    "NRRD bzip2": _image("scan.nrrd", _nrrd("bzip2", _bzip2), edits=_NRRD, ends=b"\n\n"),
    "NRRD text": _image("scan.nrrd", _nrrd("ascii", _text), edits=_NRRD),
    "NRRD detached (.nhdr, .raw)": _image("scan.nhdr", _write(False), edits=(lines_edit(b"", ":"),), body=".raw"),
    "NRRD detached (.nhdr, .raw.gz)": _image(
        "scan.nhdr", _write(True), edits=(lines_edit(b"", ":"),), body=".raw.gz", ends=b"\n"
    ),
    "MetaImage (.mha)": _image("scan.mha", _write(False), edits=_META),
    "MetaImage compressed (.mha)": _image("scan.mha", _write(True), edits=_META, ends=b"LOCAL\n"),
    "MetaImage (.mhd, .raw)": _image("scan.mhd", _write(False), edits=(lines_edit(b"", "="),), body=".raw"),
    "MetaImage compressed (.mhd, .zraw)": _image(
        "scan.mhd", _write(True), edits=(lines_edit(b"", "="),), body=".zraw", ends=b"\n"
    ),
    "Segmentation (.seg.nrrd), ours": our_segmentation,
    "Segmentation (.seg.nrrd), two layers": layered_segmentation,
}
