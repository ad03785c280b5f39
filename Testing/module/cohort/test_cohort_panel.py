"""Step 6: a cohort is made, filled, gone through, killed and continued."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

import CoralBayLib as cb
from CoralBayLib.cohort import State
from Testing.lib.cohort.stand_in import CENTRE, NAMES, STRUCTURES, StandIn, make_scan, write_scans
from Testing.module.cohort.session import ROOT, draw_truth, go_through, settle

pytestmark = pytest.mark.slow


@pytest.fixture
def ready(coralbay: Any, driver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The panel, opened, with a folder of eight scans and a stand-in for learning."""
    from CoralBaySlicerCore.work.cohort import tasks

    learner = StandIn()
    monkeypatch.setattr(tasks, "learner_of", lambda *_: learner)
    write_scans(tmp_path / "scans")
    panel = coralbay.panel.cohort
    driver.open(panel)
    return SimpleNamespace(panel=panel, ui=panel.ui, folder=tmp_path / "cohort", scans=tmp_path / "scans", learner=learner)


@pytest.fixture
def filled(ready: Any, coralbay: Any) -> SimpleNamespace:
    """A cohort with the eight scans."""
    ready.folder.mkdir()
    ready.ui.structuresEdit.text = ", ".join(STRUCTURES)
    host.process_events(0.05)
    host.dialogs.answer(str(ready.folder))
    mouse.press(ready.ui.newCohortButton)
    settle(coralbay)
    host.dialogs.answer(str(ready.scans))
    mouse.press(ready.ui.addCohortFolderButton)
    settle(coralbay)
    assert host.dialogs.texts("error") == []
    return ready


def states(ready: Any) -> dict[str, State]:
    return {scan.name: scan.state for scan in cb.Cohort.open(ready.folder).status()}


def column(table: Any, number: int) -> list[str]:
    return [table.item(row, number).text() for row in range(table.rowCount)]


def open_row(ready: Any, coralbay: Any, name: str) -> None:
    ready.panel.open_scan(name)
    settle(coralbay)


def test_a_cohort_is_made_filled_and_remembered(filled: Any, coralbay: Any) -> None:
    from CoralBaySlicerCore.work.cohort import tasks

    assert column(filled.ui.cohortTable, 0) == NAMES
    assert set(column(filled.ui.cohortTable, 1)) == {"to do"}
    assert "bright spot, dark spot. Accepted: 0 of 8 scans." in filled.ui.cohortLabel.text
    assert tasks.folder() == str(filled.folder)
    assert not filled.ui.acceptButton.enabled and filled.ui.nextScanButton.enabled
    assert not filled.ui.relocateButton.visible


def test_next_opens_a_scan_and_accept_teaches_and_prepares_the_next(filled: Any, coralbay: Any) -> None:
    import slicer

    mouse.press(filled.ui.nextScanButton)
    settle(coralbay)
    parameters = coralbay.panel.parameters
    first = draw_truth(coralbay)
    volume = parameters.volume
    assert volume.GetName() == first and parameters.output.GetName() == f"{first} segmentation"
    assert coralbay.logic.features.cached(volume) is not None
    assert [each.name for each in coralbay.panel.segment.few_shot.structures] == [*STRUCTURES, "Background"]
    filled.ui.annotatorEdit.text = "AB"
    filled.ui.annotatorEdit.editingFinished.emit()
    mouse.press(filled.ui.acceptButton)
    settle(coralbay)
    assert host.dialogs.texts("error") == []
    assert np.array_equal(
        cb.read_segmentation(cb.Cohort.open(filled.folder).segmentation(first))[0].array,
        make_scan(int(first.removeprefix("scan")))[1].array,
    )
    assert filled.learner.learned == [sorted(STRUCTURES)]
    found = states(filled)
    assert found[first] is State.ACCEPTED and list(found.values()).count(State.SUGGESTED) == 1
    row = NAMES.index(first)
    assert column(filled.ui.cohortTable, 1)[row] == "accepted"
    # The suggestion is there when the scan opens, and the earlier scan has left the scene.
    calls = filled.learner.embedded
    mouse.press(filled.ui.nextScanButton)
    settle(coralbay)
    second = parameters.volume.GetName()
    assert second != first and found[second] is State.SUGGESTED and filled.learner.embedded == calls
    assert slicer.util.getFirstNodeByName(first) is None
    suggested = cb.read_segmentation(cb.Cohort.open(filled.folder).segmentation(second))[0].array
    segment = parameters.output.GetSegmentation().GetSegmentIdBySegmentName(STRUCTURES[0])
    shown = slicer.util.arrayFromSegmentBinaryLabelmap(parameters.output, segment, parameters.volume)
    assert suggested.any() and np.array_equal(shown > 0, suggested == 1)
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


