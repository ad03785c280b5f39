"""The functions for the console, the worker, and transforms."""

import threading
import time
from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest

from Testing.module.coralbay_fixtures import MODULE
from Testing.module.steps import oblique

pytestmark = pytest.mark.slow


@pytest.fixture
def logic(coralbay: Any) -> Any:
    return coralbay.logic


def test_the_example_of_the_documentation_runs(logic: Any, capsys: pytest.CaptureFixture) -> None:
    import textwrap

    import slicer
    from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic

    example = textwrap.dedent(CoralBaySlicerLogic.__doc__.partition("::\n")[2]).strip()
    assert len(example.splitlines()) == 10
    page = (MODULE.parents[1] / "docs" / "scripting.md").read_text(encoding="utf-8")
    assert f"```python\n{example}\n```" in page
    # Where the example points, as in the scan it is meant for: a bright organ, and soft tissue beside it.
    shape, ijk_to_ras = (50, 60, 80), np.diag([4.0, 4, 4, 1])
    ijk_to_ras[:3, 3] = [-180, -100, -340]
    k, j, i = np.indices(shape)
    ras = np.stack([i, j, k], axis=-1) @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    hu = np.where(np.linalg.norm(ras[..., :2] / [1.5, 1], axis=-1) < 85, 0, -1000)
    hu[np.linalg.norm(ras - [42, 21, -243], axis=-1) < 30] = 300
    slicer.util.addVolumeFromArray(hu.astype(np.int16), ijkToRAS=ijk_to_ras, name="CoralBayChestCT")
    names = {"slicer": slicer}
    exec(example, names)
    voxels, *regions = capsys.readouterr().out.splitlines()
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(names["segmentation"], "liver", names["volume"])
    assert voxels == f"{mask.sum()} voxels"
    assert mask[24, 30, 56]
    assert not mask[25, 25, 23]
    assert regions[0].startswith("1 ")
    made = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert [each.GetSegmentation().GetNthSegment(0).GetName() for each in made] == ["liver", "liver"]


