"""Reading and writing volumes, and the question whether they are CT."""

import gzip
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from CoralBayLib.core.errors import StoreError, VolumeError
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.volume_io import check_ct, read_labelmap, read_volume, write_volume

SHAPE = (5, 6, 7)


def matrix(axes, spacing=(0.7, 0.8, 2.5), origin=(-120.5, 33.25, -400)):
    made = np.eye(4)
    made[:3, :3] = np.array(axes) * spacing
    made[:3, 3] = origin
    return made


TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, 0.96, -0.28], [0, 0.28, 0.96]])
ORTHOGONAL = {
    "plain": np.eye(3),
    "left-handed": np.diag([-1, 1, 1]),
    "like DICOM": np.diag([-1, -1, 1]),
    "coronal": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "oblique": TURN,
    "oblique flipped": TURN @ np.diag([1, -1, 1]),
}
SHEAR = TURN @ np.array([[1, 0.2, 0], [0, np.sqrt(0.96), 0], [0, 0, 1]])


def ct(axes=ORTHOGONAL["plain"], dtype=np.int16, shape=SHAPE):
    values = np.random.default_rng(0).integers(-1000, 1500, shape).astype(dtype)
    values.flat[:2] = -1024, 3071
    return Volume(values, Grid(shape, matrix(axes)))


@pytest.mark.parametrize("suffix", [".nrrd", ".nii", ".nii.gz", ".mha"])
@pytest.mark.parametrize("axes", ORTHOGONAL.values(), ids=ORTHOGONAL)
def test_volumes_come_back(tmp_path, suffix, axes):
    volume = ct(axes)
    write_volume(volume, tmp_path / f"scan{suffix}")
    back = read_volume(str(tmp_path / f"scan{suffix}"))
    assert back.array.dtype == np.int16
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.grid.same_as(volume.grid)
    assert [p.name for p in tmp_path.iterdir()] == [f"scan{suffix}"]


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_sheared_grid_comes_back(tmp_path, suffix):
    volume = ct(SHEAR)
    write_volume(volume, tmp_path / f"scan{suffix}")
    assert read_volume(tmp_path / f"scan{suffix}").grid.same_as(volume.grid, 1e-6)


def test_a_sheared_grid_is_refused_for_nifti(tmp_path):
    with pytest.raises(VolumeError, match="nrrd"):
        write_volume(ct(SHEAR), tmp_path / "scan.nii.gz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("axes", ORTHOGONAL.values(), ids=ORTHOGONAL)
def test_nibabel_agrees_both_ways(tmp_path, axes):
    """nibabel is another reader of NIfTI, with RAS affines like ours."""
    volume = ct(axes)
    write_volume(volume, tmp_path / "ours.nii.gz")
    theirs = nibabel.load(tmp_path / "ours.nii.gz")
    np.testing.assert_allclose(theirs.affine, volume.grid.ijk_to_ras, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(theirs.dataobj).T, volume.array)
    image = nibabel.Nifti1Image(volume.array.T, volume.grid.ijk_to_ras)
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    nibabel.save(image, tmp_path / "theirs.nii")
    back = read_volume(tmp_path / "theirs.nii")
    assert back.grid.same_as(volume.grid)
    np.testing.assert_array_equal(back.array, volume.array)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([-1024, 3071], np.int32), np.int16),
        (np.array([0, 3000], np.uint16), np.int16),
        (np.array([0, 40000], np.uint16), np.float32),
        (np.array([-1024, 70000], np.int32), np.float32),
        (np.array([-1000.0, 60.0], np.float64), np.int16),
        (np.array([-1000.0, 60.5], np.float64), np.float32),
        (np.array([0, 255], np.uint8), np.int16),
    ],
)
def test_types(tmp_path, values, expected):
    array = np.resize(values, SHAPE)
    write_volume(Volume(array, Grid(SHAPE, np.eye(4))), tmp_path / "scan.nrrd")
    back = read_volume(tmp_path / "scan.nrrd").array
    assert back.dtype == expected
    np.testing.assert_array_equal(back, array)


def test_scaled_nifti_is_in_hu_and_int16(tmp_path):
    image = nibabel.Nifti1Image(np.arange(210, dtype=np.int16).reshape(5, 6, 7), np.eye(4))
    image.header.set_slope_inter(1, -1024)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    back = read_volume(tmp_path / "scan.nii.gz").array
    assert back.dtype == np.int16
    assert back.min() == nibabel.load(tmp_path / "scan.nii.gz").get_fdata().min() < -1000


def test_a_view_with_negative_strides_is_written(tmp_path):
    volume = ct(ORTHOGONAL["like DICOM"]).canonical()
    write_volume(volume, tmp_path / "scan.nrrd")
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nrrd").array, volume.array)


