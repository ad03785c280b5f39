"""A scan with everything that can be drawn over it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.module.steps import click_all

CLASSES = ["none", "ball"]


class StandInProbe:
    """A probe on whole scans of which all that is asked for is a map."""

    kind, task_, target, classes_ = "linear", "classify", "finding", CLASSES


@pytest.fixture
def maps(coralbay: Any, driver: Any, scan: Any, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An embedded scan with a preview in step 2, a query for step 3, and a probe for step 5."""
    from CoralBaySlicerCore.scene import query_markups
    from CoralBaySlicerCore.work import scan_probes

    def saliency(pyramid: Any, _probe: Any, said: int) -> tuple:
        values = np.full(pyramid.grid.shape, 40 + 20 * said, np.uint8)
        return values, np.array(pyramid.grid.ijk_to_ras)

    monkeypatch.setattr(scan_probes, "saliency", saliency)
    panel = coralbay.panel
    node, place = scan()
    driver.embed(node)
    mouse.press(panel.segment.ui.addStructureButton)
    click_all(panel.segment, driver, place)
    query_markups.make(node).AddControlPointWorld(*place)
    panel.scans.probe.take(StandInProbe())
    for part in (panel.segment, panel.similar, panel.feature_maps, panel.scans):
        driver.open(part)

    def pressed(button: Any) -> Callable[[], None]:
        def press() -> None:
            driver.settle()
            host.process_events(0.05)
            mouse.press(button)
            driver.settle()
            assert host.dialogs.texts("error") == []

        return press

    show: dict[str, Callable[[], None]] = {
        "similarity": pressed(panel.similar.ui.searchButton),
        "features": pressed(panel.feature_maps.ui.colorsButton),
        "saliency": pressed(panel.scans.ui.saliencyButton),
    }
    hide: dict[str, Callable[[], None]] = {
        "similarity": pressed(panel.similar.ui.showMapCheck),
        "features": pressed(panel.feature_maps.ui.hideColorsButton),
        "saliency": pressed(panel.scans.ui.saliencyButton),
    }
    return SimpleNamespace(panel=panel, node=node, place=place, show=show, hide=hide, pressed=pressed)
