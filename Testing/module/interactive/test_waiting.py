"""Several tasks at once: waiting tasks are named, and running ones can be cancelled."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import host
import pytest
from host import mouse

from CoralBayLib.core.errors import Cancelled
from Testing.module.steps import click_all

pytestmark = pytest.mark.slow


@pytest.fixture
def endless(embedded: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes the quick encoder go on until it is cancelled or the test has ended, in small steps as a network's layers."""
    from Testing.lib.conftest import PoolingEncoder

    quick, over = PoolingEncoder.forward_features, threading.Event()

    def forward(self: Any, x: Any, names: Any) -> Any:
        while not over.is_set():
            time.sleep(0.02)
            for pool in self.network.pools:
                pool(x)
        return quick(self, x, names)

    monkeypatch.setattr(PoolingEncoder, "forward_features", forward)
    yield
    over.set()


@pytest.fixture
def embedded(coralbay: Any, driver: Any, scan: Any) -> Any:
    """A scan with its embeddings at hand, and its place."""
    node, place = scan()
    driver.embed(node)
    return node, place


@pytest.fixture
def embedding(embedded: Any, endless: None, coralbay: Any, driver: Any, scan: Any) -> Any:
    """The same, while the embeddings of another scan are computed; and that task."""
    node, place = embedded
    other, _place = scan(name="other", seed=7)
    coralbay.panel.scan.ui.volumeSelector.setCurrentNode(other)
    driver.settle()
    mouse.press(coralbay.panel.scan.ui.computeButton)
    task = coralbay.panel.activity.task
    coralbay.panel.scan.ui.volumeSelector.setCurrentNode(node)
    host.wait_for(lambda: coralbay.panel.segment.few_shot.volume is node)
    return node, place, task


def test_a_waiting_preview_names_the_running_task(embedding: Any, coralbay: Any, driver: Any) -> None:
    _node, place, task = embedding
    panel = coralbay.panel.segment
    panel.few_shot.add_structure()
    for structure, offset in zip(panel.few_shot.structures, ([0, 0, 0], [0, 22, 0]), strict=True):
        structure.node.AddControlPointWorld(*(place + offset))
    host.wait_for(lambda: "waits" in panel.ui.previewLabel.text)
    assert "Computing features of other" in panel.ui.previewLabel.text
    assert panel.ui.previewLabel.visible
    task.cancel()
    driver.settle()
    assert not panel.ui.previewLabel.visible
    assert panel.few_shot.preview is not None


def test_the_running_task_is_shown_and_cancelled_before_waiting_ones(embedding: Any, coralbay: Any, driver: Any) -> None:
    from CoralBaySlicerCore.scene import query_markups

    node, place, task = embedding
    top, panel = coralbay.panel.ui, coralbay.panel.similar
    query_markups.make(node).AddControlPointWorld(*place)
    panel.search()
    assert top.activityLabel.text.startswith("Computing features of other")
    assert "Waiting: Looking for similar regions" in top.activityLabel.text
    mouse.press(top.cancelButton)
    assert task.token.cancelled
    driver.settle()
    assert panel.regions
    assert not top.activityFrame.visible
    assert host.dialogs.texts("error") == []


def test_prompts_placed_meanwhile_are_not_lost(embedding: Any, coralbay: Any, driver: Any) -> None:
    _node, place, task = embedding
    panel = coralbay.panel.segment
    mouse.press(panel.ui.addStructureButton)
    host.process_events()
    task.cancel()
    click_all(panel, driver, place)
    assert len(panel.few_shot.prompts().labels) == 5
    assert panel.few_shot.message == ""


def test_a_task_between_two_steps_of_another_is_shown_first(coralbay: Any) -> None:
    from CoralBaySlicerCore.panels.activity import Activity
    from CoralBaySlicerCore.work.worker import Task

    top = coralbay.panel.ui
    activity = Activity(top, lambda: None)
    first, second = (Task(lambda *_args: None, title=title) for title in ("Long", "Short"))
    for task in (first, second):
        activity.follow(task, "")
    assert top.activityLabel.text == "Long...\nWaiting: Short"
    second.on_progress(0.5, "")
    assert top.activityLabel.text == "Short...\nWaiting: Long"
    assert top.progressBar.value == 50
    activity.cancel()
    assert second.token.cancelled and not first.token.cancelled
    second.on_failed(Cancelled(""))
    assert top.activityLabel.text == "Long..."
