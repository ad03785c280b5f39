"""Step 3: scans that are removed or changed while all scans of the scene are searched, or afterwards."""

import threading
from typing import Any

import host
import numpy as np
import pytest

from Testing.module.panels.test_similar_panel import centre_of_views, ready

pytestmark = pytest.mark.slow

__all__ = ["ready"]


@pytest.fixture
def search_all(ready: Any, driver: Any, scan: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Searches the scan and another one, and runs an action when both were searched and nothing was shown yet."""
    from CoralBaySlicerCore.scene import query_markups
    from CoralBaySlicerCore.work.compute import similarity

    node, place, panel = ready
    other, _place = scan(name="other", seed=4)
    query_markups.make(node).AddControlPointWorld(*place)
    panel.ui.allScansCheck.click()
    driver.settle()
    searched, released, similar = threading.Event(), threading.Event(), similarity.similar

    def waiting(*args: Any) -> Any:
        results = similar(*args)
        searched.set()
        assert released.wait(60)
        return results

    def run(action: Any) -> None:
        monkeypatch.setattr(similarity, "similar", waiting)
        panel.search()
        host.wait_for(searched.is_set, 30)
        action()
        released.set()
        driver.settle()

    return node, other, panel, run


@pytest.mark.parametrize("removed", [True, False])
def test_a_scan_that_is_removed_or_changed_is_left_out_with_a_word(search_all: Any, removed: bool) -> None:
    import slicer

    node, other, panel, run = search_all

    def change() -> None:
        if removed:
            slicer.mrmlScene.RemoveNode(other)
        else:
            slicer.util.arrayFromVolume(other)[:] += 1
            slicer.util.arrayFromVolumeModified(other)

    run(change)
    assert host.dialogs.texts("error") == []
    assert {region.volume for region in panel.regions} == {"CT"}
    assert list(panel.logic.similarities) == [node.GetID()]
    assert "Skipped: other. It was removed or changed during the search." in panel.ui.otherScansLabel.text


def test_a_region_of_a_scan_that_was_removed_later_moves_no_view(search_all: Any, driver: Any) -> None:
    import slicer

    _node, other, panel, run = search_all
    run(lambda: None)
    region = next(each for each in panel.regions if each.volume == "other")
    slicer.mrmlScene.RemoveNode(other)
    driver.settle()
    before = centre_of_views() + 7
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *before, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
    panel.go_to(region)
    assert np.allclose(centre_of_views(), before, atol=1e-3)
