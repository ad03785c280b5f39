"""Codes of structures, compared with pydicom's copy of DICOM's list."""

import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from CoralBayLib.imaging.headers.terminology import known_codes, term


def test_every_code_is_one_of_dicom_with_the_same_meaning():
    concepts = {}
    for name in dir(codes.SCT):
        concept = getattr(codes.SCT, name)
        if not isinstance(concept, Code):
            continue  # an attribute of Python
        concepts.setdefault(concept.value, set()).add(concept.meaning)
    wrong = [code for code in known_codes() if code.meaning not in concepts.get(code.value, ())]
    assert not wrong and len(known_codes()) > 80


@pytest.mark.parametrize(
    ("name", "meaning", "side"),
    [
        ("Liver", "Liver", None),
        ("LeftParotid", "Parotid gland", "Left"),
        ("kidney_right", "Kidney", "Right"),
        ("KIDNEY, L", "Kidney", "Left"),
        ("Kidney (2)", "Kidney", None),
        ("L3", "L3 vertebra", None),
        ("vertebrae_T12", "T12 vertebra", None),
        ("rib_left_4", "Rib", "Left"),
        ("GTV_Mass", "Mass", None),
        ("left right lung", "Tissue", None),
        ("Leber", "Tissue", None),
        ("", "Tissue", None),
    ],
)
def test_names(name, meaning, side):
    found = term(name)
    assert found.kind.meaning == meaning and (found.side.meaning if found.side else None) == side
    assert found.is_known == (meaning != "Tissue")


def test_the_entry_for_slicer():
    parts = term("kidney_left").slicer_entry.split("~")
    assert len(parts) == 7
    assert parts[1:4] == ["SCT^123037004^Anatomical Structure", "SCT^64033007^Kidney", "SCT^7771000^Left"]
    assert term("liver").slicer_entry.split("~")[3] == "^^"
