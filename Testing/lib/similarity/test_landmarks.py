"""Landmarks: learned from a few scans, placed in others, kept in files."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import CoralBayLib as cb
from CoralBayLib.core.errors import Cancelled, EncoderError, ProbeError, QueryError
from CoralBayLib.similarity.point_lists import read_landmarks, write_points

from .test_matching import SHIFT, body, moved, points_in

pytestmark = pytest.mark.slow


def named(points: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(("middle", "right", "left", "front"), points, strict=True))


@pytest.fixture(scope="module")
def scans():
    """Three scans of one texture on grids that differ, with the landmarks of each."""
    from Testing.lib.conftest import PoolingEncoder, phantom_grid

    volume, result = body(0), []
    for n, kind in enumerate(("axial", "oblique", "flipped")):
        shift = n * SHIFT
        grid = phantom_grid(kind, extent_mm=160.0, centre=volume.grid.center_ras + shift, spacing=1.6)
        scan = moved(volume, grid, shift)
        result.append((cb.embed(scan, PoolingEncoder(strides=(2, 4, 8))), named(points_in(volume) + shift), scan))
    return result


@pytest.fixture(scope="module")
def learned(scans):
    return cb.Landmarks().fit([(pyramid, points) for pyramid, points, _ in scans[:2]])


def test_landmarks_are_placed_in_a_new_scan_with_an_error_to_expect(scans, learned):
    pyramid, truth, _ = scans[2]
    told: list[float] = []
    placed = learned.place(pyramid, lambda fraction, message: told.append(fraction))
    assert list(placed) == ["middle", "right", "left", "front"]
    for name, landmark in placed.items():
        assert np.linalg.norm(np.subtract(landmark.point_ras, truth[name])) < 4
        assert 0 < landmark.expected_error_mm < 8
        assert landmark.score > 0.5
    assert told == sorted(told)
    assert all(len(errors) == 2 for errors in learned.errors_mm.values())


def test_names_that_look_alike_are_one_landmark(scans):
    (first, points, _), (second, others, _) = scans[:2]
    examples = [(first, {"L\u00e4sion": points["middle"]}), (second, {"la\u0308sion": others["middle"]})]
    learned = cb.Landmarks().fit(examples)
    assert learned.names == ["L\u00e4sion"]
    assert len(learned.errors_mm["L\u00e4sion"]) == 2


def test_one_example_is_enough_and_more_can_be_learned_later(scans):
    (first, at_first, _), (second, at_second, _), (third, truth, _) = scans
    landmarks = cb.Landmarks().learn(first, {"middle": at_first["middle"]})
    assert landmarks.place(third)["middle"].expected_error_mm >= 8
    landmarks.learn(second, {"middle": at_second["middle"], "left": at_second["left"]})
    assert len(landmarks) == 2 and len(landmarks.errors_mm["middle"]) == 1
    placed = landmarks.place(third)
    assert np.linalg.norm(np.subtract(placed["left"].point_ras, truth["left"])) < 6


def test_a_file_gives_the_same_places(scans, learned, tmp_path):
    path = tmp_path / "landmarks.safetensors"
    learned.save(path)
    again = cb.Landmarks.load(path)
    assert again.names == learned.names and again.errors_mm == learned.errors_mm
    assert again.place(scans[2][0]) == learned.place(scans[2][0])
    assert path.stat().st_size < 3e6


def test_damaged_files_are_refused(learned, tmp_path):
    path = tmp_path / "landmarks.safetensors"
    learned.save(path)
    data = bytearray(path.read_bytes())
    data[-100] ^= 255
    path.write_bytes(data)
    with pytest.raises(ProbeError, match="damaged"):
        cb.Landmarks.load(path)
    with pytest.raises(ProbeError, match="There is no"):
        cb.Landmarks.load(tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ProbeError):
        cb.Landmarks.load(path)
    assert load_file(path)


def test_what_does_not_fit_is_refused(scans, learned, pooling):
    pyramid, points, volume = scans[0]
    with pytest.raises(QueryError, match="at least one"):
        cb.Landmarks().fit([])
    with pytest.raises(QueryError, match="'far'"):
        cb.Landmarks().fit([(pyramid, {"far": [900, 0, 0]})])
    with pytest.raises(QueryError, match="look alike"):
        cb.Landmarks().fit([(pyramid, {"Carina": points["middle"], "carina": points["left"]})])
    with pytest.raises(QueryError, match="no landmarks"):
        cb.Landmarks().fit([(pyramid, {})])
    with pytest.raises(ProbeError, match="no example"):
        cb.Landmarks().place(pyramid)
    with pytest.raises(ProbeError, match="nothing to save"):
        cb.Landmarks().save("nowhere.safetensors")
    with pytest.raises(EncoderError):
        learned.place(cb.embed(volume, pooling(strides=(4, 8))))
    cancel = cb.CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        learned.place(pyramid, cancel=cancel)


def test_the_command_learns_and_places(scans, tmp_path, monkeypatch, capsys):
    from CoralBayLib.cli import main
    from CoralBayLib.cli.matching import landmarks as command

    by_name = {}
    arguments = []
    for n, (pyramid, points, _) in enumerate(scans):
        ct, listed = tmp_path / f"{n}.nrrd", tmp_path / f"{n}.mrk.json"
        ct.touch()
        by_name[str(ct)] = pyramid
        write_points(listed, list(points), list(points.values()))
        arguments += [str(ct), str(listed)]
    monkeypatch.setattr(command, "embed_scan", lambda args, console: SimpleNamespace(pyramid=by_name[str(args.ct)]))
    file, output = tmp_path / "landmarks.safetensors", tmp_path / "placed.mrk.json"
    assert main(["landmarks", "fit", *arguments[:4], "-o", str(file)]) == 0
    assert "error in examples placed by the others" in capsys.readouterr().out
    assert main(["landmarks", "place", arguments[4], str(file), "-o", str(output), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["landmarks"]
    placed = read_landmarks(output)
    assert np.allclose(placed["left"], result[2]["point_ras"])
    assert np.linalg.norm(placed["left"] - scans[2][1]["left"]) < 4
    assert main(["landmarks", "fit", *arguments[:3], "-o", str(file)]) == 1
    assert "One of them is missing" in capsys.readouterr().err
