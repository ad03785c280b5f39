"""Series whose slices are not of one scan, or not in HU, although they have one SeriesInstanceUID."""

import numpy as np
import pytest
import SimpleITK as sitk

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.imaging.volume_io import read_volume

UID = "1.2.826.0.1.3680043.2.1125.3"


@pytest.fixture
def voxels():
    k, j, i = np.indices((12, 20, 24))
    return np.where((j - 10) ** 2 + (i - 12) ** 2 < 60, 40 + 5 * k, -1000).astype(np.int16)


def write(folder, voxels, change=lambda n: {}, shift=lambda n: 0):
    """One file a slice; `change` gives fields of slice n by tag, `shift` its distance from the line, in mm."""
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for n, values in enumerate(voxels):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((4, 3))
        fields = {
            "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{UID}.7.{n + 1}",
            "0008|0060": "CT",
            "0020|000d": UID,
            "0020|000e": f"{UID}.1",
            "0020|0032": f"{shift(n)}\\0\\{2.5 * n}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "0",
            "0028|1053": "1",
            **change(n),
        }
        for tag, text in fields.items():
            image.SetMetaData(tag, text)
        writer.SetFileName(str(folder / f"{n:03d}.dcm"))
        writer.Execute(image)
    return folder


def refusal(folder):
    with pytest.raises(VolumeError) as caught:
        read_volume(folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("tag", "one", "other", "what"),
    [
        ("0010|0020", "Doe", "Roe", "patients"),
        ("0020|000d", f"{UID}.21", f"{UID}.22", "studies"),
        ("0020|0052", f"{UID}.31", f"{UID}.32", "frames of reference"),
        ("0018|1210", "B30f", "B70f", "reconstruction kernels"),
        ("0018|0060", "80", "140", "tube voltages"),
    ],
)
@pytest.mark.parametrize("first", [lambda n: n < 6, lambda n: n % 2], ids=["stacked", "alternating"])
def test_two_scans_in_one_series(tmp_path, voxels, tag, one, other, what, first):
    said = refusal(write(tmp_path / "s", voxels, lambda n: {tag: one if first(n) else other}))
    assert f"of 2 {what}" in said
    assert one not in said and other not in said


def test_acquisitions_that_alternate(tmp_path, voxels):
    assert "2 acquisitions alternate" in refusal(write(tmp_path / "s", voxels, lambda n: {"0020|0012": str(n % 2 + 1)}))


@pytest.mark.parametrize("number", [lambda n: n // 4, lambda n: n], ids=["blocks", "one a slice"])
def test_acquisitions_one_behind_the_other(tmp_path, voxels, number):
    array = read_volume(write(tmp_path / "s", voxels, lambda n: {"0020|0012": str(number(n) + 1)})).array
    np.testing.assert_array_equal(array, voxels)


@pytest.mark.parametrize(
    ("tag", "text", "message"),
    [
        ("0008|0016", "1.2.840.10008.5.1.4.1.1.4", "not a CT image"),
        ("0008|0016", "1.2.840.10008.5.1.4.1.1.128", "not a CT image"),
        ("0028|1054", "OD", "not HU"),
        ("0028|1054", "MGML", "not HU"),
    ],
)
def test_a_slice_that_says_that_it_is_something_else(tmp_path, voxels, tag, text, message):
    assert message in refusal(write(tmp_path / "s", voxels, lambda n: {tag: text} if n == 5 else {}))


@pytest.mark.parametrize("name", ["HU", "US", "Hounsfield Units"])
def test_hu_by_name(tmp_path, voxels, name):
    np.testing.assert_array_equal(read_volume(write(tmp_path / "s", voxels, lambda n: {"0028|1054": name})).array, voxels)


@pytest.mark.parametrize("tag", ["0020|000d", "0020|0052"])
def test_identifiers_that_differ_in_every_slice_tell_nothing(tmp_path, voxels, tag):
    np.testing.assert_array_equal(read_volume(write(tmp_path / "s", voxels, lambda n: {tag: f"{UID}.{n + 50}"})).array, voxels)


@pytest.mark.parametrize("wrong", [0, 4, 11])
def test_a_slice_beside_the_others(tmp_path, voxels, wrong):
    said = refusal(write(tmp_path / "s", voxels, shift=lambda n: 20 * (n == wrong)))
    assert "in one line" in said or "tilt" in said


def test_inverted_values(tmp_path, voxels):
    folder = write(tmp_path / "s", voxels)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"MONOCHROME2", b"MONOCHROME1"))
    assert "inverted" in refusal(folder)


def with_intercept(folder, wrong):
    """A series stored with the intercept -1024, which the slices `wrong` lack."""
    for path in sorted(folder.iterdir()):
        if int(path.stem) in wrong:
            data = path.read_bytes()
            assert data.count(b"-1024 ") == 1
            path.write_bytes(data.replace(b"-1024 ", b"0     "))
    return folder


@pytest.mark.parametrize("wrong", [{0}, {4}, {3, 4, 5}])
def test_an_intercept_that_is_0_in_some_slices(tmp_path, voxels, wrong):
    folder = write(tmp_path / "s", voxels, lambda n: {"0028|1052": "-1024"})
    np.testing.assert_array_equal(read_volume(folder).array, voxels)
    assert "rescale intercepts (" in refusal(with_intercept(folder, wrong))


def test_rescales_that_differ_and_are_right(tmp_path, voxels):
    folder = write(tmp_path / "s", voxels, lambda n: {"0028|1052": "-1024" if n % 2 else "0"})
    np.testing.assert_array_equal(read_volume(folder).array, voxels)


def test_directions_that_are_too_long(tmp_path, voxels):
    path = write(tmp_path / "s", voxels) / "005.dcm"
    data = path.read_bytes()
    assert data.count(b"1\\0\\0\\0\\1\\0") == 1
    path.write_bytes(data.replace(b"1\\0\\0\\0\\1\\0", b"2\\0\\0\\0\\2\\0"))
    assert "ImageOrientationPatient" in refusal(path.parent)


def test_a_slope_of_one_slice_keeps_its_fractions(tmp_path, voxels):
    voxels[4, 0, 0] = -999
    path = write(tmp_path / "s", voxels, lambda n: {"0028|1052": "-1024"}) / "004.dcm"
    data = path.read_bytes()
    slope = b"\x28\x00\x53\x10"
    assert data.count(slope + b"\x02\x00\x00\x001 ") == 1
    path.write_bytes(data.replace(slope + b"\x02\x00\x00\x001 ", slope + b"\x02\x00\x00\x00.5"))
    expected = voxels.astype(np.float32)
    expected[4] = (voxels[4] + 1024) / 2 - 1024
    assert expected[4, 0, 0] == -1011.5
    np.testing.assert_array_equal(read_volume(path.parent).array, expected)
