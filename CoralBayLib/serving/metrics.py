"""Counters of a server, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (1, 2, 5, 10, 20, 60, 120, 300, 600, 1800)


class Metrics:
    """What a server counts; nothing of a scan."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.done = self._counter("done", "Scans that were embedded")
        self.failed = self._counter("failed", "Scans that could not be embedded")
        self.cancelled = self._counter("cancelled", "Computations that were cancelled")
        self.abandoned = self._counter("abandoned", "Jobs whose client vanished")
        self.found = self._counter("found", "Jobs whose features were in the cache")
        self.refused = self._counter("refused", "Jobs that found the queue full")
        self.lost = self._counter("lost", "Computations whose process ended")
        self.unauthorized = self._counter("unauthorized", "Requests without the right token")
        self.received = self._counter("received_bytes", "Bytes of voxels received")
        self.sent = self._counter("sent_bytes", "Bytes of features sent")
        self.seconds = Histogram(
            "coralbay_embedding_seconds", "Time to embed a scan", buckets=_SECONDS, registry=self._registry
        )
        self._jobs = Gauge("coralbay_jobs", "Jobs that are there now", ["state"], registry=self._registry)

    def text(self, counts: Mapping[str, int]) -> bytes:
        """All of them, with the number of jobs by state."""
        for state, count in counts.items():
            self._jobs.labels(state).set(count)
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"coralbay_{name}", text, registry=self._registry)
