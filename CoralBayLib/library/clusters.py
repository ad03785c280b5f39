"""Kinds of anatomy: the regions of all scans in clusters, so that one cluster is like places in every scan.

Of whitened vectors the later components, which vary little before whitening, are weakened again: what they hold is noise to
a clustering that has many vectors in view, though not to a search for the nearest. The nearest centre is the one with the
largest cosine. That is linear in the features up to the last step: a scan's labelmap of clusters is made at native stride
by `inside`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.errors import QueryError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.similarity.feature_maps import FeatureProjection, cluster_map

from .basis import LibraryBasis, unit
from .storage.lance import readable
from .tables import Tables

MOST = 255
"""Clusters, since a labelmap of them has a byte a voxel."""
_FIT_ON = 200_000
"""Regions that centres are fitted on, drawn at random; more changed nothing that could be seen."""
_FALL = 0.5
"""Component n counts n to the power of minus this. With `Testing/benchmarks/library_scans.py` and coralbay-mini, 32
clusters then had 0.429 of adjusted mutual information with labels, against 0.367 without."""
_EXAMPLES = 3


@dataclass(frozen=True)
class Example:
    """A region near the centre of a cluster.

    Attributes:
        path: the scan's.
        ras: (R, A, S) mm.
        score: cosine with the centre.
    """

    path: str
    ras: tuple[float, float, float]
    score: float


@dataclass(frozen=True)
class Cluster:
    """One kind of anatomy.

    Attributes:
        number: from 1, the largest first as far as the drawn regions tell.
        count: its regions.
        scans: how many scans have such.
        position: mean of the places in what each scan shows, from 0 to 1 along R, A and S: 1 is the right, anterior and
            superior end of its regions.
        examples: regions nearest to the centre, each of another scan.
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
        encoder: whose regions.
        centres: (N, D) float32 of unit length, of `weakened` vectors; row n is cluster n + 1.
        clusters: what is in each.
    """

    encoder: str
    centres: NDArray[np.float32]
    clusters: tuple[Cluster, ...]

    def of(self, vectors: NDArray) -> NDArray[np.int64]:
        """The clusters' numbers, from 1, of (N, D) vectors in the library's basis."""
        return (weakened(vectors) @ self.centres.T).argmax(axis=1) + 1

    def map_of(self, basis: LibraryBasis, pyramid: FeaturePyramid, cancel: CancelToken | None = None) -> Volume:
        """The cluster of every place in a scan's body, as a uint8 labelmap on its working grid.

        Raises:
            EncoderError: the scan has other features than the library.
            Cancelled: `cancel` was called.
        """
        view, rows = basis.view(pyramid), torch.from_numpy(self.centres * _weights(self.centres.shape[1]))
        look = FeatureProjection(rows @ basis.projection, rows @ basis.offset, view.signature)
        return cluster_map(view, look, cancel)


def weakened(vectors: NDArray) -> NDArray[np.float32]:
    """(N, D) whitened vectors as they are clustered, of unit length."""
    return unit(vectors.astype(np.float32) * _weights(vectors.shape[1]))


def _weights(components: int) -> NDArray[np.float32]:
    return np.arange(1, components + 1, dtype=np.float32) ** -_FALL


def cluster(
    tables: Tables, count: int, seed: int = 0, progress: Progress | None = None, cancel: CancelToken | None = None
) -> Clustering:
    """Find clusters with k-means on regions drawn at random, and tell what is in each; reads the table three times.

    Args:
        tables: of the encoder.
        count: how many, from 2 to `MOST`.
        seed: the same seed and library give the same clusters.
        progress: told how far it is.
        cancel: checked between parts.

    Raises:
        QueryError: the count is out of range.
        LibraryError: the table cannot be read.
        Cancelled: `cancel` was called.
    """
    from sklearn.cluster import MiniBatchKMeans

    report(progress, 0.0, "Reading")
    drawn, boxes = _drawn(tables, seed, cancel)
    if not 2 <= count <= min(MOST, len(drawn)):
        raise QueryError(f"Expected 2 to {min(MOST, len(drawn))} clusters, got {count}.")
    report(progress, 0.3, "Finding clusters")
    found = MiniBatchKMeans(count, batch_size=4096, n_init=3, random_state=seed).fit(drawn).cluster_centers_
    raise_if_cancelled(cancel)
    centres = unit(found.astype(np.float32))
    sizes = np.bincount((drawn @ centres.T).argmax(axis=1), minlength=count)
    centres = centres[np.argsort(-sizes, kind="stable")]
    report(progress, 0.5, "Assigning")
    return _told(tables, Clustering(tables.encoder, centres, ()), boxes, cancel)


def assigned(
    tables: Tables, clustering: Clustering, cancel: CancelToken | None = None
) -> Iterator[tuple[list[str], NDArray[np.float32], NDArray[np.int64]]]:
    """Parts of the table of regions: names of scans, (N, 3) RAS mm, and numbers of clusters.

    Raises:
        LibraryError: the table cannot be read.
        Cancelled: `cancel` was called.
    """
    for scans, ras, vectors in tables.parts(cancel):
        yield scans, ras, clustering.of(vectors)


def _drawn(tables: Tables, seed: int, cancel: CancelToken | None) -> tuple[NDArray[np.float32], dict[str, NDArray]]:
    """Weakened vectors drawn at random, and the least and largest coordinates, (2, 3), of each scan's regions."""
    random, drawn, boxes = np.random.default_rng(seed), [], dict[str, NDArray]()
    share = min(1.0, _FIT_ON / max(1, tables.regions.count_rows()))
    for scans, ras, vectors in tables.parts(cancel):
        drawn.append(weakened(vectors[random.random(len(vectors)) < share]))
        names, place = np.unique(scans, return_inverse=True)
        for number, name in enumerate(names):
            mine = ras[place == number]
            box = np.stack([mine.min(axis=0), mine.max(axis=0)])
            known = boxes.get(name)
            boxes[str(name)] = box if known is None else np.stack([np.minimum(known[0], box[0]), np.maximum(known[1], box[1])])
    return np.concatenate(drawn) if drawn else np.empty((0, 1), np.float32), boxes


