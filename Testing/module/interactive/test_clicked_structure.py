"""With many structures the clicked one is updated before all others are fitted again."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from host import mouse

from Testing.module.steps import click_all

pytestmark = pytest.mark.slow


@pytest.fixture
def three(ready: Any, driver: Any) -> Any:
    """The panel with a preview of three structures, the last selected; the place of the first."""
    _node, place, panel = ready
    click_all(panel, driver, place)
    for offset in ([-32, 0, 0], [0, 30, 0]):
        mouse.press(panel.ui.addStructureButton)
        for more in ([0, 0, 0], [3, 3, 0]):
            mouse.click_view("Red", place + offset + more)
    mouse.key("Esc")
    driver.settle()
    return panel, place


def test_the_clicked_structure_is_updated_before_all_others(three: Any, driver: Any, monkeypatch: Any) -> None:
    from CoralBayLib.fewshot.segmenter import Segmenter

    panel, place = three
    made: list[tuple[str, Any]] = []

    def kept(name: str, action: Any) -> Any:
        def wrapped(*args: Any) -> Any:
            made.append((name, action(*args)))
            return made[-1][1]

        return wrapped

    shown = []
    monkeypatch.setattr(Segmenter, "preview_of_one", kept("one", Segmenter.preview_of_one))
    monkeypatch.setattr(Segmenter, "preview", kept("whole", Segmenter.preview))
    monkeypatch.setattr(panel.few_shot, "changed", lambda: shown.append(panel.few_shot.preview))
    before, probe = panel.few_shot.preview, panel.few_shot.segmenter.probe_
    # Where the preview has nothing of the structure, so that its answer changes.
    beyond = next(z for z in range(6, 40) if not before.labelmap.nearest_values([place + [0, 0, z]])[0])
    panel.few_shot.structures[0].node.AddControlPointWorld(*(place + [0, 0, beyond]))
    driver.settle()
    assert [name for name, _ in made] == ["one", "whole"]
    (partial, one), whole = (result for _, result in made)
    assert panel.few_shot.preview is whole
    assert any(each is one for each in shown)
    assert partial.probe_ is probe
    first, second, third = sorted(whole.percent)
    assert not np.array_equal(one.percent[first], before.percent[first])
    assert np.abs(one.percent[first].astype(int) - whole.percent[first]).mean() < 1
    assert all(one.percent[n] is before.percent[n] for n in (second, third))
    assert (one.labels == whole.labels).mean() > 0.98


def test_a_background_click_affects_the_structure_labeled_there(three: Any) -> None:
    from CoralBaySlicerCore.interactive.previewer import clicked_structure

    from CoralBayLib.fewshot.prompts import Prompts

    few_shot = three[0].few_shot
    preview, prompts = few_shot.preview, few_shot.prompts()

    def after(label: int, *places: Any) -> int | None:
        points, labels = np.concatenate([prompts.points_ras, places]), np.append(prompts.labels, [label] * len(places))
        return clicked_structure(prompts, Prompts(points, labels, prompts.names), preview)

    def somewhere(label: int) -> Any:
        return preview.grid.to_ras(np.argwhere(preview.labels == label)[0][::-1])[0]

    first, second, _third = sorted(preview.percent)
    assert after(second, somewhere(0)) == second
    assert after(0, somewhere(first)) == first
    assert after(0, somewhere(0)) is None
    assert after(0, somewhere(first), somewhere(second)) is None
    assert clicked_structure(prompts, prompts, preview) is None
    assert clicked_structure(None, prompts, preview) is None
    assert clicked_structure(prompts, prompts.without(first), preview) is None


def test_a_click_can_be_suggested_for_a_new_structure(three: Any, driver: Any) -> None:
    few_shot, places = three[0].few_shot, []
    newest = max(few_shot.preview.percent)
    few_shot.segmenter.probe_.names_ = {}
    few_shot.suggest_click(newest, few_shot.prompts(), places.append)
    driver.settle()
    assert len(places) == 1
    assert few_shot.prompts().names[newest] in few_shot.message


def test_few_structures_are_fitted_together_at_once() -> None:
    from CoralBaySlicerCore.interactive.previewer import clicked_structure

    from CoralBayLib.fewshot.prompts import Prompts
    from CoralBayLib.imaging.grid import Grid, Volume

    one, two = Prompts(np.zeros((1, 3)), [1]), Prompts(np.ones((1, 3)), [1])
    nothing = Volume(np.zeros((1, 1, 1)), Grid((1, 1, 1), np.eye(4)))
    assert clicked_structure(one, two, SimpleNamespace(percent={1: None, 2: None})) is None
    assert clicked_structure(one, two, SimpleNamespace(percent={1: None, 2: None, 3: None}, labelmap=nothing)) == 1


def test_a_resumed_preview_applies_the_changes_made_meanwhile(three: Any, driver: Any) -> None:
    panel, place = three
    before, probe = panel.few_shot.preview, panel.few_shot.segmenter.probe_
    panel.parameters.livePreview = False
    panel.few_shot.structures[0].node.AddControlPointWorld(*(place + [0, 0, 6]))
    driver.settle()
    assert panel.few_shot.preview is before
    panel.parameters.livePreview = True
    driver.settle()
    assert len(panel.few_shot.segmenter.probe_.prompts_) == len(probe.prompts_) + 1
