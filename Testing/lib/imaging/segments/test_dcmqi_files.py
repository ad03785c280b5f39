"""DICOM SEG files of dcmqi, a program of other authors: the same voxels at the same positions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import CoralBayLib as cb

from .test_dicom_reader import OBLIQUE, ODD, ORIENTATIONS, SHAPE, blobs, same_places, series_in


def code(value: str, meaning: str) -> dict[str, str]:
    return {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}


def described(number: int) -> dict[str, object]:
    return {
        "labelID": 1,
        "SegmentDescription": f"organ {number}",
        "SegmentLabel": f"organ {number}",
        "SegmentAlgorithmType": "MANUAL",
        "SegmentedPropertyCategoryCodeSequence": code("123037004", "Anatomical Structure"),
        "SegmentedPropertyTypeCodeSequence": code("10200004", "Liver"),
        "recommendedDisplayRGBValue": [221, 130, 50 * number],
    }


@pytest.mark.parametrize(
    ("fields", "shape"),
    [(ORIENTATIONS["coronal"], SHAPE), (ORIENTATIONS["flipped"], ODD), (OBLIQUE, ODD)],
    ids=["coronal", "flipped", "oblique, anisotropic, downwards"],
)
def test_files_of_dcmqi(fields, shape, tmp_path):
    series = series_in(tmp_path, shape, **fields)
    labelmap = blobs(cb.read_volume(series).grid)
    masks = []
    for number in (1, 2):
        masks.append(tmp_path / f"{number}.nrrd")
        cb.write_volume(cb.Volume((labelmap.array == number).astype(np.uint8), labelmap.grid), masks[-1])
    meta = {
        "ContentCreatorName": "A",
        "ClinicalTrialSeriesID": "1",
        "ClinicalTrialTimePointID": "1",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "segmentAttributes": [[described(number)] for number in (1, 2)],
    }
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    command = [Path(sys.executable).with_name("itkimage2segimage"), "--inputImageList", ",".join(map(str, masks))]
    command += [
        "--inputDICOMDirectory",
        series,
        "--inputMetadata",
        tmp_path / "meta.json",
        "--outputDICOM",
        tmp_path / "seg.dcm",
    ]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    found, segments = cb.read_segmentation(tmp_path / "seg.dcm")
    same_places(found, labelmap)
    assert [each.name for each in segments] == ["organ 1", "organ 2"]
    colors = [each.color_rgb for each in segments]
    np.testing.assert_allclose(colors, np.array([[221, 130, 50], [221, 130, 100]]) / 255, atol=1.5 / 255)
    np.testing.assert_array_equal(cb.read_segmentation(tmp_path / "seg.dcm", scan_grid=labelmap.grid)[0].array, labelmap.array)