def test_a_fourth_axis_of_length_one_is_no_obstacle(tmp_path):
    volume = ct()
    sitk.WriteImage(sitk.JoinSeries(sitk.GetImageFromArray(volume.array)), str(tmp_path / "scan.nrrd"))
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nrrd").array, volume.array)


def test_detached_headers(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(ct().array), str(tmp_path / "scan.nhdr"))
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nhdr").array, ct().array)
    (tmp_path / "scan.raw").unlink()
    with pytest.raises(VolumeError, match="in the same folder"):
        read_volume(tmp_path / "scan.nhdr")


def test_missing_empty_and_no_image(tmp_path):
    with pytest.raises(VolumeError, match="no file or folder"):
        read_volume(tmp_path / "nowhere.nrrd")
    (tmp_path / "empty.nrrd").touch()
    with pytest.raises(VolumeError, match="0 bytes"):
        read_volume(tmp_path / "empty.nrrd")
    for name in ("text.nrrd", "text.nii.gz", "text.dcm"):
        (tmp_path / name).write_text("this is no image")
        with pytest.raises(VolumeError, match="not an image"):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("suffix", [".nrrd", ".nii", ".nii.gz", ".mha"])
def test_truncated(tmp_path, suffix, compressed):
    whole = tmp_path / f"whole{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(ct(shape=(20, 30, 40)).array), str(whole), compressed)
    data = whole.read_bytes()
    for part in (0.6, 0.99):
        (tmp_path / f"part{suffix}").write_bytes(data[: int(part * len(data))])
        with pytest.raises(VolumeError, match="truncated"):
            read_volume(tmp_path / f"part{suffix}")


def test_gzip_in_several_members_is_whole(tmp_path):
    """Parallel compressors write members, of which the last tells only its own length."""
    sitk.WriteImage(sitk.GetImageFromArray(ct().array), str(tmp_path / "scan.nii"))
    data = (tmp_path / "scan.nii").read_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(data[:400]) + gzip.compress(data[400:]))
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii.gz").array, ct().array)


def test_2d_colour_and_time(tmp_path):
    flat = sitk.GetImageFromArray(np.zeros((30, 40), np.uint8))
    sitk.WriteImage(flat, str(tmp_path / "flat.png"))
    with pytest.raises(VolumeError, match="2D"):
        read_volume(tmp_path / "flat.png")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True), str(tmp_path / "rgb.nrrd"))
    with pytest.raises(VolumeError, match="3 values per voxel"):
        read_volume(tmp_path / "rgb.nrrd")
    for suffix in (".nrrd", ".nii.gz"):
        frames = sitk.GetImageFromArray(np.zeros((2, 4, 5, 6), np.int16), isVector=False)
        sitk.WriteImage(frames, str(tmp_path / f"time{suffix}"))
        with pytest.raises(VolumeError, match="time series"):
            read_volume(tmp_path / f"time{suffix}")


def test_sheared_nifti_is_explained(tmp_path):
    affine = np.eye(4)
    affine[0, 1] = 0.3
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), affine), tmp_path / "scan.nii")
    with pytest.raises(VolumeError, match="sheared.*Slicer"):
        read_volume(tmp_path / "scan.nii")


def test_labelmaps(tmp_path):
    for top, kind in ((200, np.uint8), (300, np.int16), (70000, np.int32)):
        array = np.zeros(SHAPE, np.float64)
        array[0, 0, 0] = top
        write_volume(Volume(array, Grid(SHAPE, np.eye(4))), tmp_path / "labels.nrrd")
        labels = read_labelmap(tmp_path / "labels.nrrd").array
        assert labels.dtype == kind
        assert labels[0, 0, 0] == top
    for wrong in (-1, 0.5):
        write_volume(Volume(np.full(SHAPE, wrong), Grid(SHAPE, np.eye(4))), tmp_path / "labels.nrrd")
        with pytest.raises(VolumeError, match="not a labelmap"):
            read_labelmap(tmp_path / "labels.nrrd")


def test_bad_places_to_write(tmp_path):
    with pytest.raises(VolumeError, match="format"):
        write_volume(ct(), tmp_path / "scan.xyz")
    with pytest.raises(StoreError, match="does not exist"):
        write_volume(ct(), tmp_path / "nowhere" / "scan.nrrd")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on file size stands in for a full disk")
