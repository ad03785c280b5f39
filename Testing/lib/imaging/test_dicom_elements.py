"""The elements of DICOM files are walked before GDCM sees them: sound files are read, damaged ones are refused in words."""

import shutil
import struct
import tracemalloc

import numpy as np
import pytest

from CoralBayLib.core.errors import VolumeError
from CoralBayLib.imaging.headers.dicom_elements import read_elements
from CoralBayLib.imaging.volume_io import read_volume
from Testing.fuzz.elements import BIG, DEFLATED, EXPLICIT, IMPLICIT, RLE, Element, elements, file_of, rewritten
from Testing.fuzz.series import write_series

UNDEFINED = 2**32 - 1
ITEM, ITEM_END, SEQUENCE_END = (struct.pack("<HH", 0xFFFE, number) for number in (0xE000, 0xE00D, 0xE0DD))
OPEN = b"\xff\xff\xff\xff"
CLOSED = bytes(4)


@pytest.fixture
def folder(tmp_path):
    write_series(tmp_path)
    return tmp_path


def with_element(path, element, syntax=IMPLICIT):
    """Add an element to a file of any syntax, before its voxels; gives the file."""
    before, found = elements(path.read_bytes())
    assert before == syntax
    place = next(n for n, each in enumerate(found) if each.tag > element.tag)
    path.write_bytes(file_of(syntax, [*found[:place], element, *found[place:]]))
    return path


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG, DEFLATED, RLE])
def test_transfer_syntaxes_give_the_same_voxels(folder, syntax):
    expected = read_volume(folder)
    for path in folder.iterdir():
        path.write_bytes(rewritten(path.read_bytes(), syntax))
        assert read_elements(path).fault == ""
    found = read_volume(folder)
    np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_allclose(found.grid.ijk_to_ras, expected.grid.ijk_to_ras)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_fragments_of_compressed_voxels(tmp_path, compressor):
    write_series(tmp_path, compressor)
    found = read_elements(tmp_path / "0.dcm")
    assert found.fault == ""
    assert 0 < found.voxel_bytes < (tmp_path / "0.dcm").stat().st_size
    data = (tmp_path / "0.dcm").read_bytes()
    at = data.rindex(ITEM)
    (tmp_path / "0.dcm").write_bytes(data[: at + 4] + struct.pack("<I", 2**31) + data[at + 8 :])
    assert "longer than what is left" in read_elements(tmp_path / "0.dcm").fault
    with pytest.raises(VolumeError, match="0.dcm"):
        read_volume(tmp_path)


def test_what_the_elements_say(folder):
    found = read_elements(folder / "0.dcm")
    assert (found.syntax, found.series) == (IMPLICIT, "1.2.826.0.1.3680043.2.1125.9.1")
    assert (found.sop_class, found.voxel_bytes, found.fault) == ("1.2.840.10008.5.1.4.1.1.2", 2 * 16 * 20, "")


def test_files_that_are_no_dicom_files(tmp_path):
    for number, data in enumerate([b"", b"text" * 100, bytes(500), b"\x08\x00" + bytes(range(256)) * 2]):
        (tmp_path / str(number)).write_bytes(data)
        assert read_elements(tmp_path / str(number)) is None


def test_a_series_without_preambles_is_read(folder):
    expected = read_volume(folder).array
    for path in folder.iterdir():
        _, found = elements(path.read_bytes())
        body = file_of(IMPLICIT, [each for each in found if each.tag >> 16 != 2])[132 + 12 :]
        path.write_bytes(body)
    np.testing.assert_array_equal(read_volume(folder).array, expected)


SOUND = {
    "a sequence of known length": ("SQ", ITEM + struct.pack("<I", 8) + struct.pack("<HHI", 8, 0x1150, 0), None),
    "one of undefined length": ("SQ", ITEM + OPEN + ITEM_END + CLOSED + SEQUENCE_END + CLOSED, UNDEFINED),
    "an empty one": ("SQ", b"", None),
}


@pytest.mark.parametrize("case", SOUND)
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_sequences(folder, case, syntax):
    kind, value, length = SOUND[case]
    expected = read_volume(folder).array
    for path in folder.iterdir():
        with_element(path, Element(0x00081140, kind, value, length))
        if syntax == EXPLICIT:
            path.write_bytes(file_of(EXPLICIT, explicit_of(path)))
        assert read_elements(path).fault == ""
    np.testing.assert_array_equal(read_volume(folder).array, expected)


def explicit_of(path):
    """The elements of a file in implicit VR, for one in explicit VR."""
    _, found = elements(path.read_bytes())
    changed = []
    for each in found:
        if each.tag == 0x00081140:
            value = each.value.replace(struct.pack("<HHI", 8, 0x1150, 0), struct.pack("<HH", 8, 0x1150) + b"UI\0\0")
            each = Element(each.tag, "SQ", value, each.length)
        elif each.tag == 0x00020010:
            each = Element(each.tag, "UI", EXPLICIT.encode() + b"\0")
        changed.append(each)
    if changed[-1].tag != 0x7FE00010:
        # Of undefined length, so that the helper took all that follows for its value.
        last = changed.pop()
        end = last.value.index(SEQUENCE_END) + 8
        changed.append(Element(last.tag, "SQ", last.value[:end], UNDEFINED))
        rest = file_of(IMPLICIT, [Element(0x00020010, "UI", IMPLICIT.encode() + b"\0")]) + last.value[end:]
        changed += [each for each in elements(rest)[1] if each.tag >> 16 != 2]
    return changed


