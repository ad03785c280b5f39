"""Outputs are checked before anything is computed."""

import os
import sys

import pytest

from CoralBayLib.core.errors import StoreError
from CoralBayLib.core.outputs import is_same_file, require_outside, require_writable, require_writable_folder
from CoralBayLib.core.paths import atomic_write


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "ct.nrrd"
    path.write_bytes(b"scan")
    return path


def test_a_new_file_and_an_old_result_may_be_written(tmp_path, scan):
    assert require_writable(tmp_path / "a.seg.nrrd", [scan, None], suffixes=(".seg.nrrd",)) == tmp_path / "a.seg.nrrd"
    (tmp_path / "A.CSV").write_text("old")
    require_writable(tmp_path / "A.CSV", [scan], suffixes=(".csv",))
    assert not (tmp_path / "a.seg.nrrd").exists()


@pytest.mark.parametrize("name", ["o.nii.gz", "o", "nofolder/o.seg.nrrd", "folder.seg.nrrd", "ct.nrrd/o.seg.nrrd", "x" * 300])
def test_what_cannot_be_written(tmp_path, scan, name):
    (tmp_path / "folder.seg.nrrd").mkdir()
    with pytest.raises(StoreError):
        require_writable(tmp_path / name, suffixes=(".seg.nrrd",))


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(StoreError, match="too long"):
        require_writable(tmp_path / ("x" * 300))


@pytest.mark.parametrize("spelling", ["ct.nrrd", "sub/../ct.nrrd", "symlink.nrrd", "hardlink.nrrd"])
def test_no_input_is_overwritten(tmp_path, scan, spelling):
    (tmp_path / "sub").mkdir()
    (tmp_path / "symlink.nrrd").symlink_to(scan)
    (tmp_path / "hardlink.nrrd").hardlink_to(scan)
    with pytest.raises(StoreError, match="overwrite an input"):
        require_writable(tmp_path / spelling, [tmp_path / "prompts.json", scan])


def test_no_part_of_a_scan_is_overwritten(tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    (series / "1").write_bytes(b"\0" * 128 + b"DICM")
    (series / "old.seg.nrrd").write_bytes(b"NRRD")
    with pytest.raises(StoreError, match="overwrite an input"):
        require_writable(series / "1", [series])
    require_writable(series / "old.seg.nrrd", [series])
    for name in ("ct.mhd", "ct.raw"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(StoreError, match="overwrite an input"):
        require_writable(tmp_path / "ct.raw", [tmp_path / "ct.mhd"])


def test_two_outputs_of_one_name(tmp_path):
    with pytest.raises(StoreError, match="one file"):
        require_writable(tmp_path / "a", others=[tmp_path / "." / "a"])


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs permissions that hold")
def test_a_protected_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="write-protected"):
            require_writable(tmp_path / "a")
    finally:
        tmp_path.chmod(0o700)


def test_folders(tmp_path, scan):
    assert require_writable_folder(tmp_path / "a" / "b", [scan], ["x.csv"]).is_dir()
    with pytest.raises(StoreError, match="cannot be made"):
        require_writable_folder(scan)
    with pytest.raises(StoreError, match="overwrite an input"):
        require_writable_folder(tmp_path, [scan], ["x.csv", "ct.nrrd"])


def test_outside_a_folder(tmp_path):
    (tmp_path / "library").mkdir()
    require_outside(tmp_path / "a.csv", tmp_path / "library", "the library")
    with pytest.raises(StoreError, match="in the library"):
        require_outside(tmp_path / "library" / "library.json", tmp_path / "library", "the library")


def test_a_circle_of_links_is_no_file(tmp_path, scan):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert not is_same_file(tmp_path / "a", scan)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="a device or a pipe"):
        require_writable(tmp_path / "pipe")
    with pytest.raises(StoreError, match="a device or a pipe"), atomic_write(tmp_path / "pipe"):
        pytest.fail("writing began")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    assert not (tmp_path / "pipe").is_file()


def test_a_name_with_a_zero_character(tmp_path):
    with pytest.raises(StoreError, match="zero character"):
        require_writable(tmp_path / "a\0b")


def test_a_slice_of_the_series_of_an_input(tmp_path):
    for name in ("1", "2"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    with pytest.raises(StoreError, match="overwrite an input"):
        require_writable(tmp_path / "2", [tmp_path / "1"])
    (tmp_path / "probe").write_bytes(b"old")
    assert require_writable(tmp_path / "probe", [tmp_path / "1"])
