"""Damaged, mistaken and unusual image files: read right, or refused in words with the file named."""

import bz2
import gzip
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from CoralBayLib.core.errors import CoralBayError, VolumeError
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.segmentation_io import read_segmentation
from CoralBayLib.imaging.volume_io import check_ct, read_labelmap, read_volume, write_volume

SHAPE = (24, 40, 40)
VALUES = np.random.default_rng(0).integers(-1000, 1500, SHAPE).astype(np.int16)
AFFINE = np.array([[4.0, 0, 0, -78], [0, 4, 0, -78], [0, 0, 4, -500], [0, 0, 0, 1]])


def nifti(array=VALUES, pixdim=(1, 4, 4, 4), qform=1, sform=1, order="<", dims=None, scale=(1, 0), offset=352, **more):
    """The bytes of a NIfTI-1 file."""
    head = bytearray(352)
    code = {"i2": 4, "f4": 16, "u1": 2, "f8": 64}[array.dtype.str[1:]]
    struct.pack_into(f"{order}i", head, 0, 348)
    struct.pack_into(f"{order}8h", head, 40, *(dims or (3, *array.shape[::-1], 1, 1, 1, 1)))
    struct.pack_into(f"{order}2h", head, 70, code, more.get("bits", 8 * array.itemsize))
    struct.pack_into(f"{order}8f", head, 76, *pixdim, 0, 0, 0, 0)
    struct.pack_into(f"{order}3f", head, 108, offset, *scale)
    head[123] = 2
    struct.pack_into(f"{order}2h", head, 252, qform, sform)
    struct.pack_into(f"{order}6f", head, 256, *more.get("quaternion", (0, 0, 0)), -78, -78, -500)
    struct.pack_into(f"{order}12f", head, 280, *more.get("rows", AFFINE[:3]).ravel())
    head[344:348] = b"n+1\0"
    return bytes(head) + array.astype(array.dtype.newbyteorder(order)).tobytes()


def nrrd(payload, encoding="raw", more="", directions="(4,0,0) (0,4,0) (0,0,4)"):
    head = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 40 40 24\n"
        f"space directions: {directions}\nendian: little\nencoding: {encoding}\nspace origin: (-78,-78,-500)\n{more}\n"
    )
    return head.encode() + payload


def metaimage(payload, **fields):
    lines = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "-1 0 0 0 -1 0 0 0 1",
        "Offset": "78 78 -500",
        "ElementSpacing": "4 4 4",
        "DimSize": "40 40 24",
        "ElementType": "MET_SHORT",
        **fields,
    }
    last = lines.pop("ElementDataFile", "LOCAL")
    return "".join(f"{k} = {v}\n" for k, v in lines.items()).encode() + f"ElementDataFile = {last}\n".encode() + payload


RAW = VALUES.astype("<i2").tobytes()


def right(path):
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, VALUES)
    np.testing.assert_allclose(volume.grid.ijk_to_ras, AFFINE, atol=1e-4)


def refused(path, match):
    with pytest.raises(VolumeError, match=match) as caught:
        read_volume(path)
    assert path.name in str(caught.value)


