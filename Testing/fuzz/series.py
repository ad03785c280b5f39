"""DICOM series of a few small slices in several transfer syntaxes, and DICOM SEG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from CoralBayLib.imaging.segmentation_io import read_segmentation
from CoralBayLib.imaging.volume_io import read_volume

from .elements import BIG, DEFLATED, EXPLICIT, RLE, edited_element, rewritten
from .kinds import Build, Input, of_volume

_UID = "1.2.826.0.1.3680043.2.1125.9"


def write_series(folder: Path, compressor: str = "", syntax: str = "") -> None:
    """Four slices of 16 x 20 voxels.

    Args:
        folder: an existing one.
        compressor: of SimpleITK: "JPEG" (lossless) or "JPEG2000".
        syntax: the transfer syntax in which uncompressed slices are written.
    """
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetUseCompression(bool(compressor))
    if compressor:
        writer.SetCompressor(compressor)
    array = np.random.default_rng(0).integers(-1000, 1500, (4, 16, 20)).astype(np.int16)
    for n, values in enumerate(array):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((0.7, 0.8))
        fields = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{_UID}.1.{n + 1}",
            "0008|0060": "CT",
            "0020|000d": _UID,
            "0020|000e": f"{_UID}.1",
            "0020|0013": str(n),
            "0020|0032": f"-100\\-80\\{30 + 2.5 * n}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-3",
            "0028|1053": "1",
            "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        }
        for key, value in fields.items():
            image.SetMetaData(key, value)
        path = folder / f"{n}.dcm"
        writer.SetFileName(str(path))
        writer.Execute(image)
        if syntax:
            path.write_bytes(rewritten(path.read_bytes(), syntax))


def _series(compressor: str = "", syntax: str = "", edited: bool = True) -> Build:
    def build(folder: Path) -> Input:
        write_series(folder, compressor, syntax)
        files = sorted(folder.iterdir())
        edits = (edited_element,) if edited else ()
        return Input(files, lambda: of_volume(read_volume(folder)), {None: edits})

    return build


def one_file(folder: Path) -> Input:
    """A series by the name of one of its slices."""
    write_series(folder, syntax=EXPLICIT)
    path = folder / "1.dcm"
    return Input([path], lambda: of_volume(read_volume(path)), {None: (edited_element,)})


def write_segmentation(path: Path, kind: str) -> None:
    """A DICOM SEG with three frames of two segments, oblique, the slices in reversed order; its bytes are always the same.

    Args:
        path: of the file.
        kind: its SegmentationType; LABELMAP is compressed.
    """
    seg, meta = pydicom.Dataset(), pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = seg.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.66.{7 if kind == 'LABELMAP' else 4}"
    meta.MediaStorageSOPInstanceUID = seg.SOPInstanceUID = f"{_UID}.2"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    seg.file_meta = meta
    seg.Modality, seg.SegmentationType, seg.StudyInstanceUID, seg.SeriesInstanceUID = "SEG", kind, _UID, f"{_UID}.3"
    seg.Rows, seg.Columns, seg.NumberOfFrames = 9, 13, 3
    seg.SamplesPerPixel, seg.PhotometricInterpretation, seg.PixelRepresentation = 1, "MONOCHROME2", 0
    masks = np.zeros((3, 9, 13), np.uint8)
    masks[0, :4, :5], masks[1, 5:, 7:], masks[2, 2:6, 3:9] = 1, 1, 1
    bits = 1 if kind == "BINARY" else 8
    seg.BitsAllocated, seg.BitsStored, seg.HighBit = bits, bits, bits - 1
    if kind == "FRACTIONAL":
        seg.SegmentationFractionalType, seg.MaximumFractionalValue = "PROBABILITY", 200
    factor = {"BINARY": 1, "FRACTIONAL": 150, "LABELMAP": np.array([1, 2, 1], np.uint8)[:, None, None]}[kind]
    voxels = np.packbits(masks.ravel(), bitorder="little") if bits == 1 else (masks * factor).astype(np.uint8)
    seg.PixelData = voxels.tobytes() + b"\0" * (voxels.size % 2)
    seg.SegmentSequence = pydicom.Sequence()
    for number, name in ((1, "liver"), (2, "Läsion")):
        segment = pydicom.Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, name
        segment.RecommendedDisplayCIELabValue = [30000 + number, 40000, 20000]
        seg.SegmentSequence.append(segment)
    seg.SpecificCharacterSet = "ISO_IR 192"
    plane, measures = pydicom.Dataset(), pydicom.Dataset()
    plane.ImageOrientationPatient = [0.8, 0.6, 0, -0.6, 0.8, 0]
    measures.PixelSpacing, measures.SpacingBetweenSlices, measures.SliceThickness = [1.1, 0.7], 2.5, 3
    shared = pydicom.Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    seg.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number, z in ((1, 40.0), (2, 35.0), (1, 32.5)):
        group, position, identity = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient, identity.ReferencedSegmentNumber = [-100, -80, z], number
        group.PlanePositionSequence = [position]
        if kind != "LABELMAP":
            group.SegmentIdentificationSequence = [identity]
        groups.append(group)
    seg.PerFrameFunctionalGroupsSequence = groups
    if kind == "LABELMAP":
        seg.compress(RLELossless, generate_instance_uid=False)
    seg.save_as(path, enforce_file_format=True)


def _segmentation(kind: str) -> Build:
    def build(folder: Path) -> Input:
        path = folder / "seg.dcm"
        write_segmentation(path, kind)

        def use() -> list:
            volume, segments = read_segmentation(path)
            return [*of_volume(volume), [(s.label, s.name, s.color_rgb) for s in segments]]

        return Input([path], use, {None: (edited_element,)})

    return build


SERIES: dict[str, Build] = {
    "DICOM, implicit VR": _series(),
    "DICOM, explicit VR": _series(syntax=EXPLICIT),
    "DICOM, explicit VR, big endian": _series(syntax=BIG, edited=False),
    "DICOM, deflated": _series(syntax=DEFLATED, edited=False),
    "DICOM, JPEG lossless": _series("JPEG"),
    "DICOM, JPEG 2000": _series("JPEG2000"),
    "DICOM, RLE": _series(syntax=RLE),
    "DICOM, one file of a series": one_file,
    "DICOM SEG, binary": _segmentation("BINARY"),
    "DICOM SEG, fractional": _segmentation("FRACTIONAL"),
    "DICOM SEG, labelmap, RLE": _segmentation("LABELMAP"),
}
