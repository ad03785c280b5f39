"""Bytes that belong to something else, and headers that contradict themselves: never read as a scan without a word."""

import struct

import numpy as np
import pytest
import SimpleITK as sitk

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.hounsfield import check_ct
from CoralBayLib.imaging.volume_io import read_volume

SIZE = "24 20 12"
SPACE = "space: left-posterior-superior\nspace directions: (4,0,0) (0,3,0) (0,0,5)\nspace origin: (-10,-20,30)\n"
ORIGIN_RAS = [10, 20, 30]


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(-1000, 600, (12, 20, 24)).astype("<i2")


def nrrd(path, data, extra="", encoding="raw", space=SPACE):
    header = f"NRRD0004\ntype: short\ndimension: 3\n{space}sizes: {SIZE}\nendian: little\nencoding: {encoding}\n{extra}\n"
    path.write_bytes(header.encode() + data)
    return path


def meta(path, data, extra="", file="LOCAL", binary="True"):
    header = f"ObjectType = Image\nNDims = 3\nBinaryData = {binary}\n{extra}ElementSpacing = 4 3 5\nDimSize = {SIZE}\n"
    path.write_bytes(f"{header}ElementType = MET_SHORT\nElementDataFile = {file}\n".encode() + data)
    return path


def nifti(path, voxels, *edits):
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((4, 3, 5))
    image.SetOrigin((-10, -20, 30))
    sitk.WriteImage(image, str(path))
    data = bytearray(path.read_bytes())
    for at, form, *values in edits:
        struct.pack_into(f"<{form}", data, at, *values)
    path.write_bytes(data)
    return path


def refusal(path):
    with pytest.raises(VolumeError) as caught:
        read_volume(path)
    return str(caught.value)


OTHER_SFORM = (280, "12f", -6, 0, 0, 77, 0, -3, 0, 66, 0, 0, 5, 55)


@pytest.mark.parametrize(
    ("codes", "origin", "spacing"),
    [
        ((1, 1), (77, 66, 55), (6, 3, 5)),
        ((2, 1), (77, 66, 55), (6, 3, 5)),
        ((1, 2), ORIGIN_RAS, (4, 3, 5)),
        ((3, 4), ORIGIN_RAS, (4, 3, 5)),
    ],
)
def test_a_qform_and_an_sform_are_never_mixed(tmp_path, voxels, codes, origin, spacing):
    path = nifti(tmp_path / "a.nii", voxels, (252, "2h", *codes), OTHER_SFORM)
    with pytest.warns(UserWarning, match="two placements in space, which differ by up to 85"):
        grid = read_volume(path).grid
    np.testing.assert_allclose(grid.ijk_to_ras[:3, 3], origin)
    np.testing.assert_allclose(grid.spacing_mm, spacing)


def test_placements_that_agree_are_not_remarked_on(tmp_path, voxels, recwarn):
    read_volume(nifti(tmp_path / "a.nii", voxels, (252, "2h", 1, 2)))
    assert not [w for w in recwarn if "placements" in str(w.message)]


def test_a_negative_slope_is_refused(tmp_path, voxels):
    assert "slope" in refusal(nifti(tmp_path / "a.nii", voxels, (112, "2f", -1, 0)))


def test_bytes_left_over_are_refused_and_padding_is_not(tmp_path, voxels):
    whole = nifti(tmp_path / "a.nii", voxels).read_bytes()
    (tmp_path / "padded.nii").write_bytes(whole + bytes(300) + b"\n")
    np.testing.assert_array_equal(read_volume(tmp_path / "padded.nii").array, voxels)
    (tmp_path / "more.nii").write_bytes(whole + b"12345678")
    assert "8 bytes are left over" in refusal(tmp_path / "more.nii")


@pytest.mark.parametrize("kind", ["nrrd", "nifti", "prefix"])
def test_a_data_file_with_a_header_of_its_own_is_refused(tmp_path, voxels, kind):
    data = tmp_path / "data.bin"
    if kind == "nrrd":
        nrrd(data, voxels.tobytes())
    elif kind == "nifti":
        nifti(tmp_path / "x.nii", voxels).rename(data)
    else:
        data.write_bytes(b"x" * 50 + voxels.tobytes())
    assert "left over" in refusal(nrrd(tmp_path / "a.nhdr", b"", "data file: data.bin\n"))
    assert "left over" in refusal(meta(tmp_path / "a.mhd", b"", file="data.bin"))
    if kind == "prefix":
        path = meta(tmp_path / "b.mhd", b"", "HeaderSize = 50\n", file="data.bin")
        np.testing.assert_array_equal(read_volume(path).array, voxels)