GOOD = {
    "a.nii": nifti(),
    "big-endian.nii": nifti(order=">"),
    "a.nii.gz": gzip.compress(nifti()),
    "unpacked-by-a-browser.nii.gz": nifti(),
    "packed.nii": gzip.compress(nifti()),
    "padded.nii.gz": gzip.compress(nifti()) + bytes(512),
    "sform-alone.nii": nifti(pixdim=(1, 1, 1, 1), qform=0),
    "negative.nii": nifti(pixdim=(1, -4, 4, 4)),
    "negative-qform-alone.nii": nifti(pixdim=(1, 4, -4, 4), sform=0),
    "zero-pixdim.nii": nifti(pixdim=(1, 0, 0, 0)),
    "nan-quaternion.nii": nifti(quaternion=(np.nan, 0, 0)),
    "nan-slope.nii": nifti(scale=(np.nan, np.nan)),
    "raw.nrrd": nrrd(RAW),
    "gzip.nrrd": nrrd(gzip.compress(RAW), "gzip"),
    "bzip2.nrrd": nrrd(bz2.compress(RAW), "bzip2"),
    "two-streams.nrrd": nrrd(bz2.compress(RAW[:9]) + bz2.compress(RAW[9:]), "bz2"),
    "text.nrrd": nrrd(" ".join(map(str, VALUES.ravel())).encode(), "ascii"),
    "skipped.nrrd": nrrd(b"line\n123" + RAW, "raw", "line skip: 1\nbyte skip: 3\n"),
    "latin.nrrd": nrrd(RAW, more="k\xfcy:=M\xfcller\n"),
    "whole.nrrd.gz": gzip.compress(nrrd(RAW)),
    "raw.mha": metaimage(RAW),
    "zlib.mha": metaimage(zlib.compress(RAW), CompressedData="True", CompressedDataSize=len(zlib.compress(RAW))),
}


@pytest.mark.parametrize(("centers", "first"), [("node", -78), ("cell", -76)])
def test_axis_mins_are_of_the_first_voxel_or_of_its_edge(tmp_path, centers, first):
    text = nrrd(RAW, more=f"axis mins: -78 -78 -500\ncenterings: {centers} {centers} {centers}\n")
    lines = [line for line in text.split(b"\n\n")[0].split(b"\n") if not line.startswith(b"space")]
    spacings = b"spacings: 4 4 4"
    (tmp_path / "a.nrrd").write_bytes(b"\n".join([*lines, spacings, b"", b""]) + RAW)
    assert np.allclose(read_volume(tmp_path / "a.nrrd").grid.ijk_to_ras[0, 3], -first)


def test_a_metaimage_in_centimeters_is_refused(tmp_path):
    (tmp_path / "a.mha").write_bytes(metaimage(RAW, DistanceUnits="cm"))
    refused(tmp_path / "a.mha", "'cm'")
    (tmp_path / "b.mha").write_bytes(metaimage(RAW, DistanceUnits="mm"))
    right(tmp_path / "b.mha")


