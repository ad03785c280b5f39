"""DICOM series: found, arranged and checked. The slices are written with SimpleITK."""

import struct
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.imaging.discovery import find_scans
from CoralBayLib.imaging.volume_io import read_volume

UID = "1.2.826.0.1.3680043.2.1125.1"
SECRET = "DOE^JOHN"
AXIAL = (1, 0, 0, 0, 1, 0)


def write(
    folder,
    array,
    series=1,
    orientation=AXIAL,
    step=(0, 0, 2.5),
    origin=(-100, -80, 30),
    offsets=None,
    compress=False,
    **tags,
):
    """One file a slice, named against their order in space; `offsets` are multiples of `step`."""
    folder.mkdir(exist_ok=True)
    offsets = range(len(array)) if offsets is None else offsets
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetUseCompression(compress)
    for n, (values, offset) in enumerate(zip(array, offsets, strict=True)):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((0.7, 0.8))
        position = np.array(origin) + offset * np.array(step)
        fields = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{UID}.{series}.{n + 1}",
            "0008|0060": tags.get("modality", "CT"),
            "0008|103e": tags.get("description", "thorax"),
            "0010|0010": SECRET,
            "0010|0020": SECRET,
            "0020|000d": UID,
            "0020|000e": f"{UID}.{series}",
            "0020|0013": str(n),
            "0020|0032": "\\".join(f"{v:.6f}" for v in position),
            "0020|0037": "\\".join(f"{v:.6f}" for v in orientation),
            "0028|1052": str(tags.get("intercept", 0)),
            "0028|1053": "1",
            "0008|0008": tags.get("image_type", "ORIGINAL\\PRIMARY\\AXIAL"),
        }
        for key, value in fields.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{series}-{len(array) - n:03d}.dcm"))
        writer.Execute(image)
    return folder


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(-1000, 1500, (6, 8, 10)).astype(np.int16)


def refused(path, match, **options):
    with pytest.raises(VolumeError, match=match) as caught:
        read_volume(path, **options)
    assert "DOE" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compress", [False, True])
def test_a_folder(tmp_path, array, compress):
    folder = write(tmp_path / "ct", array, compress=compress)
    (folder / "notes.txt").write_text("no image")
    volume = read_volume(folder)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, array)
    lps_to_ras = np.diag([-1, -1, 1, 1])
    expected = lps_to_ras @ [[0.7, 0, 0, -100], [0, 0.8, 0, -80], [0, 0, 2.5, 30], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.grid.ijk_to_ras, expected, atol=1e-6)


def test_one_file_stands_for_its_series(tmp_path, array):
    folder = write(tmp_path / "ct", array)
    write(folder, array[:3] // 2, series=2)
    np.testing.assert_array_equal(read_volume(folder / "1-002.dcm").array, array)


@pytest.mark.parametrize("step", [(0, 0, 2.5), (0, 0, -2.5)])
def test_slices_are_put_in_order_along_their_normal(tmp_path, array, step):
    volume = read_volume(write(tmp_path / "ct", array, step=step))
    for k in range(len(array)):
        place = volume.grid.to_ijk((100, 80, 30 + k * step[2]))[0]
        np.testing.assert_array_equal(volume.array[round(place[2])], array[k])
        np.testing.assert_allclose(place[:2], 0, atol=1e-6)


def test_oblique_and_coronal(tmp_path, array):
    for n, (row, column) in enumerate([((0.8, 0.6, 0), (-0.6, 0.8, 0)), ((1, 0, 0), (0, 0, -1)), ((0, 1, 0), (0, 0, -1))]):
        normal = np.cross(row, column)
        volume = read_volume(write(tmp_path / str(n), array, orientation=(*row, *column), step=3 * normal))
        reference = sitk.ReadImage(
            sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / str(n)), f"{UID}.1"), sitk.sitkInt16
        )
        for ijk in ((0, 0, 0), (9, 7, 5), (3, 2, 1)):
            expected = np.array(reference.TransformContinuousIndexToPhysicalPoint([float(v) for v in ijk])) * (
                -1,
                -1,
                1,
            )
            np.testing.assert_allclose(volume.grid.to_ras(ijk)[0], expected, atol=1e-3)
        np.testing.assert_array_equal(volume.array, array)


