"""A cohort on the stand-in for learning: what is kept, learned, suggested and reported."""

from __future__ import annotations

import json

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.cohort import State
from CoralBayLib.core.errors import Cancelled, CohortError, Remedy, StoreError

from .stand_in import CENTRE, NAMES, STRUCTURES, StandIn, make_scan


def truth(name):
    return make_scan(int(name.removeprefix("scan")))[1]


def states(cohort):
    return {scan.name: scan.state for scan in cohort.status()}


def test_a_new_cohort_lists_its_scans(cohort):
    assert states(cohort) == dict.fromkeys(NAMES, State.TO_DO)
    assert cohort.structures == {1: "bright spot", 2: "dark spot"}
    entry = cohort.description.scan("scan3")
    assert entry.path == "../scans/scan3.nrrd"
    # Added once only.
    assert cohort.add([cohort.folder.parent / "scans"])[0] == []


def test_accepting_writes_a_segmentation_and_a_record_and_teaches(cohort, learner):
    prompts = cb.Prompts([CENTRE, CENTRE + 5], [1, 0], {1: "bright spot"})
    path = cohort.accept("scan2", truth("scan2"), prompts, by="AB")
    labelmap, segments = cb.read_segmentation(path)
    assert np.array_equal(labelmap.array, truth("scan2").array)
    assert [segment.name for segment in segments] == STRUCTURES
    record = json.loads(path.with_name(path.name.replace(".seg.nrrd", ".json")).read_text())
    assert record["by"] == "AB" and record["when"].endswith("+00:00")
    assert record["structures"] == STRUCTURES
    assert record["volume_ml"]["bright spot"] == pytest.approx(
        (labelmap.array == 1).sum() * labelmap.grid.voxel_volume_mm3 / 1000, abs=1e-3
    )
    assert cb.read_prompts(path.with_name(record["prompts"])).same_as(prompts)
    assert learner.learned == [sorted(STRUCTURES)]
    assert cohort.description.encoder == learner.identity
    assert states(cohort)["scan2"] is State.ACCEPTED


def test_a_suggestion_is_compared_with_what_is_accepted(cohort):
    cohort.accept("scan0", truth("scan0"))
    path = cohort.suggest("scan1")
    suggested = cb.read_segmentation(path)[0].array
    status = {scan.name: scan for scan in cohort.status()}["scan1"]
    assert status.state is State.SUGGESTED and status.estimated_dice == pytest.approx(0.9)
    cohort.accept("scan1", truth("scan1"))
    (point,) = cohort.learning_curve()
    a, b = suggested == 1, truth("scan1").array == 1
    assert point.patients == 1
    assert point.dice["bright spot"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-4)
    # The next estimate is corrected by a third of this one's error: one scan against a prior of two.
    cohort.suggest("scan2")
    after = {scan.name: scan for scan in cohort.status()}["scan2"].estimated_dice
    assert after == pytest.approx(0.9 + (np.mean(list(point.dice.values())) - 0.9) / 3, abs=2e-3)
    # By the same probe it is not made again.
    before = cohort.suggest("scan2").stat().st_mtime_ns
    assert cohort.suggest("scan2").stat().st_mtime_ns == before


def test_a_structure_that_was_not_looked_for_is_not_learned(cohort, learner):
    cohort.accept("scan0", truth("scan0"), structures=["dark spot"])
    assert learner.learned == [["dark spot"]]
    with pytest.raises(CohortError, match="no structure 'liver'"):
        cohort.accept("scan1", truth("scan1"), structures=["liver"])


def test_accepting_again_keeps_the_earlier_file_and_learns_anew(cohort, learner):
    first = cohort.accept("scan0", truth("scan0"))
    cohort.accept("scan1", truth("scan1"))
    changed = truth("scan0")
    changed.array[changed.array == 2] = 0
    second = cohort.accept("scan0", changed)
    assert first.exists() and second != first
    assert cohort.segmentation("scan0") == second
    assert len(learner.learned) == 4  # two scans, and both again
    probes = sorted((cohort.folder / "probe").glob("*.json"))
    assert [path.name for path in probes] == ["probe.2.json", "probe.3.json"]  # the newest two
    assert json.loads(probes[-1].read_text())["learned"] == [["scan0", 2], ["scan1", 1]]


def test_a_correction_is_kept_and_comes_next(cohort, learner):
    cohort.keep("scan5", truth("scan5"), by="CD")
    assert learner.learned == []
    assert states(cohort)["scan5"] is State.CORRECTED
    assert cohort.next().name == "scan5"
    cohort.accept("scan5")  # the correction itself
    assert np.array_equal(cb.read_segmentation(cohort.segmentation("scan5"))[0].array, truth("scan5").array)
    with pytest.raises(CohortError, match="accepted"):
        cohort.keep("scan5", truth("scan5"))


def test_an_accepted_scan_is_not_suggested_and_nothing_without_one(cohort):
    with pytest.raises(CohortError, match="Nothing was accepted yet"):
        cohort.suggest("scan0")
    with pytest.raises(CohortError, match="no segmentation of 'scan0'"):
        cohort.accept("scan0")
    cohort.accept("scan0", truth("scan0"))
    with pytest.raises(CohortError, match="accepted already"):
        cohort.suggest("scan0")


def test_all_scans_come_once(cohort):
    seen = []
    while (scan := cohort.next()) is not None:
        seen.append(scan.name)
        if len(seen) > 1:
            cohort.suggest(scan.name)
        cohort.accept(scan.name, truth(scan.name))
    assert sorted(seen) == NAMES
    assert [point.patients for point in cohort.learning_curve()] == list(range(1, 8))


