"""Clusters of the regions of all scans: one cluster is one kind of anatomy, wherever it occurs.

The later components of whitened vectors, which have little variance before whitening, are damped: they are noise to a
clustering, although not to a search for the nearest vectors. A region belongs to the center with the largest cosine. This is
linear in the features up to the last step, so `similarity.feature_maps` can make a scan's labelmap of clusters at native
stride.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.deprecation import deprecated_attribute
from CoralBayLib.core.errors import QueryError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.similarity.feature_maps import FeatureProjection, cluster_map

from .basis import LibraryBasis, unit
from .tables import Tables

MAX_CLUSTERS = 255
"""Because their labelmap is uint8."""
_SAMPLES = 200_000
"""Number of random regions that the centers are fitted on; more made no visible difference."""
_DAMPING = 0.5
"""Component n is multiplied by n to the power of minus this; see DECISIONS.md."""
_EXAMPLES = 3
_EXAMPLES_PER_BATCH = 100
"""Regions of a cluster in one batch that are considered as examples."""


@dataclass(frozen=True)
class Example:
    """A region near the center of a cluster.

    Attributes:
        path: of its scan.
        ras: (R, A, S) mm.
        score: cosine with the center.
    """

    path: str
    ras: tuple[float, float, float]
    score: float


@dataclass(frozen=True)
class Cluster:
    """One kind of anatomy.

    Attributes:
        number: from 1, in descending size of the sample that was clustered.
        count: number of its regions.
        scans: number of scans that have such regions.
        position: mean position of its regions within the extent of each scan's regions, from 0 to 1 along R, A and S; 1
            is the right, anterior and superior end.
        examples: regions nearest to the center, each of another scan.
    """

    number: int
    count: int
    scans: int
    position: tuple[float, float, float]
    examples: tuple[Example, ...]


@dataclass(frozen=True, eq=False)
class Clustering:
    """Clusters of a library's regions.

    Attributes:
        encoder: the slug of the encoder's name.
        centers: (N, D) float32 of unit length, of damped vectors; row n is cluster n + 1.
        clusters: description of each cluster.
    """

    encoder: str
    centers: NDArray[np.float32]
    clusters: tuple[Cluster, ...]

    centres = deprecated_attribute("centres", "centers")
    of = deprecated_attribute("of", "predict")
    map_of = deprecated_attribute("map_of", "labelmap")

    def predict(self, vectors: NDArray) -> NDArray[np.int64]:
        """The number of the cluster, from 1, of each of (N, D) vectors in the library's basis."""
        return (damped(vectors) @ self.centers.T).argmax(axis=1) + 1

    def labelmap(self, basis: LibraryBasis, pyramid: FeaturePyramid, cancel: CancelToken | None = None) -> Volume:
        """The cluster of every voxel in a scan's body, as a uint8 labelmap on the working grid.

        Raises:
            EncoderError: the scan's features are not those of the library.
            Cancelled: `cancel` was called.
        """
        view, weights = basis.view(pyramid), torch.from_numpy(self.centers * _weights(self.centers.shape[1]))
        projection = FeatureProjection(weights @ basis.projection, weights @ basis.offset, view.signature)
        return cluster_map(view, projection, cancel)


def damped(vectors: NDArray) -> NDArray[np.float32]:
    """(N, D) whitened vectors with their later components damped, of unit length."""
    return unit(vectors.astype(np.float32) * _weights(vectors.shape[1]))


def _weights(components: int) -> NDArray[np.float32]:
    return np.arange(1, components + 1, dtype=np.float32) ** -_DAMPING


def cluster(
    tables: Tables, count: int, seed: int = 0, progress: Progress | None = None, cancel: CancelToken | None = None
) -> Clustering:
    """Cluster random regions with k-means, and describe the clusters; reads the table three times.

    Args:
        tables: of the encoder.
        count: number of clusters, from 2 to `MAX_CLUSTERS`.
        seed: the same seed and library give the same clusters.
        progress: called with the fraction done and a message.
        cancel: checked between batches.

    Raises:
        QueryError: the count is out of range.
        LibraryError: the table cannot be read.
        Cancelled: `cancel` was called.
    """
    from sklearn.cluster import MiniBatchKMeans

    report(progress, 0.0, "Reading")
    sample, boxes = _sample(tables, seed, cancel)
    if not 2 <= count <= min(MAX_CLUSTERS, len(sample)):
        raise QueryError(f"Expected 2 to {min(MAX_CLUSTERS, len(sample))} clusters, got {count}.")
    report(progress, 0.3, "Finding clusters")
    found = MiniBatchKMeans(count, batch_size=4096, n_init=3, random_state=seed).fit(sample).cluster_centers_
    raise_if_cancelled(cancel)
    centers = unit(found.astype(np.float32))
    sizes = np.bincount((sample @ centers.T).argmax(axis=1), minlength=count)
    centers = centers[np.argsort(-sizes, kind="stable")]
    report(progress, 0.5, "Assigning")
    return _describe(tables, Clustering(tables.encoder, centers, ()), boxes, cancel)


