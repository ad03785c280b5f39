"""Maps kept as volumes of their own: values, position, name, units, colors, and the scene file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

from Testing.module.effect.session import EffectSession
from Testing.module.effect.test_effect import oblique, painted, turned


def kept() -> list[Any]:
    """The kept maps of the scene."""
    import slicer
    from CoralBaySlicerCore.scene.volumes import KEPT_MAP

    return [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if node.GetAttribute(KEPT_MAP)]


def value_at(node: Any, world: np.ndarray) -> float:
    """The value of a volume at a position, RAS mm of the world."""
    import slicer
    from CoralBaySlicerCore.scene import volumes

    ijk = np.linalg.inv(volumes.ijk_to_ras(node)) @ np.append(volumes.from_world(node, world)[0], 1)
    i, j, k = np.round(ijk[:3]).astype(int)
    return float(slicer.util.arrayFromVolume(node)[k, j, i])


@pytest.fixture(params=["axial", "oblique", "transformed"])
def clicked(request: pytest.FixtureRequest, coralbay: Any, driver: Any, scan: Any) -> Any:
    """A scan with a click on its first ball and one beside it; the world positions of both, and the panel of step 2."""
    from CoralBaySlicerCore.scene import volumes

    node, place = scan(oblique() if request.param == "oblique" else None)
    if request.param == "transformed":
        node.SetAndObserveTransformNodeID(turned("scan").GetID())
    driver.embed(node)
    panel = coralbay.panel.segment
    driver.open(panel)
    assert not panel.ui.keepMapButton.enabled
    panel.few_shot.add_structure("ball")
    inside, outside = volumes.to_world(node, [place, place + (0, 22, 0)])
    panel.few_shot.structures[0].node.AddControlPointWorld(*inside)
    panel.few_shot.structures[-1].node.AddControlPointWorld(*outside)
    driver.settle()
    return node, inside, outside, panel


def test_probability_and_uncertainty_of_the_preview(clicked: Any, driver: Any, coralbay: Any, tmp_path: Path) -> None:
    import slicer
    from CoralBaySlicerCore.scene import volumes

    node, inside, outside, panel = clicked
    panel.ui.keepMapButton.click()
    panel.ui.overlaySelector.currentIndex = panel.ui.overlaySelector.findData("uncertainty")
    driver.settle()
    panel.ui.keepMapButton.click()
    probability, uncertainty = kept()
    assert probability.GetName() == "CT probability of ball"
    assert uncertainty.GetName() == "CT uncertainty"
    assert value_at(probability, inside) > 80
    assert value_at(probability, outside) < 20
    preview = panel.few_shot.preview
    assert (slicer.util.arrayFromVolume(uncertainty) == preview.uncertainty).all()
    # A copy: the next preview does not change it.
    before = slicer.util.arrayFromVolume(probability).copy()
    panel.few_shot.structures[-1].node.AddControlPointWorld(*(inside + (0, 4, 0)))
    driver.settle()
    assert (slicer.util.arrayFromVolume(probability) == before).all()
    for each in (probability, uncertainty):
        assert each.GetVoxelValueUnits().GetAsString() == "CodeValue:%|CodingSchemeDesignator:UCUM|CodeMeaning:Percent"
        assert not each.GetHideFromEditors()
        assert each.GetTransformNodeID() == node.GetTransformNodeID()
        # No scan to embed or to search.
        assert not volumes.is_scan(each)
    color = [0.0] * 4
    probability.GetDisplayNode().GetColorNode().GetColor(255, color)
    assert color[:3] == pytest.approx(panel.few_shot.structures[0].color, abs=0.01)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    driver.settle()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    driver.settle()
    again = slicer.util.getNode("CT probability of ball")
    assert (slicer.util.arrayFromVolume(again) == before).all()
    assert again.GetVoxelValueUnits().GetCodeValue() == "%"
    assert again.GetVoxelValueQuantity().GetCodeMeaning() == "Probability"
    again.GetDisplayNode().GetColorNode().GetColor(255, color)
    assert color[:3] != pytest.approx([1, 1, 1], abs=0.01)
    assert value_at(again, inside) > 80


def test_nothing_is_kept_without_a_shown_map(clicked: Any, driver: Any) -> None:
    _node, _inside, _outside, panel = clicked
    assert panel.ui.keepMapButton.enabled
    panel.ui.overlaySelector.currentIndex = panel.ui.overlaySelector.findData("off")
    driver.settle()
    assert not panel.ui.keepMapButton.enabled


def test_the_similarity_of_a_search(coralbay: Any, driver: Any, scan: Any) -> None:
    from CoralBaySlicerCore.scene import query_markups

    node, place = scan()
    driver.embed(node)
    panel = coralbay.panel.similar
    driver.open(panel)
    assert not panel.ui.keepSimilarityButton.enabled
    query_markups.make(node).AddControlPointWorld(*place)
    mouse.press(panel.ui.searchButton)
    driver.settle()
    panel.ui.keepSimilarityButton.click()
    panel.ui.keepSimilarityButton.click()
    one, two = kept()
    assert (one.GetName(), two.GetName()) == ("CT similarity", "CT similarity_1")
    assert value_at(one, place) > 80
    assert one.GetVoxelValueQuantity().GetCodeMeaning() == "Similarity"


def test_the_effect_keeps_maps_of_its_preview(coralbay: Any, scan: Any) -> None:
    session = EffectSession(*scan())
    first, second = painted(session)
    effect = session.activate()
    effect.options.keepMapButton.click()
    assert "Press Initialize" in host.dialogs.texts("error")[0]
    mouse.press(effect.previewButton)
    session.settle()
    session.node.SetSelectedSegmentID(second)
    effect.options.keepMapButton.click()
    effect.options.mapSelector.currentIndex = 1
    host.wait_for(lambda: len(kept()) == 1)
    effect.options.keepMapButton.click()
    host.wait_for(lambda: len(kept()) == 2)
    probability, uncertainty = kept()
    assert probability.GetName() == "CT probability of second"
    assert uncertainty.GetName() == "CT uncertainty"
    assert value_at(probability, session.center - (32, 0, 0)) > 80
    assert value_at(probability, session.center) < 20
    color = [0.0] * 4
    probability.GetDisplayNode().GetColorNode().GetColor(255, color)
    assert color[:3] == pytest.approx(session.segmentation.GetSegmentation().GetSegment(second).GetColor(), abs=0.01)
    assert first in effect.completion.result.masks