@pytest.mark.parametrize("name", GOOD)
def test_files_as_people_have_them_are_read(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(GOOD[name])
    right(path)


def test_a_key_that_is_not_utf8(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(nrrd(RAW).replace(b"\n\n", b"\nk\xff\xfe:=\xff\n\n", 1))
    right(tmp_path / "a.nrrd")


BAD = {
    "short.nii": (nifti()[:-100], "truncated"),
    "long.nii": (nifti() + bytes(5000), "header announces"),
    "fewer-slices.nii": (nifti(dims=(3, 40, 40, 23, 1, 1, 1, 1)), "header announces"),
    "huge.nii": (nifti(dims=(3, 32000, 32000, 32000, 1, 1, 1, 1)), "truncated"),
    "huge.nii.gz": (gzip.compress(nifti(dims=(3, 32000, 32000, 32000, 1, 1, 1, 1))), "header|memory"),
    "negative-size.nii": (nifti(dims=(3, 40, -40, 24, 1, 1, 1, 1)), "sizes"),
    "bits.nii": (nifti(bits=8), "bits"),
    "offset.nii": (nifti(offset=0), "begin"),
    "no-spacing.nii": (nifti(pixdim=(1, 4, 0, 4), sform=0), "pixdim"),
    "nan-spacing.nii": (nifti(pixdim=(1, 4, np.nan, 4), sform=0), "pixdim"),
    "flat-sform.nii": (nifti(rows=np.zeros((3, 4))), "sform"),
    "nan-sform.nii": (nifti(rows=np.full((3, 4), np.nan)), "sform"),
    "quaternion.nii": (nifti(sform=0, quaternion=(1, 1, 1)), "qform"),
    "infinite-slope.nii": (nifti(scale=(np.inf, 0)), "slope"),
    "sizes.nrrd": (nrrd(RAW).replace(b"40 40 24", b"40 40 240000000"), "sizes"),
    "nan.nrrd": (nrrd(RAW, directions="(nan,0,0) (0,4,0) (0,0,4)"), "space directions"),
    "flat.nrrd": (nrrd(RAW, directions="(4,0,0) (4,0,0) (0,0,4)"), "does not span"),
    "no-spacing.nrrd": (nrrd(RAW).replace(b"space directions: (4,0,0) (0,4,0) (0,0,4)\n", b""), "no spacing"),
    "space.nrrd": (nrrd(RAW).replace(b"space: right-anterior-superior", b"space: " + b"9" * 5000), "'space'"),
    "space-twice.nrrd": (nrrd(RAW).replace(b"space: right-anterior-superior", b"space: left left"), "'space'"),
    "lost-sector.nrrd": (nrrd(RAW, more="key:=" + "\0" * 512), "zero bytes"),
    "lost-sector.mha": (metaimage(RAW, Comment="\0" * 512), "zero bytes"),
    "long-number.nrrd": (nrrd(RAW, directions=f"(4.{'0' * 5000}1,0,0) (0,4,0) (0,0,4)"), "space directions"),
    "number-of-python.nrrd": (nrrd(RAW, directions="(4_0,0,0) (0,4,0) (0,0,4)"), "space directions"),
    "long-number.mha": (metaimage(RAW, ElementSpacing=f"4.{'0' * 5000}1 4 4"), "ElementSpacing"),
    "number-of-python.mha": (metaimage(RAW, DimSize="4_0 40 24"), "DimSize"),
    "twice.nrrd": (nrrd(RAW, more="type: uchar\n"), "twice"),
    "encoding.nrrd": (nrrd(RAW, "zrl"), "encoding 'zrl'"),
    "no-endian.nrrd": (nrrd(RAW).replace(b"endian: little\n", b""), "endian"),
    "no-data.nrrd": (nrrd(b"", more="data file: gone.raw\n"), "gone.raw"),
    "short.mha": (metaimage(RAW[:-2]), "truncated"),
    "no-spacing.mha": (metaimage(RAW).replace(b"ElementSpacing = 4 4 4\n", b""), "no spacing"),
    "zero-spacing.mha": (metaimage(RAW, ElementSpacing="4 0 4"), "ElementSpacing"),
    "flat.mha": (metaimage(RAW, TransformMatrix="1 0 0 1 0 0 0 0 1"), "TransformMatrix"),
    "no-end.mha": (b"NDims = 3\n" + b"x" * (2 << 20), "no end"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_right_is_refused(tmp_path, name):
    data, match = BAD[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CoralBayError, match=match) as caught:
        read_volume(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.parametrize("dimensions", ["1e300", "99", "-1", "4", "0", "nan", ""])
def test_dimensions_of_a_metaimage_that_are_no_count(tmp_path, dimensions):
    (tmp_path / "a.mha").write_bytes(metaimage(RAW, NDims=dimensions))
    refused(tmp_path / "a.mha", "NDims|axes")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".bz2.nrrd", ".mha"])
def test_one_wrong_byte_in_compressed_voxels(tmp_path, suffix):
    """Anywhere, the checksum included."""
    noise = np.random.default_rng(1).integers(-1000, 1000, SHAPE).astype("<i2")
    packed = {
        ".nii.gz": gzip.compress(nifti(noise)),
        ".nrrd": nrrd(gzip.compress(noise.tobytes()), "gzip"),
        ".bz2.nrrd": nrrd(bz2.compress(noise.tobytes()), "bzip2"),
        ".mha": metaimage(zlib.compress(noise.tobytes()), CompressedData="True"),
    }[suffix]
    for place in (len(packed) // 2, len(packed) * 3 // 4, len(packed) - 6, len(packed) - 2):
        data = bytearray(packed)
        data[place] ^= 0xFF
        path = tmp_path / f"{place}{suffix}"
        path.write_bytes(data)
        refused(path, "damaged")


def test_the_file_that_was_named_is_read(tmp_path):
    """Not one beside it whose name is alike."""
    other = nifti(VALUES // 2)
    for name in ("a.nii", "a.nii.gz", "b.nii.gz", "b.hdr", "b.img", "c.nii"):
        (tmp_path / name).write_bytes(other)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti()))
    right(tmp_path / "a.nii.gz")
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(other))
    (tmp_path / "c.nii").write_bytes(nifti())
    right(tmp_path / "c.nii")
    (tmp_path / "b.nii").write_bytes(nifti())
    right(tmp_path / "b.nii")


def test_a_header_with_its_img(tmp_path):
    data = nifti(offset=352)
    head = bytearray(data[:348])
    head[344:348] = b"ni1\0"
    struct.pack_into("<f", head, 108, 0)
    (tmp_path / "a.hdr").write_bytes(head)
    (tmp_path / "a.nii").write_bytes(nifti(VALUES // 2))
    refused(tmp_path / "a.hdr", "a.img")
    (tmp_path / "a.img").write_bytes(RAW)
    right(tmp_path / "a.hdr")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_counted(tmp_path, bad):
    values = VALUES.astype(np.float32)
    values[0, 0, :5] = bad
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nifti(values)))
    volume = read_volume(tmp_path / "a.nii.gz")
    with pytest.raises(VolumeError, match="5 of 38,400 voxels are NaN or infinite"):
        check_ct(volume, assume_hu=True)
    with pytest.raises(VolumeError, match="NaN"):
        read_labelmap(tmp_path / "a.nii.gz")


def test_scaled_values_are_those_of_itk(tmp_path):
    (tmp_path / "a.nii").write_bytes(nifti(VALUES, scale=(0.37, -11.5)))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii")))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").array, expected)