def test_a_private_sequence_of_unknown_kind_holds_implicit_elements(folder):
    """PS3.5, 6.2.2, note on data elements of unknown VR and undefined length."""
    expected = read_volume(folder).array
    inner = struct.pack("<HHI", 9, 0x1001, 4) + b"abcd"
    value = ITEM + struct.pack("<I", len(inner)) + inner + SEQUENCE_END + CLOSED
    for path in folder.iterdir():
        path.write_bytes(rewritten(path.read_bytes(), EXPLICIT))
        with_element(path, Element(0x00091010, "UN", value, UNDEFINED), EXPLICIT)
        assert read_elements(path).fault == ""
    np.testing.assert_array_equal(read_volume(folder).array, expected)


def test_the_compressed_voxels_of_an_icon(folder):
    expected = read_volume(folder).array
    voxels = struct.pack("<HH", 0x7FE0, 0x10) + b"OB\0\0" + OPEN + ITEM + CLOSED
    voxels += ITEM + struct.pack("<I", 4) + b"\xff\x4f\xff\x51" + SEQUENCE_END + CLOSED
    value = ITEM + struct.pack("<I", len(voxels)) + voxels
    for path in folder.iterdir():
        path.write_bytes(rewritten(path.read_bytes(), EXPLICIT))
        with_element(path, Element(0x00880200, "SQ", value), EXPLICIT)
        assert read_elements(path).fault == ""
    np.testing.assert_array_equal(read_volume(folder).array, expected)


@pytest.mark.slow
def test_implicit_elements_under_an_explicit_transfer_syntax(folder):
    expected = read_volume(folder).array
    for path in folder.iterdir():
        data = path.read_bytes()
        _, found = elements(data)
        meta = [Element(0x00020010, "UI", EXPLICIT.encode() + b"\0") if e.tag == 0x00020010 else e for e in found]
        head = file_of(IMPLICIT, meta)
        path.write_bytes(head)
        assert (read_elements(path).syntax, read_elements(path).fault) == (EXPLICIT, "")
    np.testing.assert_array_equal(read_volume(folder).array, expected)


@pytest.mark.parametrize("more", [bytes(4), bytes(100), b"more than there should be"])
def test_bytes_after_the_elements_are_refused(folder, more):
    with (folder / "1.dcm").open("ab") as file:
        file.write(more)
    with pytest.raises(VolumeError, match=r"1\.dcm"):
        read_volume(folder)


DAMAGED = {
    "a length beyond the file": (Element(0x00091010, "LO", b"ab", 2**31), "longer than what is left"),
    "a sequence without an end": (Element(0x00081140, "SQ", ITEM + OPEN, UNDEFINED), "has no end|items|no known kind|longer"),
    "an item longer than its sequence": (Element(0x00081140, "SQ", ITEM + struct.pack("<I", 99)), "longer than what is left"),
    "something else than items": (
        Element(0x00081140, "SQ", struct.pack("<HHI", 8, 0x16, 0) + SEQUENCE_END + CLOSED, UNDEFINED),
        "something else than items",
    ),
    "sequences nested 50,000 deep": (
        Element(0x00081140, "SQ", (ITEM + OPEN + struct.pack("<HHI", 8, 0x1140, UNDEFINED)) * 50_000, UNDEFINED),
        "more than 32 sequences",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_elements_are_refused_in_words_and_without_memory(folder, case):
    element, fault = DAMAGED[case]
    path = with_element(folder / "2.dcm", element)
    tracemalloc.start()
    found = read_elements(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.fault
    with pytest.raises(VolumeError, match=fault):
        read_volume(folder)
    with pytest.raises(VolumeError, match="2.dcm"):
        read_volume(path)
    assert peak < 1 << 20


def test_an_unknown_kind_in_explicit_vr_is_refused(folder):
    for path in folder.iterdir():
        path.write_bytes(rewritten(path.read_bytes(), EXPLICIT))
    data = (folder / "1.dcm").read_bytes()
    (folder / "1.dcm").write_bytes(
        data.replace(struct.pack("<HH", 0x28, 0x10) + b"US", struct.pack("<HH", 0x28, 0x10) + b"x\1")
    )
    with pytest.raises(VolumeError, match=r"1\.dcm.*\(0028,0010\)"):
        read_volume(folder)


def test_a_deflated_file_that_ends_too_early(folder):
    for path in folder.iterdir():
        path.write_bytes(rewritten(path.read_bytes(), DEFLATED))
    whole = (folder / "1.dcm").read_bytes()
    (folder / "1.dcm").write_bytes(whole[:-40])
    with pytest.raises(VolumeError, match=r"1\.dcm is damaged: its deflated data set has no end"):
        read_volume(folder)


def test_a_damaged_file_of_another_series_is_no_reason_to_refuse(folder, tmp_path):
    expected = read_volume(folder).array
    other = tmp_path / "other.dcm"
    shutil.copy(folder / "1.dcm", other)
    data = other.read_bytes().replace(b"1125.9.1\0", b"1125.9.2\0").replace(b"1125.9.1", b"1125.9.2")
    other.write_bytes(data[:-30])
    np.testing.assert_array_equal(read_volume(folder).array, expected)
