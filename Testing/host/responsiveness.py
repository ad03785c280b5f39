"""How long the event loop was kept from running."""

import time
from types import TracebackType

from PySide6 import QtCore


class EventLoopMonitor:
    """Measures the longest gap between two ticks of a timer that is due all the time.

    Example::

        with EventLoopMonitor() as monitor:
            host.wait_for(lambda: done)
        assert monitor.longest_s < 0.1
    """

    def __init__(self, interval_ms: int = 5) -> None:
        self.longest_s = 0.0
        self.ticks = 0
        self._interval_ms = interval_ms
        self._last = 0.0

    def __enter__(self) -> "EventLoopMonitor":
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._last = time.perf_counter()
        self._timer.start(self._interval_ms)
        return self

    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest_s = max(self.longest_s, now - self._last)
        self._last = now
        self.ticks += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.stop()
        self._tick()
