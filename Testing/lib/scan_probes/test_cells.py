"""What cells of a table mean."""

import pytest

from CoralBayLib.scan_probes.tables.cells import class_names, likely_positive


def test_classes_are_listed_in_their_first_spelling():
    assert class_names(["Yes", "no", " yes ", "", "NA", "No", "1.0"]) == ["1.0", "Yes", "no"]
    assert class_names([]) == []


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        (["ball", "none"], "ball"),
        (["0", "1"], "1"),
        (["No", "Yes"], "Yes"),
        (["Absent", "Present"], "Present"),
        (["emphysema", "normal"], "emphysema"),
        (["benign", "malignant"], "malignant"),
        (["a"], ""),
        (["a", "b", "c"], ""),
    ],
)
def test_the_class_that_is_likely_meant(classes, positive):
    assert likely_positive(classes) == positive