def test_the_probe_itself_learns_and_suggests(filled: Any, coralbay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from CoralBaySlicerCore.work.cohort import tasks

    from CoralBayLib.cohort import ProbeLearner

    def learner_of(logic: Any, config: Any, progress: Any, cancel: Any) -> ProbeLearner:
        return ProbeLearner(logic.features.encoder(config, progress, cancel), cb.Store(), config.assume_hu)

    monkeypatch.setattr(tasks, "learner_of", learner_of)
    for _ in range(2):
        mouse.press(filled.ui.nextScanButton)
        settle(coralbay)
        draw_truth(coralbay)
        mouse.press(filled.ui.acceptButton)
        settle(coralbay)
        assert host.dialogs.texts("error") == []
    cohort = cb.Cohort.open(filled.folder)
    assert sorted(cb.Probe.load(cohort.probe).names_.values()) == sorted(STRUCTURES)
    assert [point.patients for point in cohort.learning_curve()] == [1]
    suggested = next(scan for scan in cohort.status() if scan.state is State.SUGGESTED)
    assert suggested.estimated_dice is not None
    assert cohort.description.encoder["encoder"] == "pooling"


def test_clicks_correct_a_suggestion_and_are_written_beside_it(filled: Any, coralbay: Any) -> None:
    from CoralBaySlicerCore.scene import masks

    mouse.press(filled.ui.nextScanButton)
    settle(coralbay)
    draw_truth(coralbay)
    mouse.press(filled.ui.acceptButton)
    settle(coralbay)
    mouse.press(filled.ui.nextScanButton)
    settle(coralbay)
    few_shot, parameters = coralbay.panel.segment.few_shot, coralbay.panel.parameters
    structure = few_shot.structures[0]
    assert masks.start_of(structure)[0] is parameters.output
    number = int(parameters.volume.GetName().removeprefix("scan"))
    spot = CENTRE + 16 * np.array([np.cos(number), np.sin(number), 0.2])
    structure.node.AddControlPointWorld(*spot)
    settle(coralbay)
    host.dialogs.answer(False)
    mouse.press(filled.ui.acceptButton)  # not applied yet: asked, and declined
    settle(coralbay)
    name = parameters.volume.GetName()
    assert "not applied" in host.dialogs.texts()[-1] and states(filled)[name] is State.SUGGESTED
    coralbay.panel.segment.output.apply()
    settle(coralbay)
    mouse.press(filled.ui.acceptButton)
    settle(coralbay)
    assert host.dialogs.texts("error") == []
    path = cb.Cohort.open(filled.folder).segmentation(name)
    prompts = cb.read_prompts(path.with_name(path.name.replace(".seg.nrrd", ".prompts.json")))
    assert np.allclose(prompts.points_ras, [spot], atol=1e-3) and prompts.names[1] == STRUCTURES[0]


def test_changes_are_kept_for_later_when_another_scan_is_opened(filled: Any, coralbay: Any) -> None:
    open_row(filled, coralbay, "scan4")
    draw_truth(coralbay)
    host.dialogs.answer(False)
    open_row(filled, coralbay, "scan2")  # asked, and declined
    assert coralbay.panel.parameters.volume.GetName() == "scan4"
    host.dialogs.answer(True)
    open_row(filled, coralbay, "scan2")
    assert coralbay.panel.parameters.volume.GetName() == "scan2"
    assert states(filled)["scan4"] is State.CORRECTED
    assert column(filled.ui.cohortTable, 1)[4] == "corrected, not accepted"
    open_row(filled, coralbay, "scan4")
    assert np.array_equal(
        cb.read_segmentation(cb.Cohort.open(filled.folder).segmentation("scan4"))[0].array, make_scan(4)[1].array
    )


def test_cancel_and_errors_leave_the_scene_as_it_was(filled: Any, coralbay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    open_row(filled, coralbay, "scan0")
    draw_truth(coralbay)
    mouse.press(filled.ui.acceptButton)
    settle(coralbay)
    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}

    def cancelled(self: Any, volume: Any, progress: Any = None, cancel: Any = None) -> Any:
        cancel.cancel()
        return volume

    monkeypatch.setattr(StandIn, "embed", cancelled)
    left = next(name for name, state in states(filled).items() if state is State.TO_DO)
    open_row(filled, coralbay, left)
    assert host.dialogs.texts("error") == []
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")} == before
    assert states(filled)[left] is State.TO_DO
    (filled.scans / f"{left}.nrrd").unlink()
    open_row(filled, coralbay, left)
    assert "no longer at" in host.dialogs.texts("error")[-1] and "Find moved scans" in host.dialogs.texts("error")[-1]
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")} == before


def test_a_scan_that_cannot_be_shown_leaves_no_node(filled: Any, coralbay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer
    from CoralBaySlicerCore.scene import segments

    def fail(*_args: Any) -> None:
        raise cb.CoralBayError("The segments could not be written.")

    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode")}
    monkeypatch.setattr(segments, "write_masks", fail)
    open_row(filled, coralbay, "scan0")
    assert "could not be written" in host.dialogs.texts("error")[-1]
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLVolumeNode")} == before
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_scans_that_moved_are_found(filled: Any, coralbay: Any) -> None:
    filled.scans.rename(filled.scans.with_name("archive"))
    filled.panel._reload()
    settle(coralbay)
    host.process_events(0.05)
    assert "no longer at" in column(filled.ui.cohortTable, 3)[0]
    host.dialogs.answer(str(filled.scans.with_name("archive")))
    mouse.press(filled.ui.relocateButton)
    settle(coralbay)
    assert "Found: 8. Still missing: 0." in host.dialogs.texts("info")[-1]
    assert not filled.ui.relocateButton.visible


def test_volumes_of_the_scene_are_added(filled: Any, coralbay: Any, scan: Any) -> None:
    import slicer

    scan(name="from memory")
    slicer.util.loadVolume(str(filled.scans / "scan3.nrrd"))
    mouse.press(filled.ui.addSceneButton)
    settle(coralbay)
    assert host.dialogs.texts("error") == []
    assert column(filled.ui.cohortTable, 0) == [*NAMES, "from_memory"]  # scan3 was there already
    assert (filled.folder / "volumes" / "from_memory.nrrd").is_file()


def test_a_damaged_cohort_is_named_and_another_can_be_opened(filled: Any, coralbay: Any) -> None:
    (filled.folder / "cohort.json").write_text("{")
    filled.panel._reload()
    settle(coralbay)
    assert "cohort.json is damaged" in filled.ui.cohortLabel.text
    assert not filled.ui.cohortContents.enabled
    (filled.folder / "cohort.json").write_bytes((filled.folder / "cohort.copy.json").read_bytes())
    host.dialogs.answer(str(filled.folder))
    mouse.press(filled.ui.openCohortButton)
    settle(coralbay)
    assert filled.ui.cohortContents.enabled and len(column(filled.ui.cohortTable, 0)) == 8


@pytest.mark.parametrize("line", [3, 6])
def test_a_session_over_eight_scans_is_killed_and_continued(filled: Any, coralbay: Any, tmp_path: Path, line: int) -> None:
    command = [sys.executable, "-m", "Testing.module.cohort.session", str(filled.folder)]
    log = (tmp_path / "log").open("w")
    session = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
    seen = [session.stdout.readline().split() for _ in range(line)]
    session.send_signal(signal.SIGKILL)
    seen += [each.split() for each in session.stdout.read().splitlines()]
    session.wait()
    session.stdout.close()
    log.close()
    assert all(seen), (tmp_path / "log").read_text()
    told = {name for verb, name in seen if verb == "accepted"}
    found = {name for name, state in states(filled).items() if state is State.ACCEPTED}
    assert told <= found and len(found) <= len(told) + 1 and len(found) < 8
    filled.panel._reload()
    settle(coralbay)
    rest = go_through(coralbay)
    assert sorted([*found, *rest]) == NAMES
    cohort = cb.Cohort.open(filled.folder)
    assert set(states(filled).values()) == {State.ACCEPTED}
    for name in NAMES:
        truth = make_scan(int(name.removeprefix("scan")))[1].array
        assert np.array_equal(cb.read_segmentation(cohort.segmentation(name))[0].array, truth)
    mouse.press(filled.ui.cardButton)
    settle(coralbay)
    assert "8 accepted" in (filled.folder / "model-card.md").read_text()
    assert [point.patients for point in cohort.learning_curve()] == list(range(1, 8))