@pytest.mark.parametrize("limit", [5000, 60])
def test_a_full_disk_leaves_what_stood_there(tmp_path, limit):
    """ITK alone reports success for NIfTI, and for files that fit into a buffer."""
    script = """
import resource, signal, sys
import numpy as np
from CoralBayLib.core.errors import StoreError
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.segmentation_io import Segment, write_segmentation
from CoralBayLib.imaging.volume_io import write_volume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
values = np.random.default_rng(0).integers(-1000, 1000, (30, 40, 50)).astype(np.int16)
if limit < 1000:
    values = np.zeros((9, 9, 9), np.uint8)
volume = Volume(values, Grid(values.shape, np.eye(4)))
for path in sys.argv[2:]:
    try:
        if path.endswith(".seg.nrrd"):
            write_segmentation(Volume((values > 0).astype(np.uint8), volume.grid), [Segment(1, "liver", (1, 0, 0))], path)
        else:
            write_volume(volume, path)
    except StoreError as error:
        assert "Nothing was changed" in str(error), error
    else:
        sys.exit("written: " + path)
"""
    paths = [tmp_path / f"scan{suffix}" for suffix in (".nrrd", ".nii", ".nii.gz", ".mha", ".seg.nrrd")]
    for path in paths:
        path.write_text("before")
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script, str(limit), *paths], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert all(path.read_text(encoding="utf-8") == "before" for path in paths)


def phantom():
    array = np.full((20, 40, 40), -1000, np.float32)
    array[:, 8:32, 8:32] = 40
    array[:, 15:20, 15:20] = 700
    return Volume(array, Grid(array.shape, np.diag([5.0, 5, 5, 1])))


def twice(hu):
    """The intercept applied twice, to a scan with noise and cortical bone."""
    return np.where(hu == 700, 1100, hu) + np.random.default_rng(0).integers(-8, 9, hu.shape) - 1024


def with_values(values, spacing=5.0):
    return Volume(np.asarray(values), Grid(np.shape(values), np.diag([spacing] * 3 + [1.0])))


def test_a_ct_passes():
    check_ct(phantom())
    check_ct(Volume(phantom().array.astype(np.int16), phantom().grid))
    padded = phantom().array.copy()
    padded[:, :3] = -2048
    check_ct(with_values(padded))
    small = np.full((20, 40, 40), -1000) + np.random.default_rng(0).integers(-8, 9, (20, 40, 40))
    small[:, 18:22, 18:22] = 40
    small[:, :, :12] = -2000  # a wrist in a wide field of view
    check_ct(with_values(small))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_counted_even_when_hu_is_assumed(bad):
    array = phantom().array.copy()
    array[3, 4, 5:8] = bad
    with pytest.raises(VolumeError, match="3 of 32,000 voxels are NaN or infinite"):
        check_ct(with_values(array), assume_hu=True)


def test_shape_and_size_are_checked_even_when_hu_is_assumed():
    for message, volume in {
        "same value": with_values(np.full((20, 40, 40), -1000.0)),
        "too thin": with_values(phantom().array[:1]),
        "another unit": with_values(phantom().array, 0.005),
        "measures": with_values(phantom().array, 200),
        "40 x 40 x 40 mm apart": with_values(phantom().array, 40),
        "100 x 100 x 100 mm apart": with_values(phantom().array, 100),
    }.items():
        with pytest.raises(VolumeError, match=message):
            check_ct(volume, assume_hu=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hu: (hu + 1000) / 1700, "0..1"),
        (lambda hu: hu > 0, "mask"),
        (lambda hu: (hu - hu.mean()) / hu.std(), "normalized"),
        (lambda hu: ((hu + 1000) / 1700 * 255).astype(np.uint8), "8-bit"),
        (lambda hu: hu + 1024, "intercept"),
        (lambda hu: np.where(hu == -1000, np.where(np.arange(40) < 3, -2000, 24), hu + 1024), "intercept"),
        (lambda hu: hu * 1000, "soft tissue"),
        (lambda hu: np.minimum(hu, 0) - 500, "soft tissue"),
        (lambda hu: np.where(hu > -500, np.random.default_rng(0).normal(180, 60, hu.shape), 0).clip(0, 427), "MR"),
        (lambda hu: np.where(hu > -500, np.random.default_rng(0).normal(500, 150, hu.shape), 0).clip(-4, 1277), "MR"),
        (lambda hu: np.where(hu > -500, np.random.default_rng(0).normal(300, 90, hu.shape), -20), "MR"),
        (lambda hu: twice(hu), "applied twice"),
        (lambda hu: np.where(np.arange(40) < 3, -3048, twice(hu)), "applied twice"),
    ],
)
def test_what_is_not_hu_is_refused_unless_assumed(change, message):
    volume = with_values(change(phantom().array))
    with pytest.raises(VolumeError, match=message):
        check_ct(volume)
    check_ct(volume, assume_hu=True)
