"""Nearest neighbors of scan embeddings: a reference that needs no training."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.scan_probes.labels import Labels
from CoralBayLib.scan_probes.metrics import leading_score
from CoralBayLib.scan_probes.model import classes_of
from CoralBayLib.scan_probes.splits import grouped_folds

NEIGHBORS = (1, 3, 5, 10, 20)
"""Numbers of neighbors to choose from."""


class NearestProbe:
    """The mean over the scans with the largest cosine similarity, on standardized embeddings.

    The neighbors count together with one more scan that has the mean of all, so that no probability is 0 or 1, and classes
    with few scans are not lost.

    Args:
        neighbors: their number; None chooses from `NEIGHBORS` by cross-validation grouped by patient.

    Attributes:
        task_, classes_: as in `ScanProbe`.
        neighbors_: the number in use.
    """

    def __init__(self, neighbors: int | None = None) -> None:
        self.neighbors = neighbors

    def fit(self, vectors: ArrayLike, labels: Labels, seed: int = 0) -> NearestProbe:
        """Keep the embeddings of some scans.

        Args:
            vectors: (N, D) embeddings.
            labels: (N,) the truth.
            seed: of the inner splits.
        """
        x = np.asarray(vectors, np.float64)
        self.task_, self.classes_, self._labels = labels.task, classes_of(labels), labels
        mean, spread = x.mean(axis=0), x.std(axis=0)
        self._mean, self._spread = mean, np.where(spread > 1e-6 * max(spread.max(), 1e-12), spread, np.inf)
        self._known = self._directions(x)
        self.neighbors_ = self.neighbors or self._choose(x, labels, seed)
        return self

    def predict(self, vectors: ArrayLike) -> NDArray[np.float64]:
        """Predict for some scans; values as `ScanProbe.predict` returns them.

        Survival: the log of events over time of the neighbors, which is a constant hazard.
        """
        similarity = self._directions(np.asarray(vectors, np.float64)) @ self._known.T
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : self.neighbors_]
        values, count = self._labels.values, nearest.shape[1]
        if self.task_ == "classification":
            truth = np.stack([values == name for name in self.classes_], axis=1).astype(float)
            return (truth[nearest].sum(axis=1) + truth.mean(axis=0)) / (count + 1)
        if self.task_ == "regression":
            return np.asarray((values[nearest].sum(axis=1) + values.mean()) / (count + 1))
        events, times = values.astype(float), self._labels.times
        return np.log((events[nearest].sum(axis=1) + events.mean() + 1e-9) / (times[nearest].sum(axis=1) + times.mean()))

    def _directions(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        standard = (x - self._mean) / self._spread
        return standard / np.maximum(np.linalg.norm(standard, axis=1, keepdims=True), 1e-12)

    def _choose(self, x: NDArray[np.float64], labels: Labels, seed: int) -> int:
        folds = grouped_folds(labels, most=4, seed=seed)
        smallest = min((len(train) for train, _ in folds), default=len(labels))
        numbers = [number for number in NEIGHBORS if number < smallest] or [1]
        scores = np.zeros(len(numbers))
        for train, test in folds:
            for n, number in enumerate(numbers):
                probe = NearestProbe(number).fit(x[train], labels.take(train))
                scores[n] += leading_score(probe.predict(x[test]), probe.classes_, labels.take(test))
        return numbers[int(scores.argmax())]