def test_voxels_said_to_be_the_last_bytes_are_those(tmp_path, voxels):
    path = nrrd(tmp_path / "a.nrrd", b"0" * 100 + voxels.tobytes(), "byte skip: -1\n")
    np.testing.assert_array_equal(read_volume(path).array, voxels)


@pytest.mark.parametrize("value", ["-998.5", "nan", "99999", "-1e300"])
def test_a_number_that_the_type_cannot_hold_is_refused(tmp_path, voxels, value):
    words = [value, *map(str, voxels.ravel()[1:])]
    assert "not a whole number" in refusal(nrrd(tmp_path / "a.nrrd", " ".join(words).encode(), encoding="ascii"))
    assert "not a whole number" in refusal(meta(tmp_path / "a.mha", " ".join(words).encode(), binary="False"))


def test_a_value_too_many_is_refused(tmp_path, voxels):
    words = " ".join(map(str, [*voxels.ravel(), 7])).encode()
    assert "5,761 values for 5,760 voxels" in refusal(nrrd(tmp_path / "a.nrrd", words, encoding="ascii"))


@pytest.mark.parametrize("extra", ['space units: "cm" "cm" "cm"\n', 'space units: "m" "m" "m"\n'])
def test_a_geometry_in_another_unit_is_refused(tmp_path, voxels, extra):
    assert "Expected mm" in refusal(nrrd(tmp_path / "a.nrrd", voxels.tobytes(), extra))
    path = nrrd(tmp_path / "b.nrrd", voxels.tobytes(), 'space units: "mm" "mm" "mm"\n')
    np.testing.assert_allclose(read_volume(path).grid.spacing_mm, (4, 3, 5))


def test_one_data_file_for_two_slices_is_refused(tmp_path, voxels):
    names = [f"{n}.raw" for n in range(12)]
    for name, values in zip(names, voxels, strict=True):
        (tmp_path / name).write_bytes(values.tobytes())
    listed = "data file: LIST\n" + "\n".join(names)
    np.testing.assert_array_equal(read_volume(nrrd(tmp_path / "a.nhdr", b"", listed)).array, voxels)
    assert "'3.raw' twice" in refusal(nrrd(tmp_path / "b.nhdr", b"", listed.replace("4.raw", "3.raw")))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("ElementToIntensityFunctionSlope = 2\n", "are to be scaled"),
        ("ElementToIntensityFunctionOffset = -1024\n", "are to be scaled"),
        ("Modality = MET_MOD_MR\n", "modality MR"),
        ("TransformMatrix = 2 0 0 0 2 0 0 0 2\n", "length 1"),
        ("Offset = 1 2 3\nPosition = 9 9 9\n", "two positions"),
    ],
)
def test_a_metaimage_whose_header_says_otherwise_is_refused(tmp_path, voxels, extra, message):
    assert message in refusal(meta(tmp_path / "a.mha", voxels.tobytes(), extra))


def test_neutral_fields_of_a_metaimage_are_read(tmp_path, voxels):
    extra = "Modality = MET_MOD_CT\nElementToIntensityFunctionSlope = 1\nElementToIntensityFunctionOffset = 0\n"
    np.testing.assert_array_equal(read_volume(meta(tmp_path / "a.mha", voxels.tobytes(), extra)).array, voxels)


@pytest.mark.parametrize("soft", [200, 1064])
def test_padding_is_not_taken_for_air(soft):
    values = np.full((12, 40, 40), 24, np.int16)
    values[:, 15:25, 15:25] = soft
    values[:, :, :3] = -2000
    with pytest.raises(VolumeError, match="almost no voxel is below"):
        check_ct(Volume(values, Grid((12, 40, 40), np.diag([4.0, 4, 4, 1]))))


def test_a_series_of_a_file_that_has_none(tmp_path, voxels):
    with pytest.raises(VolumeError, match=r"has no series 1\.2\.3"):
        read_volume(nifti(tmp_path / "a.nii", voxels), series="1.2.3")