def test_another_encoder_is_refused_and_nothing_changes(cohort):
    cohort.accept("scan0", truth("scan0"))
    other = cb.Cohort.open(cohort.folder, learner=StandIn("b" * 64))
    with pytest.raises(CohortError) as caught:
        other.suggest("scan1")
    assert caught.value.remedy is Remedy.CHOOSE_ENCODER and "aaaa" in str(caught.value)
    assert states(cohort)["scan1"] is State.TO_DO


def test_another_grid_and_unknown_labels_are_refused(cohort):
    with pytest.raises(CohortError, match="another geometry"):
        cohort.accept("scan0", truth("scan1"))
    wrong = truth("scan0")
    wrong.array[0, 0, 0] = 7
    with pytest.raises(CohortError, match="label 7"):
        cohort.accept("scan0", wrong)
    assert not (cohort.folder / "accepted").exists()


def test_cancel_leaves_no_suggestion(cohort):
    cohort.accept("scan0", truth("scan0"))
    cancel = cb.CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        cohort.suggest("scan1", cancel=cancel)
    assert states(cohort)["scan1"] is State.TO_DO and cohort.unfinished() == []


def test_without_an_encoder_scans_can_be_accepted_and_are_learned_later(cohort, learner):
    plain = cb.Cohort.open(cohort.folder)
    plain.accept("scan0", truth("scan0"))
    with pytest.raises(CohortError, match="needs an encoder"):
        plain.suggest("scan1")
    cohort.suggest("scan1")
    assert len(learner.learned) == 1


def test_scans_that_moved_are_found_again(cohort, scans):
    cohort.accept("scan0", truth("scan0"))
    scans.rename(scans.with_name("elsewhere"))
    assert all(not scan.path and "no longer" in scan.flags[0] for scan in cohort.status())
    with pytest.raises(CohortError, match="no longer") as caught:
        cohort.next()
    assert caught.value.remedy is Remedy.RELOCATE_SCANS
    found, missing = cohort.relocate(scans.parent)
    assert sorted(found) == NAMES and missing == []
    cohort.suggest("scan1")


def test_a_cohort_that_moves_with_its_scans_works(cohort, tmp_path, learner):
    cohort.accept("scan0", truth("scan0"))
    home = tmp_path / "other"
    home.mkdir()
    (tmp_path / "scans").rename(home / "scans")
    cohort.folder.rename(home / "cohort")
    moved = cb.Cohort.open(home / "cohort", learner=learner)
    moved.suggest("scan1")
    assert all(scan.path for scan in moved.status())


def test_a_scan_that_was_changed_is_refused(cohort, scans):
    cohort.accept("scan0", truth("scan0"))
    cb.write_volume(make_scan(6)[0], scans / "scan0.nrrd")
    with pytest.raises(CohortError, match="was changed"):
        cohort.accept("scan0", truth("scan0"))


def test_a_folder_with_files_and_bad_structures_are_refused(tmp_path, cohort):
    with pytest.raises(CohortError, match="not empty"):
        cb.Cohort.create(tmp_path / "scans", ["liver"])
    with pytest.raises(CohortError, match="already"):
        cb.Cohort.create(cohort.folder, ["liver"])
    for names in ([], ["liver", "Liver "], ["background"], [""]):
        with pytest.raises(CohortError):
            cb.Cohort.create(tmp_path / "new", names)
    assert not (tmp_path / "new").exists()
    with pytest.raises(CohortError) as caught:
        cb.Cohort.open(tmp_path / "scans")
    assert caught.value.remedy is Remedy.CREATE_COHORT


def test_the_card_tells_the_curve_and_no_name(cohort, tmp_path):
    for name in NAMES[:3]:
        if cohort.probe:
            cohort.suggest(name)
        cohort.accept(name, truth(name), by="Dr. Who")
    text = cohort.model_card().read_text(encoding="utf-8")
    assert "not a medical device" in text and "a" * 64 in text
    assert "| 1 | 1 | " in text and "| 2 | 1 | " in text
    assert "5 to do" in text and "3 accepted" in text
    assert "scan0" not in text and "Who" not in text and str(tmp_path) not in text
    with pytest.raises(StoreError):
        cohort.model_card(cohort.folder / "accepted" / "card.md")
    assert cohort.model_card(tmp_path / "card.md").is_file()


def test_a_scan_without_a_file_is_kept_in_the_folder(cohort, learner):
    volume, labels = make_scan(9)
    names = [cohort.add_volume(volume, "scan0"), cohort.add_volume(volume, "CT / thorax")]
    assert names == ["scan0-2", "CT_thorax"]
    assert np.array_equal(cohort.read("scan0-2").array, volume.array)
    cohort.accept("scan0-2", labels)
    assert learner.learned


def test_a_skipped_scan_does_not_come_next(cohort):
    cohort.keep("scan5", truth("scan5"))
    assert cohort.next(skip=["scan5"]).name != "scan5"
    assert cohort.next(skip=NAMES) is None


def test_a_scan_without_any_structure_is_accepted_and_not_learned(cohort, learner):
    nothing = truth("scan0")
    nothing.array[:] = 0
    cohort.accept("scan0", nothing)
    assert states(cohort)["scan0"] is State.ACCEPTED and learner.learned == []
    with pytest.raises(CohortError, match="Nothing was accepted yet"):
        cohort.suggest("scan1")
    cohort.accept("scan1", truth("scan1"))
    cohort.suggest("scan2")
    assert len(learner.learned) == 1