def assign(
    tables: Tables, clustering: Clustering, cancel: CancelToken | None = None
) -> Iterator[tuple[list[str], NDArray[np.float32], NDArray[np.int64]]]:
    """All regions, one batch at a time: IDs of scans, (N, 3) RAS mm, and numbers of clusters.

    Raises:
        LibraryError: the table cannot be read.
        Cancelled: `cancel` was called.
    """
    for scans, ras, vectors in tables.batches(cancel):
        yield scans, ras, clustering.predict(vectors)


def _sample(tables: Tables, seed: int, cancel: CancelToken | None) -> tuple[NDArray[np.float32], dict[str, NDArray]]:
    """Random damped vectors, and the (2, 3) smallest and largest coordinates of each scan's regions."""
    random, sample, boxes = np.random.default_rng(seed), [], dict[str, NDArray]()
    share = min(1.0, _SAMPLES / max(1, tables.regions.count()))
    for scans, ras, vectors in tables.batches(cancel):
        sample.append(damped(vectors[random.random(len(vectors)) < share]))
        names, scan_of_row = np.unique(scans, return_inverse=True)
        for number, name in enumerate(names):
            points = ras[scan_of_row == number]
            box = np.stack([points.min(axis=0), points.max(axis=0)])
            known = boxes.get(name)
            boxes[str(name)] = box if known is None else np.stack([np.minimum(known[0], box[0]), np.maximum(known[1], box[1])])
    return np.concatenate(sample) if sample else np.empty((0, 1), np.float32), boxes


def _describe(tables: Tables, clustering: Clustering, boxes: dict[str, NDArray], cancel: CancelToken | None) -> Clustering:
    """The clustering with a description of each cluster."""
    number_of = {name: number for number, name in enumerate(boxes)}
    count = len(clustering.centers)
    sizes, sums, occurs = np.zeros(count, int), np.zeros((count, 3)), np.zeros((len(boxes), count), bool)
    best: list[dict[str, tuple[float, tuple[float, ...]]]] = [{} for _ in range(count)]
    for scans, ras, vectors in tables.batches(cancel):
        scores = damped(vectors) @ clustering.centers.T
        chosen = scores.argmax(axis=1)
        known = np.array([scan in boxes for scan in scans])  # the others were added in the meantime
        box = np.array([boxes.get(scan, np.zeros((2, 3))) for scan in scans])
        relative = (ras - box[:, 0]) / np.maximum(box[:, 1] - box[:, 0], 1e-6)
        np.add.at(sums, chosen[known], relative[known])
        sizes += np.bincount(chosen[known], minlength=count)
        occurs[[number_of[scan] for scan in scans if scan in boxes], chosen[known]] = True
        for number in np.unique(chosen[known]):
            rows = np.flatnonzero((chosen == number) & known)
            for row in rows[np.argsort(-scores[rows, number])[:_EXAMPLES_PER_BATCH]]:
                _keep_best(best[number], scans[row], float(scores[row, number]), tuple(map(float, ras[row])))
    paths = tables.paths({scan for kept in best for scan in kept})
    clusters = []
    for n, kept in enumerate(best):
        by_score = sorted(kept.items(), key=lambda each: -each[1][0])
        examples = tuple(Example(paths.get(scan, ""), (r, a, s), score) for scan, (score, (r, a, s)) in by_score)
        r, a, s = (sums[n] / max(1, sizes[n])).tolist()
        clusters.append(Cluster(n + 1, int(sizes[n]), int(occurs[:, n].sum()), (r, a, s), examples))
    return Clustering(clustering.encoder, clustering.centers, tuple(clusters))


def _keep_best(kept: dict[str, tuple[float, tuple[float, ...]]], scan: str, score: float, ras: tuple[float, ...]) -> None:
    """Keep the best region of a scan, and only the scans with the best regions."""
    if scan in kept:
        kept[scan] = max(kept[scan], (score, ras))
    elif len(kept) < _EXAMPLES:
        kept[scan] = (score, ras)
    else:
        worst = min(kept, key=lambda each: kept[each][0])
        if score > kept[worst][0]:
            del kept[worst]
            kept[scan] = (score, ras)