def _told(tables: Tables, clustering: Clustering, boxes: dict[str, NDArray], cancel: CancelToken | None) -> Clustering:
    """The same with what is in each cluster."""
    number_of = {name: number for number, name in enumerate(boxes)}
    count = len(clustering.centres)
    sizes, sums, has = np.zeros(count, int), np.zeros((count, 3)), np.zeros((len(boxes), count), bool)
    best: list[dict[str, tuple[float, tuple[float, ...]]]] = [{} for _ in range(count)]
    for scans, ras, vectors in tables.parts(cancel):
        scores = weakened(vectors) @ clustering.centres.T
        chosen = scores.argmax(axis=1)
        there = np.array([scan in boxes for scan in scans])  # the others have been added since
        box = np.array([boxes.get(scan, np.zeros((2, 3))) for scan in scans])
        places = (ras - box[:, 0]) / np.maximum(box[:, 1] - box[:, 0], 1e-6)
        np.add.at(sums, chosen[there], places[there])
        sizes += np.bincount(chosen[there], minlength=count)
        has[[number_of[scan] for scan in scans if scan in boxes], chosen[there]] = True
        for number in np.unique(chosen[there]):
            mine = np.flatnonzero((chosen == number) & there)
            for row in mine[np.argsort(-scores[mine, number])[:100]]:
                _keep(best[number], scans[row], float(scores[row, number]), tuple(map(float, ras[row])))
    with readable("scans"):
        paths = tables.paths({scan for kept in best for scan in kept})
    told = []
    for n, kept in enumerate(best):
        by_score = sorted(kept.items(), key=lambda each: -each[1][0])
        examples = tuple(Example(paths.get(scan, ""), (r, a, s), score) for scan, (score, (r, a, s)) in by_score)
        r, a, s = (sums[n] / max(1, sizes[n])).tolist()
        told.append(Cluster(n + 1, int(sizes[n]), int(has[:, n].sum()), (r, a, s), examples))
    return Clustering(clustering.encoder, clustering.centres, tuple(told))


def _keep(kept: dict[str, tuple[float, tuple[float, ...]]], scan: str, score: float, ras: tuple[float, ...]) -> None:
    """The best of each scan, of the few best scans."""
    if scan in kept:
        kept[scan] = max(kept[scan], (score, ras))
    elif len(kept) < _EXAMPLES:
        kept[scan] = (score, ras)
    else:
        worst = min(kept, key=lambda each: kept[each][0])
        if score > kept[worst][0]:
            del kept[worst]
            kept[scan] = (score, ras)
