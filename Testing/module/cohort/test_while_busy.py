"""A person goes on painting while a scan of a cohort is opened or accepted: nothing is lost without a word."""

from __future__ import annotations

import threading
from typing import Any

import host
import pytest

from CoralBayLib.cohort import State
from Testing.module.cohort.session import draw_truth, settle
from Testing.module.cohort.test_cohort_panel import filled, open_row, ready, states

pytestmark = pytest.mark.slow

__all__ = ["filled", "ready"]


def test_what_is_painted_while_another_scan_is_prepared_is_not_lost(
    filled: Any, coralbay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CoralBaySlicerCore.work.cohort import tasks

    open_row(filled, coralbay, "scan4")
    opened, released = tasks._opened, threading.Event()

    def slowly(*args: Any) -> Any:
        assert released.wait(60)
        return opened(*args)

    monkeypatch.setattr(tasks, "_opened", slowly)
    filled.panel.open_scan("scan2")
    host.process_events(0.05)
    draw_truth(coralbay)
    released.set()
    settle(coralbay)
    assert coralbay.panel.parameters.volume.GetName() == "scan4"
    assert "scan4 was changed while the other scan was prepared" in host.dialogs.texts("error")[-1]
    host.dialogs.answer(True)
    open_row(filled, coralbay, "scan2")
    assert coralbay.panel.parameters.volume.GetName() == "scan2"
    assert states(filled)["scan4"] is State.CORRECTED


def test_what_is_painted_while_a_scan_is_accepted_is_asked_about(
    filled: Any, coralbay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer
    from CoralBaySlicerCore.work.cohort import nodes, tasks

    open_row(filled, coralbay, "scan4")
    write, released = tasks._write, threading.Event()

    def slowly(*args: Any, **options: Any) -> Any:
        assert released.wait(60)
        return write(*args, **options)

    monkeypatch.setattr(tasks, "_write", slowly)
    filled.panel.write(accept=True)
    host.process_events(0.05)
    draw_truth(coralbay)
    released.set()
    settle(coralbay)
    assert states(filled)["scan4"] is State.ACCEPTED
    host.dialogs.answer(False)
    open_row(filled, coralbay, "scan2")
    assert "changed after it was accepted" in host.dialogs.texts()[-1]
    assert coralbay.panel.parameters.volume.GetName() == "scan4"
    # Accepted once more, there is nothing to ask about.
    filled.panel.write(accept=True)
    settle(coralbay)
    host.dialogs.clear()
    open_row(filled, coralbay, "scan2")
    assert coralbay.panel.parameters.volume.GetName() == "scan2" and host.dialogs.texts() == []
    assert nodes.scan_of(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]) == "scan2"
