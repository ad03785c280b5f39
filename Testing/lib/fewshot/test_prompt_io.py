"""Files of prompts: ours and Slicer's, read and written."""

import json

import numpy as np
import pytest

from CoralBayLib.core.errors import PromptError, StoreError
from CoralBayLib.fewshot.prompt_io import read_prompts, structure_name
from CoralBayLib.fewshot.prompts import Prompts

from .test_prompts import same


def test_save_and_load(tmp_path):
    made = Prompts(np.random.default_rng(0).normal(size=(4, 3)) * 100, [0, 1, 7, 1], {1: "Leber, groß", 7: "肝臓"})
    made.save(tmp_path / "a.json")
    assert same(read_prompts(tmp_path / "a.json"), made)
    with pytest.raises(StoreError, match="does not exist"):
        made.save(tmp_path / "nowhere" / "a.json")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def write(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def point(label="", position=(1, 2, 3), **more):
    return {"label": label, "position": list(position), **more}


def roi(**fields):
    """An ROI as Slicer writes it, in LPS."""
    return {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "controlPoints": [{"label": "R-1", "position": [10, -20, 30]}],
        "roiType": "Box",
        "center": [10, -20, 30],
        "orientation": [-1, 0, 0, 0, -1, 0, 0, 0, 1],
        "size": [20, 30, 40],
        "insideOut": False,
    } | fields


def markup(*points, kind="Fiducial", **more):
    return {"type": kind, "controlPoints": list(points), **more}


def test_own_json_in_lps(tmp_path):
    path = write(tmp_path / "a.json", {"coordinateSystem": "LPS", "points": [{"ras": [1, 2, 3], "label": 1}]})
    assert read_prompts(path).points_ras.tolist() == [[-1, -2, 3]]


def test_markups(tmp_path):
    document = {
        "markups": [
            markup(
                point("liver-1"),
                point("Liver-2", (4, 5, 6)),
                point("left kidney_12"),
                point("", (7, 8, 9), positionStatus="defined"),
                point("Background-1"),
                point("liver-3", positionStatus="undefined"),
                {"label": "liver-4", "position": None, "positionStatus": "preview"},
            ),
            markup(point("bg 3"), point("0"), point("liver 9"), kind="Line", coordinateSystem="RAS", coordinateUnits="mm"),
        ]
    }
    made = read_prompts(write(tmp_path / "Spleen.mrk.json", document))
    assert made.labels.tolist() == [1, 1, 2, 3, 0, 0, 0, 1]
    assert made.names == {1: "liver", 2: "left kidney", 3: "Spleen"}
    assert made.points_ras[:2].tolist() == [[-1, -2, 3], [-4, -5, 6]]
    assert made.points_ras[-1].tolist() == [1, 2, 3]


def test_files_merge_by_structure(tmp_path):
    paths = [
        write(tmp_path / "liver.mrk.json", {"markups": [markup(point())]}),
        write(tmp_path / "negative.mrk.json", {"markups": [markup(point())]}),
        write(tmp_path / "more.mrk.json", {"markups": [markup(point("spleen-1"), point("liver-1"), kind="Curve")]}),
    ]
    made = read_prompts(*paths)
    assert made.labels.tolist() == [1, 0, 2, 1]
    assert made.names == {1: "liver", 2: "spleen"}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("liver-3", "liver"),
        ("liver 3", "liver"),
        ("liver_12", "liver"),
        ("liver - 3", "liver"),
        ("T12", "T12"),
        ("T12-1", "T12"),
        ("L3", "L3"),
        ("rib-4-2", "rib-4"),
        ("-3", "file"),
        ("  ", "file"),
        ("7", "7"),
    ],
)
def test_structure_names(label, name):
    assert structure_name(label, "file") == name