def test_rescale_intercept_is_applied(tmp_path, array):
    volume = read_volume(write(tmp_path / "ct", (array + 1024).astype(np.int16), intercept=-1024))
    # SimpleITK's writer stores values as they would be after rescaling, so what matters is that reading undoes it.
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(tmp_path / "ct" / "1-006.dcm"))
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(reader.Execute())[0])


def test_several_series_are_listed_and_picked(tmp_path, array):
    folder = write(tmp_path / "ct", array, description="thorax soft")
    write(folder, array // 2, series=2, description="thorax lung")
    message = refused(folder, "2 series")
    assert f"{UID}.1  (CT, 6 files, thorax soft)" in message
    assert f"{UID}.2  (CT, 6 files, thorax lung)" in message
    np.testing.assert_array_equal(read_volume(folder, series=f"{UID}.2").array, array // 2)
    assert "thorax lung" in refused(folder, "has no series 9.9", series="9.9")


def test_the_only_ct_is_chosen_among_others(tmp_path, array):
    folder = write(tmp_path / "ct", array)
    write(folder, array // 2, series=2, modality="PT")
    np.testing.assert_array_equal(read_volume(folder).array, array)
    refused(folder, "modality PT", series=f"{UID}.2")


def test_no_series(tmp_path):
    refused(tmp_path, "no DICOM series")


def test_not_ct(tmp_path, array):
    refused(write(tmp_path / "mr", array, modality="MR"), "modality MR")


def test_missing_slice(tmp_path, array):
    message = refused(write(tmp_path / "ct", array, offsets=[0, 1, 2, 4, 5, 6]), "not evenly spaced")
    assert "5.00 mm, after slice 3 of 6" in message
    assert "regularization" in message


def test_small_irregularities_are_fine_and_larger_are_not(tmp_path, array):
    read_volume(write(tmp_path / "fine", array, offsets=[0, 1, 2.01, 3, 4, 5]))
    refused(write(tmp_path / "not", array, offsets=[0, 1, 2.04, 3, 4, 5]), "not evenly spaced")


def test_positions_that_were_rounded_to_a_tenth_of_a_millimeter_are_even(tmp_path):
    many = np.random.default_rng(0).integers(-1000, 1500, (25, 8, 10)).astype(np.int16)
    rounded = [round(n * 10 / 3, 1) for n in range(25)]
    volume = read_volume(write(tmp_path / "ct", many, step=(0, 0, 1), offsets=rounded))
    assert np.allclose(volume.grid.spacing_mm[2], 10 / 3, atol=0.005)
    refused(write(tmp_path / "gap", many[1:], step=(0, 0, 1), offsets=rounded[:20] + rounded[21:]), "not evenly spaced")
    refused(write(tmp_path / "end", many[1:], step=(0, 0, 1), offsets=rounded[:23] + rounded[24:]), "not evenly spaced")


def test_a_file_without_its_first_bytes_is_named(tmp_path, array):
    folder = write(tmp_path / "ct", array)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    refused(folder, "could not be read")


def test_repeated_positions(tmp_path, array):
    refused(write(tmp_path / "ct", array, offsets=[0, 1, 2, 0, 1, 2]), "time series")


def test_gantry_tilt(tmp_path, array):
    assert "regularization" in refused(write(tmp_path / "ct", array, step=(0, 0.5, 2.5)), "gantry tilt of 11.3 degrees")


def test_one_slice(tmp_path, array):
    refused(write(tmp_path / "ct", array[:1]), "one slice")


def test_mixed_sizes(tmp_path, array):
    folder = write(tmp_path / "ct", array)
    write(tmp_path / "other", array[:, :4])
    (tmp_path / "other" / "1-006.dcm").replace(folder / "1-006.dcm")
    refused(folder, "differ in size")


def test_slices_that_are_not_parallel(tmp_path, array):
    folder = write(tmp_path / "ct", array)
    write(tmp_path / "other", array, orientation=(0.8, 0.6, 0, -0.6, 0.8, 0))
    (tmp_path / "other" / "1-003.dcm").replace(folder / "1-003.dcm")
    refused(folder, "not parallel")


def test_truncated_slice(tmp_path, array):
    """Also the last one, whose absence leaves no gap; an index beside them is no reason to refuse."""
    folder = write(tmp_path / "ct", np.tile(array, (1, 8, 8)))
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM 1.2.840.10008.1.3.10 " + f"{UID}.1".encode())
    read_volume(folder)
    for name in ("1-001.dcm", "1-003.dcm"):
        whole = (folder / name).read_bytes()
        for size in (0, len(whole) - 5000):
            (folder / name).write_bytes(whole[:size])
            refused(folder, f"truncated; the first is {name}")
        (folder / name).write_bytes(whole)


def edit(path, before, after):
    """Replace bytes of a file."""
    data = path.read_bytes()
    assert before in data
    path.write_bytes(data.replace(before, after))


def element(group, tag, value):
    """An element in implicit VR, as SimpleITK writes them."""
    return struct.pack("<HHI", group, tag, len(value)) + value


def without(path, group, tag):
    """Remove an element from a file."""
    data = path.read_bytes()
    start = data.index(struct.pack("<HH", group, tag), 132)
    (length,) = struct.unpack_from("<I", data, start + 4)
    path.write_bytes(data[:start] + data[start + 8 + length :])


CORONAL = (1, 0, 0, 0, 0, -1)


@pytest.mark.parametrize("image_type", ["ORIGINAL\\PRIMARY\\LOCALIZER", "DERIVED\\SECONDARY\\SCOUT", None])
def test_a_scout_in_the_series_is_left_out(tmp_path, array, image_type):
    """Known by its ImageType, or by lying across the others."""
    folder = write(tmp_path / "ct", array)
    options = {"image_type": image_type} if image_type else {}
    write(tmp_path / "scout", array[:1, :4] if image_type else array[:1], orientation=CORONAL, **options)
    (tmp_path / "scout" / "1-001.dcm").replace(folder / "scout.dcm")
    with pytest.warns(UserWarning, match="scout.dcm"):
        np.testing.assert_array_equal(read_volume(folder).array, array)


@pytest.mark.parametrize("images", [1, 2])
def test_a_scout_beside_the_series_is_left_out(tmp_path, array, images):
    folder = write(tmp_path / "ct", array)
    write(folder, array[:images, :4], series=2, orientation=CORONAL, image_type="ORIGINAL\\PRIMARY\\LOCALIZER")
    with pytest.warns(UserWarning, match=f"{UID}.2 is left out. A scout"):
        np.testing.assert_array_equal(read_volume(folder).array, array)
    (found,), skipped = find_scans([folder])
    np.testing.assert_array_equal(read_volume(found.path).array, array)
    assert [each.reason for each in skipped] == ["A scout (localizer), not a scan."]
    refused(folder, "scouts", series=f"{UID}.2")


@pytest.mark.parametrize("name", ["1-003 (1).dcm", "Copy of 1-003.dcm", "a.dcm"])
def test_a_copy_of_a_slice_is_left_out(tmp_path, array, name):
    folder = write(tmp_path / "ct", array)
    (folder / name).write_bytes((folder / "1-003.dcm").read_bytes())
    with pytest.warns(UserWarning, match="copies"):
        np.testing.assert_array_equal(read_volume(folder).array, array)


def test_a_copy_with_another_header_is_left_out_and_one_with_other_voxels_refused(tmp_path, array):
    folder = write(tmp_path / "ct", array)
    copy = folder / "1-003 (1).dcm"
    copy.write_bytes((folder / "1-003.dcm").read_bytes())
    edit(copy, b"DOE^JOHN", b"DOE^JANE")
    with pytest.warns(UserWarning, match="copies"):
        np.testing.assert_array_equal(read_volume(folder).array, array)
    copy.write_bytes(copy.read_bytes()[:-2] + b"\1\1")
    message = refused(folder, "same SOPInstanceUID")
    assert "1-003.dcm and 1-003 \\(1\\).dcm".replace("\\", "") in message


@pytest.mark.parametrize("number", [1, 4, 6])
def test_a_slice_without_its_rescale_is_named(tmp_path, array, number):
    folder = write(tmp_path / "ct", array, intercept=-1000)
    without(folder / f"1-00{number}.dcm", 0x28, 0x1052)
    without(folder / f"1-00{number}.dcm", 0x28, 0x1053)
    assert "1 of 6" in refused(folder, f"1-00{number}.dcm")


def test_intercepts_that_differ_are_each_applied(tmp_path, array):
    low = np.clip(array, -900, 1000)
    folder = write(tmp_path / "ct", low, intercept=-1000)
    write(tmp_path / "other", low, intercept=-1024)
    (tmp_path / "other" / "1-003.dcm").replace(folder / "1-003.dcm")
    np.testing.assert_array_equal(read_volume(folder).array, read_volume(folder / "1-001.dcm").array)
    np.testing.assert_array_equal(read_volume(folder).array, low)


@pytest.mark.parametrize(("field", "match"), [((0x28, 0x30), "no PixelSpacing"), ((0x20, 0x32), "ImagePositionPatient")])
def test_a_slice_without_its_geometry_is_named(tmp_path, array, field, match):
    folder = write(tmp_path / "ct", array)
    without(folder / "1-002.dcm", *field)
    assert "1-002.dcm" in refused(folder, match)


def test_a_slice_of_another_modality_is_named(tmp_path, array):
    folder = write(tmp_path / "ct", array)
    without(folder / "1-005.dcm", 8, 0x60)
    data = (folder / "1-005.dcm").read_bytes()
    place = data.index(struct.pack("<HH", 0x10, 0x10), 132)
    (folder / "1-005.dcm").write_bytes(data[:place] + element(8, 0x60, b"MR") + data[place:])
    assert "modality MR" in refused(folder, "1-005.dcm")


@pytest.mark.parametrize(("frames", "match"), [(b"ab", "NumberOfFrames"), (b"-1", "NumberOfFrames"), (b"12", "multi-frame")])
def test_a_number_of_frames(tmp_path, array, frames, match):
    folder = write(tmp_path / "ct", array)
    data = (folder / "1-003.dcm").read_bytes()
    place = data.index(struct.pack("<HH", 0x28, 0x10), 132)
    (folder / "1-003.dcm").write_bytes(data[:place] + element(0x28, 8, frames) + data[place:])
    refused(folder, "1-003.dcm|slices")


def test_more_rows_than_the_file_can_hold(tmp_path, array):
    """Refused from the header, before 3 GB are allocated for each slice."""
    folder = write(tmp_path / "ct", array)
    for path in folder.iterdir():
        edit(path, element(0x28, 0x10, struct.pack("<H", 8)), element(0x28, 0x10, struct.pack("<H", 40000)))
        edit(path, element(0x28, 0x11, struct.pack("<H", 10)), element(0x28, 0x11, struct.pack("<H", 40000)))
    refused(folder, "truncated or damaged|no DICOM series")


def test_a_file_that_gdcm_cannot_list_is_refused_in_words(tmp_path, array):
    folder = write(tmp_path / "ct", array)
    edit(folder / "1-002.dcm", element(0x28, 2, b"\1\0"), element(0x28, 2, b"\0\0"))
    with pytest.raises(VolumeError):
        read_volume(folder)
    found, skipped = find_scans([folder])
    assert len(found) + len(skipped) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names of any bytes")
def test_names_that_are_not_utf8(tmp_path, array):
    folder = write(tmp_path / "ct", array)
    folder = folder.rename(tmp_path / "M\udcfcller")
    (folder / "1-003.dcm").rename(folder / "\udce4.dcm")
    for path in (folder, folder / "1-001.dcm", folder / "\udce4.dcm"):
        np.testing.assert_array_equal(read_volume(path).array, array)
    # A library cannot store such a path.
    _, skipped = find_scans([folder])
    assert "not UTF-8" in skipped[0].reason


def test_a_folder_that_cannot_be_read(tmp_path, array, monkeypatch):
    folder = write(tmp_path / "ct", array)

    def refuse(_self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    refused(folder, "cannot be read .Permission denied")


def test_damaged_meta_information(tmp_path, array):
    """GDCM reads such a file without end."""
    folder = write(tmp_path / "ct", array)
    data = (folder / "1-003.dcm").read_bytes()
    (folder / "1-003.dcm").write_bytes(data[:154] + b"\x11\xd9\x9f\0" + data[154:])
    refused(folder, "1-003.dcm is damaged")
    assert "1-003.dcm is damaged" in find_scans([folder])[1][0].reason
