"""Timers, a worker thread and the event loop get on with one another."""

import queue
import threading
import time
from typing import Any

import host
import numpy as np
import pytest
from host.responsiveness import EventLoopMonitor


def test_a_single_shot_timer_fires_once(app: Any) -> None:
    import qt

    fired = []
    qt.QTimer.singleShot(10, lambda: fired.append(1))
    host.process_events(0.1)
    assert fired == [1]


def test_a_timer_fetches_a_worker_threads_results(app: Any) -> None:
    import qt
    import slicer

    results: queue.SimpleQueue = queue.SimpleQueue()
    taken: list[float] = []

    def work() -> None:
        for index in range(5):
            results.put(float(np.linalg.norm(np.random.default_rng(index).random((300, 300)))))
            time.sleep(0.02)

    def take() -> None:
        while not results.empty():
            taken.append(results.get())
            # MRML belongs to the main thread.
            assert threading.current_thread() is threading.main_thread()
            slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")

    timer = qt.QTimer()
    timer.setInterval(10)
    timer.connect("timeout()", take)
    timer.start()
    worker = threading.Thread(target=work, daemon=True)
    with EventLoopMonitor() as monitor:
        worker.start()
        host.wait_for(lambda: len(taken) == 5 and monitor.ticks > 5, timeout=10)
    timer.stop()
    assert monitor.ticks > 5
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTextNode") == 5


def test_the_monitor_sees_a_blocked_loop(app: Any) -> None:
    import qt

    qt.QTimer.singleShot(20, lambda: time.sleep(0.2))
    with EventLoopMonitor() as monitor:
        host.process_events(0.4)
    assert monitor.longest_s > 0.19


def test_torch_runs_in_a_worker_thread_beside_the_host(app: Any) -> None:
    torch = pytest.importorskip("torch")
    done: list[Any] = []

    def work() -> None:
        with torch.no_grad():
            for _ in range(4):
                done.append(torch.nn.Conv3d(1, 8, 3)(torch.rand(1, 1, 48, 48, 48)).shape)

    worker = threading.Thread(target=work, daemon=True)
    with EventLoopMonitor() as monitor:
        worker.start()
        host.wait_for(lambda: len(done) == 4)
    assert monitor.longest_s < 1.0


def test_an_exception_nobody_caught_is_kept(app: Any) -> None:
    import qt

    def fail() -> None:
        raise ValueError("in a slot")

    def fail_in_thread() -> None:
        raise ValueError("in a thread")

    qt.QTimer.singleShot(0, fail)
    worker = threading.Thread(target=fail_in_thread)
    worker.start()
    worker.join()
    host.process_events(0.05)
    assert ["in a thread" in text or "in a slot" in text for text in host.unhandled] == [True, True]
    host.unhandled.clear()


def test_a_worker_that_touches_widgets_or_mrml_is_caught(app: Any) -> None:
    import qt
    import slicer

    label = qt.QLabel()

    def touch_widget() -> None:
        label.text = "done"

    def touch_scene() -> None:
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")

    for work in (touch_widget, touch_scene):
        worker = threading.Thread(target=work, name="worker")
        worker.start()
        worker.join()
    assert label.text == ""
    assert "QLabel was touched from worker" in host.unhandled[0]
    assert "MRML belongs to the main thread" in host.unhandled[1]
    host.unhandled.clear()


def test_waiting_in_vain_raises(app: Any) -> None:
    with pytest.raises(TimeoutError):
        host.wait_for(lambda: False, timeout=0.05)
