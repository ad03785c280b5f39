"""Probes of several patients: what they learn, keep, find in the next patient, and refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.core.errors import ProbeError
from CoralBayLib.core.tensor_files import read_tensors, write_tensors
from CoralBayLib.demo.annotator import dice
from CoralBayLib.fewshot.clicks.started import Start
from CoralBayLib.fewshot.patients import files
from CoralBayLib.fewshot.patients.coarse import CoarseScan
from CoralBayLib.fewshot.patients.record import PatientRecord
from CoralBayLib.imaging.grid import Volume

from .conftest import BRIGHT, DARK, NAMES, SIGMA

pytestmark = pytest.mark.slow


def overlap(labelmap, patient, label, name, names):
    own = next(n for n, each in names.items() if each == name)
    return dice(labelmap.array == own, patient.labelmap.array == label)


@pytest.mark.parametrize("kind", ["axial", "flipped", "oblique", "anisotropic"])
def test_structures_are_found_in_the_next_patient(probe, patient, kind):
    new = patient((2.0, 3.0, -2.0), kind, seed=9)
    segmenter = cb.Segmenter(new.pyramid, probe).fit()
    found = segmenter.labelmap(new.volume.grid)
    for label, name in NAMES.items():
        assert overlap(found, new, label, name, segmenter.names) > 0.7


def test_they_lie_where_the_patient_has_them_rather_than_where_the_others_do(probe, patient):
    new = patient((2.0, 3.0, -2.0), seed=9)
    found = cb.Segmenter(new.pyramid, probe).fit().labelmap(new.volume.grid)
    center = new.volume.grid.to_ras(np.argwhere(found.array == 1)[:, ::-1]).mean(axis=0)
    assert np.linalg.norm(center - (BRIGHT + (2.0, 3.0, -2.0))) < 2.0


def test_one_after_another_is_the_same_as_together(probe, patients, patient):
    new = patient((2.0, 3.0, -2.0), seed=9)
    one_by_one, parts = cb.Probe(), []
    for each in patients:
        one_by_one.learn(each.pyramid, each.labelmap, NAMES)
        parts.append(cb.Probe().fit([(each.pyramid, each.labelmap, NAMES)]))
    expected = probe.predict_labels(new.pyramid).array
    for other in (one_by_one, cb.Probe.merged(parts)):
        assert np.array_equal(other.predict_labels(new.pyramid).array, expected)


def test_files_give_the_same_and_stay_small(probe, patient, tmp_path):
    new = patient((2.0, 3.0, -2.0), seed=9)
    probe.save(tmp_path / "probe.safetensors")
    loaded = cb.Probe.load(tmp_path / "probe.safetensors")
    assert loaded.names_ == probe.names_
    assert np.array_equal(loaded.predict_labels(new.pyramid).array, probe.predict_labels(new.pyramid).array)
    assert (tmp_path / "probe.safetensors").stat().st_size < 3 * 3e6
    loaded.learn(new.pyramid, new.labelmap, NAMES)
    assert len(loaded.patients_.records) == 4


def test_a_scan_that_is_learned_again_replaces_what_was_known(patients):
    first, second = patients[:2]
    probe = cb.Probe().fit([(first.pyramid, first.labelmap, NAMES), (second.pyramid, second.labelmap, NAMES)])
    wrong = Volume(np.where(second.labelmap.array == 1, 2, 0).astype(np.uint8), second.labelmap.grid)
    probe.learn(second.pyramid, wrong, NAMES)
    assert [record.key for record in probe.patients_.records] == [first.pyramid.key, second.pyramid.key]
    assert set(probe.patients_.records[1].labels.tolist()) == {0, 2}


def test_a_structure_that_was_not_looked_for_is_not_taken_for_absent(patients, patient):
    new = patient((2.0, 3.0, -2.0), seed=9)
    only_bright = [Volume(np.where(p.labelmap.array == 1, 1, 0).astype(np.uint8), p.labelmap.grid) for p in patients[1:]]
    examples = [(patients[0].pyramid, patients[0].labelmap, NAMES)]

    def dark(names):
        rest = [(p.pyramid, labels, names) for p, labels in zip(patients[1:], only_bright, strict=True)]
        segmenter = cb.Segmenter(new.pyramid, cb.Probe().fit([*examples, *rest])).fit()
        return overlap(segmenter.labelmap(new.volume.grid), new, 2, "dark", segmenter.names)

    assert dark({1: "bright"}) > 0.6
    assert dark(NAMES) < dark({1: "bright"})


def test_what_is_known_of_each_patient_is_kept(probe, patients):
    record = probe.patients_.records[1]
    assert record.key == patients[1].pyramid.key
    assert record.names == NAMES
    assert record.about["learned"].endswith("+00:00")
    assert record.nbytes() < 3e6


def test_prompts_teach_too(patients):
    first = patients[0]
    grid, labels = first.volume.grid, first.labelmap
    points = [grid.to_ras(np.argwhere(labels.array == n)[::60, ::-1]) for n in (1, 2)]
    away = np.array([[12.0, -55.0, 45.0], [12.0, -30.0, 75.0], [12.0, -5.0, 45.0]])
    told = np.concatenate([np.full(len(points[0]), 1), np.full(len(points[1]), 2), np.zeros(3)]).astype(int)
    prompts = cb.Prompts(np.concatenate([*points, away]), told, NAMES)
    learned = cb.Probe().fit([(first.pyramid, prompts)])
    assert learned.patients_.records[0].about["prompts"] == len(prompts)
    assert set(learned.names_.values()) == set(NAMES.values())


def test_a_click_corrects_a_suggestion_where_it_speaks(probe, patient):
    new = patient((2.0, 3.0, -2.0), seed=9)
    before = cb.Segmenter(new.pyramid, probe).fit().labelmap(new.pyramid.grid)
    far_label = next(label for label, name in probe.names_.items() if name == "dark")
    inside = BRIGHT + (2.0, 3.0, -2.0) + (0.0, 0.0, 6.0)
    prompts = cb.Prompts(inside[None], [1], {1: "bright"})
    segmenter = cb.Segmenter(new.pyramid, probe).fit(prompts)
    after = segmenter.labelmap(new.pyramid.grid)
    assert after.nearest_values(inside[None])[0] == 1
    assert np.array_equal(after.array == far_label, before.array == far_label)
    outside = cb.Prompts((BRIGHT + (2.0, 3.0, -2.0))[None], [0], {1: "bright"})
    less = cb.Segmenter(new.pyramid, probe).fit(outside).labelmap(new.pyramid.grid)
    assert less.nearest_values(outside.points_ras)[0] != 1


def test_strokes_fit_a_structure_anew(probe, patient):
    new = patient((2.0, 3.0, -2.0), seed=9)
    voxels = np.argwhere(new.labelmap.array == 1)
    stroke = new.volume.grid.to_ras(voxels[voxels[:, 0] == int(np.median(voxels[:, 0]))][:, ::-1])
    segmenter = cb.Segmenter(new.pyramid, probe).fit(cb.Prompts(stroke, np.ones(len(stroke), int), {1: "bright"}))
    assert segmenter.probe_.stroked_ == {1}
    assert overlap(segmenter.labelmap(new.volume.grid), new, 1, "bright", segmenter.names) > 0.7


def test_a_probe_of_one_scan_becomes_the_first_patient(patients):
    first, second = patients[:2]
    rays = np.concatenate([np.eye(3), -np.eye(3)])
    moved = (-4.0, 2.0, 0.0)
    points = np.concatenate([BRIGHT + moved + 4 * rays, DARK + moved + 4 * rays, np.array([12.0, -30.0, 45.0]) + 36 * rays])
    prompts = cb.Prompts(points, [1] * 6 + [2] * 6 + [0] * 6, NAMES)
    probe = cb.Probe().fit(first.pyramid, prompts).learn(second.pyramid, second.labelmap, NAMES)
    assert [record.key for record in probe.patients_.records] == [first.pyramid.key, second.pyramid.key]


def test_a_file_of_one_scan_keeps_too_little_to_learn_more(patients, tmp_path):
    first, second = patients[:2]
    prompts = cb.Prompts(np.array([BRIGHT + (-4.0, 2.0, 0.0)]), [1], NAMES)
    cb.Probe().fit(first.pyramid, prompts).save(tmp_path / "one.safetensors")
    with pytest.raises(ProbeError, match="Fit it again"):
        cb.Probe.load(tmp_path / "one.safetensors").learn(second.pyramid, second.labelmap, NAMES)


def test_other_features_are_refused(probe, patients):
    from Testing.lib.conftest import PoolingEncoder

    other = cb.embed(patients[0].volume, PoolingEncoder(strides=(2, 4)))
    with pytest.raises(ProbeError, match="features of another encoder"):
        probe.learn(other, patients[0].labelmap, NAMES)
    with pytest.raises(ProbeError, match="different encoders"):
        cb.Probe.merged([probe, cb.Probe().fit([(other, patients[0].labelmap, NAMES)])])


def test_labels_without_a_structure_are_refused(patients):
    empty = Volume(np.zeros_like(patients[0].labelmap.array), patients[0].labelmap.grid)
    with pytest.raises(ProbeError, match="nothing to learn"):
        cb.Probe().learn(patients[0].pyramid, empty)
    with pytest.raises(ProbeError, match="belong to it"):
        cb.Probe().learn(patients[0].pyramid, empty, NAMES)
    with pytest.raises(ProbeError, match="no probe to merge"):
        cb.Probe.merged([])


def test_a_failed_lesson_leaves_the_probe_as_it_was(probe, patients):
    empty = Volume(np.zeros_like(patients[0].labelmap.array), patients[0].labelmap.grid)
    before = probe.patients_
    with pytest.raises(ProbeError):
        probe.learn(patients[0].pyramid, empty, NAMES)
    assert probe.patients_ is before


def test_a_damaged_file_is_refused(probe, tmp_path):
    probe.save(tmp_path / "probe.safetensors")
    header, tensors = read_tensors(tmp_path / "probe.safetensors", files.KIND)
    fewer = {**header, "alignments": header["alignments"][:-1]}
    write_tensors(tmp_path / "fewer.safetensors", files.KIND, fewer, tensors)
    far = dict(tensors)
    far["patient.0.voxels"] = torch.full_like(tensors["patient.0.voxels"], 10**8)
    write_tensors(tmp_path / "far.safetensors", files.KIND, header, far)
    for name in ("fewer", "far"):
        with pytest.raises(ProbeError, match="incomplete"):
            cb.Probe.load(tmp_path / f"{name}.safetensors")


def test_the_coarse_scan_lies_where_the_scan_does(patient):
    new = patient(kind="oblique", seed=4)
    coarse = CoarseScan.of(new.pyramid)
    points = coarse.ras_of(torch.nonzero(coarse.image > 0).float())
    assert np.linalg.norm(points.mean(dim=0).numpy() - new.volume.grid.center_ras) < 2.0
    assert torch.allclose(coarse.kji_of(points), torch.nonzero(coarse.image > 0).float(), atol=1e-3)


def test_a_record_is_the_same_after_writing(probe):
    record = probe.patients_.records[0]
    again = PatientRecord.from_parts(record.header(), record.tensors())
    assert again.names == record.names
    assert again.coarse.grid.same_as(record.coarse.grid)


def test_a_start_is_the_largest_component(patient):
    grid = patient(seed=4).pyramid.grid
    away = np.linalg.norm(grid.centers() - BRIGHT, axis=1).reshape(grid.shape)
    other = np.linalg.norm(grid.centers() - DARK, axis=1).reshape(grid.shape)
    log_odds = torch.from_numpy(np.maximum(SIGMA - away, SIGMA / 2 - other).astype(np.float32))
    start = Start.of(log_odds, grid)
    assert np.linalg.norm(start.point_ras[0] - BRIGHT) < 3.0
    assert not start.mask[other < 2].any()
    assert Start.of(torch.full(grid.shape, -1.0), grid) is None