def test_names_of_segments_that_are_not_utf8(tmp_path):
    labels = Volume(np.pad(np.ones((4, 4, 4), np.uint8), 2), Grid((8, 8, 8), np.eye(4)))
    write_volume(labels, tmp_path / "a.nrrd")
    data = (tmp_path / "a.nrrd").read_bytes()
    end = data.index(b"\n\n")
    pairs = b"\nSegment0_ID:=s\nSegment0_Name:=M\xe4hre\nSegment0_LabelValue:=1\nSegment0_Layer:=0"
    (tmp_path / "a.seg.nrrd").write_bytes(data[:end] + pairs + data[end:])
    assert [segment.name for segment in read_segmentation(tmp_path / "a.seg.nrrd")[1]] == ["M\u00e4hre"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits a process's memory")
def test_a_header_that_asks_for_too_much_allocates_nothing(tmp_path):
    """9 GB of voxels from a small compressed file, with 6 GB of address space."""
    head = nrrd(gzip.compress(RAW), "gzip").replace(b"sizes: 40 40 24", b"sizes: 1600 1600 1700")
    (tmp_path / "a.nrrd").write_bytes(head)
    script = (
        "import sys, resource\nfrom CoralBayLib.imaging.volume_io import read_volume\n"
        "from CoralBayLib.core.errors import CoralBayError\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({6 << 30}, {6 << 30}))\n"
        "try:\n    read_volume(sys.argv[1])\nexcept CoralBayError as error:\n    sys.exit(0)\nsys.exit(3)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "a.nrrd"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["a" * 300 + ".nrrd", "a" * 5000, "a\0b.nrrd"])
def test_paths_that_no_file_can_have(name):
    with pytest.raises(VolumeError, match="path"):
        read_volume(name)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names of any bytes")
@pytest.mark.parametrize("name", ["a.nrrd", "a.nii.gz"])
def test_a_folder_whose_name_is_not_utf8(tmp_path, name):
    folder = tmp_path / "M\udcfcller"
    folder.mkdir()
    (folder / name).write_bytes(GOOD["gzip.nrrd" if name == "a.nrrd" else "a.nii.gz"])
    right(folder / name)
    with pytest.raises(VolumeError, match=r"M\?ller"):
        read_volume(folder / "gone.nrrd")