@pytest.mark.parametrize(
    ("document", "match"),
    [
        ([], "at the top"),
        ({"hello": 1}, "at the top"),
        ({"points": []}, "no points"),
        ({"points": {}}, "list"),
        ({"points": [{"label": 1}]}, 'point 0 has no "ras"'),
        ({"points": [{"ras": [1, 2, 3]}]}, 'point 0 has no "label"'),
        ({"points": [7]}, "braces"),
        ({"points": [{"ras": [1, 2], "label": 1}]}, "three numbers"),
        ({"points": [{"ras": [1, 2, "3"], "label": 1}]}, "three numbers"),
        ({"points": [{"ras": [1, 2, 3], "label": "1"}]}, "whole number"),
        ({"points": [{"ras": [1, 2, 3], "label": True}]}, "whole number"),
        ({"points": [{"ras": [1, 2, 3], "label": -1}]}, "from -1"),
        ({"points": [{"ras": [1, 2, float("nan")], "label": 1}]}, "nan"),
        ({"points": [{"ras": [1, 2, 10**400], "label": 1}]}, "three numbers"),
        ({"points": [{"ras": [1, 2, 3], "label": 10**30}]}, "whole"),
        ({"points": [{"ras": [1, 2, 3], "label": 1}], "names": {"1": None}}, "names"),
        ({"points": [{"ras": [1, 2, 3], "label": 1}], "names": {"x": "liver"}}, "names"),
        ({"points": [{"ras": [1, 2, 3], "label": 1}], "coordinateSystem": "XYZ"}, "XYZ"),
        ({"markups": [markup(point(), coordinateSystem=["RAS"])]}, "RAS"),
        ({"markups": []}, "no points"),
        ({"markups": [markup()]}, "no points"),
        ({"markups": [markup(point(), kind="ROI")]}, 'the ROI has no "center"'),
        ({"markups": [roi(size=[1, 0, 1])]}, "more than 0"),
        ({"markups": [roi(size=[1, 1])]}, "three numbers"),
        ({"markups": [roi(orientation=[1, 0, 0])]}, "nine numbers"),
        ({"markups": [roi(orientation=[1.0] * 9)]}, "right angles"),
        ({"markups": [roi(insideOut=True)]}, "inside out"),
        ({"points": [], "boxes": [{"label": 1}]}, 'no "center"'),
        ({"points": [], "boxes": {}}, '"boxes" to be a list'),
        ({"markups": [markup(point(), kind="Plane")]}, "type Plane"),
        ({"markups": [{"controlPoints": []}]}, 'no "type"'),
        ({"markups": [{"type": "Fiducial"}]}, 'no "controlPoints"'),
        ({"markups": [markup({"label": "a"})]}, 'control point 0 has no "position"'),
        ({"markups": [markup(point(), coordinateUnits="cm")]}, "cm"),
    ],
)
def test_damaged_files_are_explained(tmp_path, document, match):
    with pytest.raises(PromptError, match=match) as caught:
        read_prompts(write(tmp_path / "a.json", document))
    assert str(caught.value).startswith("a.json")


def test_files_that_are_not_json(tmp_path):
    with pytest.raises(PromptError, match="could not be read"):
        read_prompts(tmp_path / "nowhere.json")
    (tmp_path / "broken.json").write_text('{"points": [')
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name, words in (("broken.json", "not valid JSON"), ("binary.json", r"not a file of prompts.*\.mrk\.json")):
        with pytest.raises(PromptError, match=words) as caught:
            read_prompts(tmp_path / name)
        assert "codec" not in str(caught.value)
    with pytest.raises(PromptError, match="at least one file"):
        read_prompts()


def point_list(path, *labels):
    points = [{"label": label, "position": [n, 0, 0]} for n, label in enumerate(labels)]
    path.write_text(json.dumps({"markups": [{"type": "Fiducial", "controlPoints": points}]}))
    return path


@pytest.mark.parametrize(
    ("name", "labels", "expected", "names"),
    [
        ("liver", ["F-1", "F-2"], [1, 1], {1: "liver"}),
        ("background", ["F-1", "F-2"], [0, 0], {}),
        ("background_1", ["background_1-1"], [0], {}),
        ("Hintergrund", ["liver-1", "liver-2"], [0, 0], {}),
        ("background", ["liver-1", "spleen-1"], [1, 2], {1: "liver", 2: "spleen"}),
        ("anything", ["liver-1", "background-1"], [1, 0], {1: "liver"}),
        ("prompts", ["spleen-1"], [1], {1: "spleen"}),
    ],
)
def test_lists_that_were_renamed(tmp_path, name, labels, expected, names):
    found = read_prompts(point_list(tmp_path / f"{name}.mrk.json", *labels))
    assert found.labels.tolist() == expected
    assert found.names == names