def test_the_logic_works_without_the_panel(app: Any, pooling_encoder: str, scan: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CORALBAY_CACHE", str(tmp_path))
    from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic

    logic = CoralBaySlicerLogic()
    logic.getParameterNode().encoder = pooling_encoder
    node, place = scan()
    regions = logic.similar(node, [place], count=3)
    assert regions[0].score > 0.9
    assert regions[0].volume == "CT"
    logic.close()


def test_errors_reach_the_caller(logic: Any, scan: Any) -> None:
    from CoralBayLib.core.errors import CoralBayError, PromptError

    node, place = scan()
    with pytest.raises(CoralBayError, match="Choose a volume"):
        logic.embed(None)
    with pytest.raises(PromptError, match="All prompts are background"):
        logic.segment(node, {"background": [place]})
    with pytest.raises(CoralBayError, match="no probe"):
        logic.saveProbe("x.safetensors")


def test_segments_go_into_a_segmentation_under_another_transform(logic: Any, scan: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import segments

    node, place = scan(oblique())
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shift = np.eye(4)
    shift[:3, 3] = [15, 5, -10]
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
    target = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    target.CreateDefaultDisplayNodes()
    target.SetAndObserveTransformNodeID(transform.GetID())
    prompts = {"ball": [place, place + [3, 0, 0]], "background": [place + [0, 22, 0], place - [0, 22, 0]]}
    logic.segment(node, prompts, target)
    own = logic.segment(node, prompts)
    world = []
    for each in (target, own):
        points = segments.points(each, each.GetSegmentation().GetNthSegmentID(0), node)
        world.append(points.mean(axis=0))
    assert world[0] == pytest.approx(world[1], abs=0.6)
    bend = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    bend.SetAndObserveTransformToParent(bspline())
    target.SetAndObserveTransformNodeID(bend.GetID())
    with pytest.raises(Exception, match="non-linear transform"):
        logic.segment(node, prompts, target)


def bspline() -> Any:
    """A non-linear transform."""
    import vtk

    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in ([-100, -100, -100], [100, -100, 80], [-90, 100, 100], [100, 90, -100], [0, 0, 0]):
        source.InsertNextPoint(corner)
        target.InsertNextPoint(corner if any(corner) else [6, 0, 0])
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    return spline


def test_points_pass_nonlinear_transforms_and_the_user_is_warned(logic: Any, coralbay: Any, driver: Any, scan: Any) -> None:
    import slicer
    from CoralBaySlicerCore.scene import volumes

    node, place = scan()
    bend = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    bend.SetAndObserveTransformToParent(bspline())
    node.SetAndObserveTransformNodeID(bend.GetID())
    assert volumes.is_transformed_nonlinearly(node)
    world = volumes.to_world(node, [place, place + [5, 0, 0]])
    assert np.linalg.norm(world[0] - place) > 1
    assert volumes.from_world(node, world) == pytest.approx(np.array([place, place + [5, 0, 0]]), abs=0.05)
    driver.embed(node)
    assert "non-linear" in host.dialogs.texts("warning")[0]


def test_a_newer_task_cancels_an_older_one_of_its_lane(coralbay: Any) -> None:
    from CoralBaySlicerCore.work.worker import Task, Worker

    from CoralBayLib.core.errors import Cancelled

    worker, outcomes = Worker(), []

    def wait(progress: Any, cancel: Any) -> str:
        for _ in range(200):
            cancel.raise_if_cancelled()
            time.sleep(0.01)
        return "old"

    old = worker.start(Task(wait, lane="a"))
    old.on_failed = outcomes.append
    other = worker.start(Task(lambda *_: "other", lane="b"))
    new = worker.start(Task(lambda *_: threading.current_thread().name, lane="a"))
    assert worker.wait(new) == "CoralBay"
    assert worker.wait(other) == "other"
    assert isinstance(outcomes[0], Cancelled)
    worker.close()


def test_a_failing_finish_is_a_failed_task(coralbay: Any) -> None:
    from CoralBaySlicerCore.work.remedies import describe_error
    from CoralBaySlicerCore.work.worker import Task, Worker

    worker = Worker()

    def finish(_value: Any) -> None:
        assert threading.current_thread() is threading.main_thread()
        raise ValueError("no place")

    with pytest.raises(ValueError, match="no place") as caught:
        worker.wait(worker.start(Task(lambda *_: 1, finish)))
    assert "no place" in describe_error(caught.value)
    assert "PyTorch" in describe_error(ImportError("DLL load failed"))
    worker.close()


def test_encoders_are_those_of_the_library(coralbay: Any) -> None:
    from CoralBaySlicerCore.setup import encoder_cards as module_cards

    from CoralBayLib.encoders import encoder_cards

    known = [card for card in encoder_cards() if card.name not in ("pooling", "asking")]
    assert known == module_cards.shipped()
    assert known[0].name == "coralbay"  # the default of CoralBaySlicerParameters.encoder


def test_the_self_test_passes(coralbay: Any) -> None:
    import slicer

    slicer.selfTests["CoralBaySlicer"]()
    assert "passed" in host.dialogs.texts("delay")[-1]


def test_extension_files_agree(coralbay: Any) -> None:
    import json

    root = MODULE.parents[1]
    entry = (root / "CoralBay.json").read_bytes()
    assert b"\r" not in entry
    catalog = json.loads(entry)
    assert catalog["$schema"].endswith("v1.0.2.json#")
    assert catalog["category"] == "Segmentation"
    assert catalog["build_dependencies"] == ["PyTorch"]
    lists = (root / "CMakeLists.txt").read_text(encoding="utf-8")
    assert "project(CoralBay)" in lists
    assert 'set(EXTENSION_DEPENDS "PyTorch")' in lists
    assert f'set(EXTENSION_TIER "{catalog["tier"]}")' in lists
    # Reviewers of the index and users read the modality, the privacy and the purpose there.
    description = lists.split("set(EXTENSION_DESCRIPTION ")[1].split("\n")[0]
    assert all(said in description for said in ("CT only", "not sent anywhere", "not a medical device"))
    named = (MODULE.parent / "CMakeLists.txt").read_text(encoding="utf-8")
    for path in (MODULE.parent / "Resources").rglob("*"):
        if path.is_file() and path.suffix != ".py":
            pattern = f"/{path.relative_to(MODULE.parent).with_name('*').as_posix()}{path.suffix}\n"
            assert path.name.replace("CoralBaySlicer", "${MODULE_NAME}") in named or pattern in named, path.name
    for path in MODULE.parent.rglob("*.py"):
        # The core is found by a pattern.
        if "CoralBaySlicerCore" not in path.parts and path != MODULE:
            assert f"  {path.relative_to(MODULE.parent).as_posix()}\n" in named, path.name


def test_the_module_has_a_text_for_every_remedy(coralbay: Any) -> None:
    from CoralBaySlicerCore.work import remedies
    from CoralBaySlicerCore.work.remedies import describe_error

    from CoralBayLib.core.errors import LibraryError, Remedy

    assert set(remedies.words()) == set(Remedy)
    details = {"encoder": "coralbay", "path": "library", "package": "lancedb", "reason": "offline"}
    for remedy in Remedy:
        assert remedies.remedy_text(LibraryError("It failed.", remedy=remedy, **details))
    assert describe_error(LibraryError("There is no library.", remedy=Remedy.CREATE_LIBRARY)).startswith(
        "There is no library. Add "
    )
    assert describe_error(LibraryError("It failed.")) == "It failed."


def test_remedies_name_what_the_panel_has(coralbay: Any) -> None:
    import re

    from CoralBaySlicerCore.work import remedies

    forms = " ".join(path.read_text(encoding="utf-8") for path in (MODULE.parent / "Resources" / "UI").glob("*.ui"))
    labels = {label.rstrip(":") for label in re.findall(r"<string[^>]*>([^<]+)</string>", forms)}
    named = [name for text in remedies.words().values() for name in re.findall(r"(?<!\w)'([A-Z][^']*)'", text)]
    assert len(named) > 5 and not set(named) - labels
