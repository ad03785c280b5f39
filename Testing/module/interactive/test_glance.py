"""With many structures the one that was clicked is shown before all are fitted anew."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from host import mouse

from Testing.module.interactive.test_few_shot import click_all, ready

__all__ = ["ready"]


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


def test_the_clicked_structure_comes_first_and_all_follow(three: Any, driver: Any, monkeypatch: Any) -> None:
    from CoralBaySlicerCore.interactive import previewer
    from CoralBaySlicerCore.work import compute

    panel, place = three
    made: list[tuple[str, Any]] = []

    def kept(name: str, action: Any) -> Any:
        def wrapped(*args: Any) -> Any:
            made.append((name, action(*args)))
            return made[-1][1]

        return wrapped

    shown = []
    monkeypatch.setattr(previewer, "glance", kept("glance", previewer.glance))
    monkeypatch.setattr(compute, "preview", kept("whole", compute.preview))
    monkeypatch.setattr(panel.few_shot, "changed", lambda: shown.append(panel.few_shot.preview))
    before = panel.few_shot.preview
    panel.few_shot.structures[0].node.AddControlPointWorld(*(place + [0, 0, 6]))
    driver.settle()
    assert [name for name, _ in made] == ["glance", "whole"]
    glanced, whole = (preview for _, preview in made)
    assert panel.few_shot.preview is whole
    assert any(each is glanced for each in shown)
    assert glanced.probe is before.probe
    first, second, third = sorted(whole.percents)
    assert not np.array_equal(glanced.percents[first], before.percents[first])
    assert np.abs(glanced.percents[first].astype(int) - whole.percents[first]).mean() < 1
    assert all(glanced.percents[n] is before.percents[n] for n in (second, third))
    assert (glanced.labels == whole.labels).mean() > 0.98


def test_a_click_on_the_background_is_for_what_was_found_there(three: Any) -> None:
    from CoralBaySlicerCore.interactive.glance import clicked
    from CoralBaySlicerCore.work.compute import Points

    few_shot = three[0].few_shot
    preview, points = few_shot.preview, few_shot.points()

    def after(label: int, *places: Any) -> int | None:
        more = Points(np.concatenate([points.points, places]), np.append(points.labels, [label] * len(places)), points.names)
        return clicked(points, more, preview)

    def somewhere(label: int) -> Any:
        k, j, i = np.argwhere(preview.labels == label)[0]
        return (preview.geometry @ [i, j, k, 1])[:3]

    first, second, _third = sorted(preview.percents)
    assert after(second, somewhere(0)) == second
    assert after(0, somewhere(first)) == first
    assert after(0, somewhere(0)) is None
    assert after(0, somewhere(first), somewhere(second)) is None
    assert clicked(points, points, preview) is None
    assert clicked(None, points, preview) is None
    gone = points.labels != first
    assert clicked(points, Points(points.points[gone], points.labels[gone], points.names), preview) is None


def test_a_place_can_be_asked_for_in_a_structure_that_the_probe_does_not_know_yet(three: Any, driver: Any) -> None:
    few_shot, places = three[0].few_shot, []
    newest = max(few_shot.preview.percents)
    few_shot.preview = replace(few_shot.preview, probe=SimpleNamespace(names_={}))
    few_shot.next_place(newest, few_shot.points(), places.append)
    driver.settle()
    assert len(places) == 1
    assert few_shot.points().names[newest] in few_shot.message


def test_few_structures_are_fitted_together_at_once() -> None:
    from CoralBaySlicerCore.interactive.glance import clicked
    from CoralBaySlicerCore.work.compute import Points

    one = Points(np.zeros((1, 3)), np.array([1]))
    two = Points(np.ones((1, 3)), np.array([1]))
    assert clicked(one, two, SimpleNamespace(percents={1: None, 2: None})) is None
    assert (
        clicked(one, two, SimpleNamespace(percents={1: None, 2: None, 3: None}, geometry=np.eye(4), labels=np.zeros((1, 1, 1))))
        == 1
    )


def test_what_a_structure_gives_up_goes_to_the_likeliest_other() -> None:
    from CoralBaySlicerCore.interactive.glance import _give_up

    likeliest, odds = np.array([1, 1, 2, 3], np.uint8), np.array([3, 2, 1, -1], np.float32)
    percents = {n: np.array(p, np.uint8) for n, p in {1: [95, 88, 0, 0], 2: [10, 60, 73, 0], 3: [30, 20, 0, 27]}.items()}
    _give_up(1, likeliest, odds, percents)
    assert likeliest.tolist() == [3, 2, 2, 3]
    assert odds[2:].tolist() == [1, -1]
    np.testing.assert_allclose(odds[:2], [np.log(30.5 / 70.5), np.log(60.5 / 40.5)], atol=1e-5)


def test_a_preview_that_waited_takes_up_what_has_changed_when_it_goes_on(three: Any, driver: Any) -> None:
    panel, place = three
    before = panel.few_shot.preview
    panel.parameters.livePreview = False
    panel.few_shot.structures[0].node.AddControlPointWorld(*(place + [0, 0, 6]))
    driver.settle()
    assert panel.few_shot.preview is before
    panel.parameters.livePreview = True
    driver.settle()
    assert len(panel.few_shot.preview.probe.prompts_) == len(before.probe.prompts_) + 1