def test_names_in_two_unicode_forms_are_one_structure(tmp_path):
    one = point_list(tmp_path / "a.mrk.json", "L\u00e4sion-1")
    other = point_list(tmp_path / "b.mrk.json", "La\u0308sion-1")
    assert read_prompts(one, other).labels.tolist() == [1, 1]


@pytest.mark.parametrize(("system", "right"), [("LPS", 51), ("1", 51), ("RAS", -51), ("0", -51)])
def test_slicers_older_point_lists(tmp_path, system, right):
    columns = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
    head = f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n# columns = {columns}\n"
    (tmp_path / "F.fcsv").write_text(head + '1,-51,0,-450,0,0,0,1,1,1,0,liver-1,"a, b",\n2,-51,0,-450,0,0,0,1,1,1,0,bg-1,,\n')
    found = read_prompts(tmp_path / "F.fcsv")
    np.testing.assert_array_equal(found.points_ras, [[right, 0, -450]] * 2)
    assert found.labels.tolist() == [1, 0]
    assert found.names == {1: "liver"}


@pytest.mark.parametrize(
    ("system", "line"),
    [
        ("", "1,2,3,4"),
        ("LPS", "1,a,b,c"),
        ("IJK", "1,2,3,4"),
        ("LPS", ""),
        ("LPS", "1,2,3,4\n\0\0"),
        ("LPS", f"1,2,3,4,{'x' * 200_000}"),
    ],
    ids=["system", "words", "other system", "no points", "zeros", "long"],
)
def test_damaged_older_point_lists(tmp_path, system, line):
    (tmp_path / "F.fcsv").write_text(f"# CoordinateSystem = {system}\n{line}\n")
    with pytest.raises(PromptError, match=r"F\.fcsv"):
        read_prompts(tmp_path / "F.fcsv")


@pytest.mark.parametrize(
    ("label", "names"),
    [(70000, {}), (2**63, {}), (2**70, {}), (1, {"9" * 5000: "a"}), (1, {"70000": "a"}), (1, {"1": "a", "01": "b"})],
)
def test_labels_too_large_for_a_labelmap(tmp_path, label, names):
    (tmp_path / "p.json").write_text(json.dumps({"points": [{"ras": [0, 0, 0], "label": label}], "names": names}))
    with pytest.raises(PromptError, match=r"p\.json"):
        read_prompts(tmp_path / "p.json")


def test_a_duplicate_key_is_refused(tmp_path):
    (tmp_path / "p.json").write_text('{"points": [{"ras": [0, 0, 0], "label": 1}], "names": {"1": "a", "1": "b"}}')
    with pytest.raises(PromptError, match="twice"):
        read_prompts(tmp_path / "p.json")


def own_file(tmp_path, names, labels=(1, 0), **more):
    points = [{"ras": [n, 0, 0], "label": label} for n, label in enumerate(labels)]
    (tmp_path / "p.json").write_text(json.dumps({"points": points, "names": names, **more}), encoding="utf-8")
    return tmp_path / "p.json"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"0": "lungs", "1": "liver"}, "label 0 is named 'lungs'"),
        ({"1": "background"}, "the background has the label 0"),
        ({"1": "Hintergrund_2"}, "the background has the label 0"),
        ({"1": "\u200b"}, "a name for each structure"),
        ({"1": "\u00a0\n"}, "a name for each structure"),
    ],
)
def test_names_that_contradict_their_labels(tmp_path, names, message):
    with pytest.raises(PromptError, match=message):
        read_prompts(own_file(tmp_path, names))


def test_the_background_may_have_its_name(tmp_path):
    assert read_prompts(own_file(tmp_path, {"0": "Background", "1": "liver"})).names == {1: "liver"}


@pytest.mark.parametrize("key", ["coordinatesystem", "coordinate_system", "Coordinate System"])
def test_a_misspelled_key_is_not_ignored(tmp_path, key):
    with pytest.raises(PromptError, match='written "coordinateSystem"'):
        read_prompts(own_file(tmp_path, {}, **{key: "LPS"}))


