"""`coralbay match`."""

from __future__ import annotations

import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import QueryError
from CoralBayLib.similarity.point_lists import read_landmarks, read_points, write_points
from Testing.lib.similarity.test_matching import SHIFT, body, moved, points_in


@pytest.fixture
def scans(tmp_path, make_grid):
    volume = body(0)
    grid = make_grid("flipped", extent_mm=160.0, centre=volume.grid.center_ras + SHIFT, spacing=1.6)
    paths = tmp_path / "first.nrrd", tmp_path / "second.nrrd"
    cb.write_volume(volume, paths[0])
    cb.write_volume(moved(volume, grid, SHIFT), paths[1])
    return (*paths, points_in(volume))


@pytest.mark.slow
def test_points_of_a_list_are_found_in_the_follow_up(run, scans, pooling_by_name, tmp_path):
    first, second, points = scans
    listed, output = tmp_path / "points.mrk.json", tmp_path / "found.mrk.json"
    write_points(listed, ["C1", "nodule 2"], points[:2])
    status, out, _ = run("match", first, second, "--encoder", "pooling", "--points", listed, "-o", output, "--json")
    assert status == 0
    result = json.loads(out)
    assert result["same_patient"] and [match["name"] for match in result["matches"]] == ["C1", "nodule 2"]
    found = read_landmarks(output)
    assert all(np.linalg.norm(found[n] - p - SHIFT) < 2 for n, p in zip(("C1", "nodule 2"), points[:2], strict=True))
    assert np.allclose(found["C1"], result["matches"][0]["ras"])


@pytest.mark.slow
def test_points_may_be_negative_and_repeated(run, scans, pooling_by_name):
    first, second, points = scans
    given = ["--point", ",".join(map(str, points[0])), "--point", "-900,0,0"]
    status, _, err = run("match", first, second, "--encoder", "pooling", *given)
    assert status == 1 and "outside the volume" in err


def test_only_point_lists_are_written_and_no_input_is_replaced(run, tmp_path):
    ct = tmp_path / "ct.nrrd"
    ct.write_bytes(b"")
    points = tmp_path / "p.mrk.json"
    write_points(points, ["a"], [[1, 2, 3]])
    assert "mrk.json" in run("match", ct, ct, "--points", points, "-o", tmp_path / "out.csv")[2]
    assert "overwrite" in run("match", ct, ct, "--points", points, "-o", points)[2]


def test_point_lists_of_both_formats_and_systems_are_read(tmp_path):
    path = tmp_path / "list.mrk.json"
    write_points(path, ["T-4", "T-5"], [[1.5, -2, 3], [4, 5, -6]])
    names, points = read_points(path)
    assert names == ["T-4", "T-5"] and np.allclose(points, [[1.5, -2, 3], [4, 5, -6]])
    document = json.loads(path.read_text())
    assert document["markups"][0]["controlPoints"][0]["position"] == [-1.5, 2, 3]
    document["markups"][0]["coordinateSystem"] = "RAS"
    document["markups"][0]["controlPoints"][1]["positionStatus"] = "undefined"
    path.write_text(json.dumps(document))
    assert np.allclose(read_points(path)[1], [[-1.5, 2, 3]])
    old = tmp_path / "old.fcsv"
    old.write_text("# CoordinateSystem = LPS\n# columns = id,x,y,z,label\n1,1,2,3,carina\n")
    assert np.allclose(read_landmarks(old)["carina"], [-1, -2, 3])


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"markups": [{"controlPoints": [{"position": [1, 2]}]}]}', '{"markups": []}']
)
def test_damaged_lists_are_refused_in_words(tmp_path, text):
    path = tmp_path / "bad.mrk.json"
    path.write_text(text)
    with pytest.raises(QueryError, match=r"bad\.mrk\.json"):
        read_points(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bad.fcsv", "# CoordinateSystem = LPS\n# columns = id,x,y,z,label\n1,1,5,2,5,3,5,carina\n"),
        ("bad.fcsv", "# CoordinateSystem = LPS\n# columns = id,x,x,y,z,label\n1,1,5,2,3,carina\n"),
        ("bad.mrk.json", '{"markups": [{"CoordinateSystem": "RAS", "controlPoints": [{"position": [1, 2, 3]}]}]}'),
        ("bad.mrk.json", '{"markups": [{"controlPoints": [{"position": [1, 2, 3], "position": [4, 5, 6]}]}]}'),
    ],
    ids=["decimal commas", "a column twice", "a misspelled key", "a key twice"],
)
def test_lists_that_could_be_misread_are_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(QueryError):
        read_points(tmp_path / name)


def test_two_landmarks_of_one_name_are_refused(tmp_path):
    path = tmp_path / "list.mrk.json"
    write_points(path, ["a", "a"], np.zeros((2, 3)))
    with pytest.raises(QueryError, match="named 'a'"):
        read_landmarks(path)
    write_points(path, ["L\u00e4sion", "La\u0308sion"], np.zeros((2, 3)))
    with pytest.raises(QueryError, match="sion"):
        read_landmarks(path)
    write_points(path, [""], np.zeros((1, 3)))
    with pytest.raises(QueryError, match="no name"):
        read_landmarks(path)
