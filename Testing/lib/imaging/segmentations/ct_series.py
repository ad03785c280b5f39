"""CT series as files of pydicom, in any orientation, with all that a segmentation refers to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_series(
    folder: Path,
    array: NDArray[np.int16],
    row: tuple[float, ...] = (1, 0, 0),
    column: tuple[float, ...] = (0, 1, 0),
    spacing_mm: tuple[float, float, float] = (0.7, 0.8, 2.5),
    origin: tuple[float, ...] = (-100, -80, 30),
    downwards: bool = False,
    **fields: object,
) -> Path:
    """Write slices, named against their order in space.

    Args:
        folder: for the files.
        array: HU indexed [k, j, i].
        row, column: directions along i and j, LPS.
        spacing_mm: between columns, rows and slices.
        origin: center of the first voxel, LPS mm.
        downwards: whether the slices follow each other against their normal.
        fields: further fields of every slice; None removes one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    normal = np.cross(row, column) * (-1 if downwards else 1)
    for k, values in enumerate(array):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.PatientID, dataset.PatientName, dataset.SeriesNumber = "P1", "PHANTOM", 3
        dataset.InstanceNumber = k + 1
        dataset.ImageOrientationPatient = [round(float(v), 9) for v in (*row, *column)]
        dataset.ImagePositionPatient = [round(float(v), 6) for v in np.array(origin) + k * spacing_mm[2] * normal]
        dataset.PixelSpacing = [spacing_mm[1], spacing_mm[0]]
        dataset.SliceThickness = spacing_mm[2]
        dataset.Rows, dataset.Columns = values.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleIntercept, dataset.RescaleSlope = 0, 1
        dataset.PixelData = values.astype("<i2").tobytes()
        for name, value in fields.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)
        dataset.save_as(folder / f"{len(array) - k:03d}.dcm", enforce_file_format=True)
    return folder