def test_full_width_and_plain_names_are_one_structure(tmp_path):
    points = [{"label": label, "position": [0, 0, 0]} for label in ("\uff4c\uff49\uff56\uff45\uff52-1", "liver-2", "Liver-3")]
    markup = {"type": "Fiducial", "coordinateSystem": "RAS", "controlPoints": points}
    (tmp_path / "a.mrk.json").write_text(json.dumps({"markups": [markup]}), encoding="utf-8")
    assert read_prompts(tmp_path / "a.mrk.json").structures == [1]


FCSV = "# CoordinateSystem = RAS\n# columns = id,x,y,z,label\n"


def test_a_label_of_an_fcsv_may_have_several_lines(tmp_path):
    (tmp_path / "a.fcsv").write_text(FCSV + '1,10,20,30,"left\nkidney-1"\n2,11,20,30,spleen-1\n')
    made = read_prompts(tmp_path / "a.fcsv")
    assert made.names == {1: "left kidney", 2: "spleen"}
    np.testing.assert_array_equal(made.points_ras, [[10, 20, 30], [11, 20, 30]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FCSV + "1,10,5,20,3,30,1,liver\n", "8 cells for 5 columns"),
        (FCSV + '1,10,20,30,"a\n2,11,20,30,b\n', "are not a table"),
        (FCSV.replace("id,x", "x,x") + "1,10,20,30,a\n", "a column is there twice"),
    ],
)
def test_an_fcsv_whose_points_are_uncertain(tmp_path, text, message):
    (tmp_path / "a.fcsv").write_text(text)
    with pytest.raises(PromptError, match=message):
        read_prompts(tmp_path / "a.fcsv")


def test_an_fcsv_without_the_names_of_its_columns(tmp_path):
    (tmp_path / "a.fcsv").write_text("# CoordinateSystem = RAS\n1,10,20,30,0,0,0,1,1,1,0,liver-1,,vtkMRMLScalarVolumeNode1\n")
    assert read_prompts(tmp_path / "a.fcsv").names == {1: "liver"}


def test_empty_cells_behind_the_columns_of_an_fcsv(tmp_path):
    (tmp_path / "a.fcsv").write_text(FCSV + "1,10,20,30,liver-1,,\n")
    assert read_prompts(tmp_path / "a.fcsv").names == {1: "liver"}


def test_a_roi_becomes_a_box(tmp_path):
    """Slicer writes the axes of an ROI as columns; in LPS, R and A of each have the other sign."""
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # columns: the first axis points to A, the second to L
    lps = (turn * np.array([[-1], [-1], [1]])).ravel().tolist()
    (tmp_path / "left kidney.mrk.json").write_text(json.dumps({"markups": [roi(orientation=lps)]}))
    (tmp_path / "kidney.mrk.json").write_text(
        json.dumps({"markups": [roi(coordinateSystem="RAS", center=[-10, 20, 30], orientation=turn.ravel().tolist())]})
    )
    one, two = (read_prompts(tmp_path / f"{name}.mrk.json") for name in ("left kidney", "kidney"))
    assert one.names == {1: "left kidney"} and len(one) == 0 and one.structures == [1]
    assert one.boxes[0].same_as(two.boxes[0])
    assert one.boxes[0].axes.tolist() == [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    assert one.boxes[0].contains([[-10, 29.9, 30], [-10, 30.1, 30], [4.9, 20, 30]]).tolist() == [True, False, True]
    both = read_prompts(tmp_path / "left kidney.mrk.json", tmp_path / "kidney.mrk.json")
    assert [box.label for box in both.boxes] == [1, 2]


def test_a_roi_belongs_to_the_points_of_its_name(tmp_path):
    (tmp_path / "liver.mrk.json").write_text(json.dumps({"markups": [markup(point(), coordinateSystem="RAS"), roi()]}))
    made = read_prompts(tmp_path / "liver.mrk.json")
    assert made.names == {1: "liver"} and made.labels.tolist() == [1] and [box.label for box in made.boxes] == [1]
    (tmp_path / "background.mrk.json").write_text(json.dumps({"markups": [roi()]}))
    with pytest.raises(PromptError, match="marks a structure, not the background"):
        read_prompts(tmp_path / "background.mrk.json")
