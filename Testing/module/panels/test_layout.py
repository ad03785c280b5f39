"""The panel at the width and height that it has in Slicer: nothing widens it, and what is needed is in sight."""

from collections.abc import Callable
from typing import Any

import host
import pytest
from host import mouse
from host.mainwindow import PANEL_WIDTH

from Testing.module.panels import test_scan_panel
from Testing.module.panels.test_scan_panel import slow
from Testing.module.steps import click_all

pytestmark = pytest.mark.slow

__all__ = ["slow"]

HEIGHT = 600
"""What a small screen shows of the panel, in pixels."""


@pytest.fixture
def unchanged(coralbay: Any) -> Callable[[str], None]:
    """Checks that the panel is as wide as in a new Slicer, and that its widgets do not need more."""
    import slicer

    window = slicer.util.mainWindow()
    dock, owner = (slicer.util.findChild(window, name) for name in ("PanelDockWidget", "ModulePanel"))
    bar = owner._area.horizontalScrollBar().sizeHint().width()

    def check(state: str) -> None:
        host.process_events(0.05)
        assert dock.width == PANEL_WIDTH, state
        needed = coralbay.panel.root.layout().minimumSize().width()
        assert needed <= PANEL_WIDTH - bar, state

    return check


def bottom(widget: Any, panel: Any) -> int:
    """The lower end of a widget below the upper end of the panel, in pixels."""
    import qt

    assert widget.visible, widget.objectName
    return widget.mapTo(panel.root, qt.QPoint(0, widget.height)).y()


@pytest.mark.usefixtures("slow")
def test_nothing_widens_the_panel(coralbay: Any, driver: Any, scan: Any, unchanged: Any) -> None:
    import slicer

    panel = coralbay.panel
    unchanged("empty")
    node, place = scan(name="CT chest with contrast 1.25 mm soft tissue kernel " * 2)
    panel.scan.ui.volumeSelector.setCurrentNode(node)
    unchanged("a scan of a long name")
    mouse.press(panel.scan.ui.computeButton)
    host.wait_for(lambda: "left" in panel.ui.activityLabel.text)
    unchanged("working")
    driver.settle(60)
    unchanged("ready")
    mouse.press(panel.segment.ui.addStructureButton)
    panel.segment.few_shot.structures[0].node.SetName("Left adrenal gland with a nodule in its lateral limb")
    click_all(panel.segment, driver, place)
    unchanged("a preview")
    for part in panel.panels:
        driver.open(part)
        unchanged(part.name)
    mouse.press(panel.segment.ui.paintButton)
    driver.settle()
    unchanged("painting")
    panel.parameters.scope = "library"
    panel.refresh()
    unchanged("a library")
    slicer.util.selectModule("SegmentEditor")
    slicer.util.selectModule("CoralBaySlicer")
    unchanged("back again")


def test_what_clicking_needs_is_in_sight(coralbay: Any, driver: Any, scan: Any) -> None:
    """From the first click to Apply, nothing has to be scrolled."""
    node, place = scan()
    driver.embed(node)
    panel, ui = coralbay.panel, coralbay.panel.segment.ui
    mouse.press(ui.addStructureButton)
    click_all(panel.segment, driver, place)
    assert panel.segment.few_shot.preview is not None
    panel.segment.few_shot.message = "To improve the preview, press 0 and click on a few locations outside of the structure."
    panel.segment.refresh()
    host.process_events(0.05)
    needed = (
        *(ui.structureTable, ui.addStructureButton, ui.placeButton, ui.undoButton, ui.clearButton, ui.previewLabel),
        *(ui.suggestButton, ui.sizeButton, ui.overlaySelector, ui.thresholdSlider, ui.outputSelector, ui.applyButton),
    )
    assert max(bottom(each, panel) for each in needed) <= HEIGHT


def test_names_of_structures_are_not_cut(coralbay: Any, driver: Any, scan: Any) -> None:
    node, place = scan()
    driver.embed(node)
    panel = coralbay.panel.segment
    mouse.press(panel.ui.addStructureButton)
    panel.few_shot.structures[0].node.SetName("Left adrenal gland")
    click_all(panel, driver, place)
    table = panel.ui.structureTable
    # Colored square and margins take 30 pixels.
    assert table.columnWidth(0) >= table.fontMetrics().horizontalAdvance("Left adrenal gland") + 30
    for column in range(4):
        assert table.columnWidth(column) >= table.fontMetrics().horizontalAdvance(table.horizontalHeaderItem(column).text())


def test_step_1_is_collapsed_when_its_work_is_done(coralbay: Any, driver: Any, scan: Any) -> None:
    step, ui = coralbay.panel.scan, coralbay.panel.scan.ui
    assert not step.header.collapsed and step.header.text == "1. Scan and encoder"
    node, _place = scan()
    driver.embed(node)
    assert step.header.collapsed
    assert step.header.text == "1. Scan: CT, ready"
    # It stays as the user wants it until the features of another scan are needed.
    step.header.collapsed = False
    coralbay.panel.refresh()
    assert not step.header.collapsed
    step.header.collapsed = True
    other, _place = scan(name="other", seed=2)
    coralbay.panel.parameters.volume = other
    driver.settle()
    assert not step.header.collapsed and ui.computeButton.enabled
    coralbay.panel.parameters.volume = node
    driver.settle()
    assert step.header.collapsed


@pytest.mark.usefixtures("slow")
def test_the_step_that_works_shows_its_progress(coralbay: Any, driver: Any, scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # It must still be at work when it is cancelled, however busy the computer is.
    monkeypatch.setattr(test_scan_panel, "STEP_S", 0.5)
    panel = coralbay.panel
    frame, cancel = panel.ui.activityFrame, panel.ui.cancelButton
    node, _place = scan()
    panel.scan.ui.volumeSelector.setCurrentNode(node)
    driver.settle()
    mouse.press(panel.scan.ui.computeButton)
    host.wait_for(lambda: panel.ui.progressBar.value >= 10)
    host.process_events(0.05)
    below = bottom(panel.scan.ui.computeButton, panel)
    assert below < bottom(cancel, panel) < below + 100
    # In a collapsed step it would not be seen.
    panel.scan.header.collapsed = True
    host.wait_for(lambda: frame.visible)
    host.process_events(0.05)
    assert bottom(cancel, panel) < bottom(panel.scan.header, panel)
    panel.scan.header.collapsed = False
    mouse.press(cancel)
    driver.settle()
    assert not frame.visible
    driver.open(panel.cohort)
    panel.cohort.run("", lambda: coralbay.logic.workTask(lambda *_: None, "Checking"))
    # Without a cohort this part of step 6 is disabled, and Cancel would be too.
    assert frame.visible and bottom(cancel, panel) < bottom(panel.scan.header, panel)
    driver.settle()
