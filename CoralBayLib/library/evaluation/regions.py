"""Retrieval of regions: precision@k by structure, within a scan and across patients, before and after re-ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.errors import LibraryError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.scan_probes.metrics import Estimate

from .labeled_regions import LabeledRegions
from .reranking import CANDIDATES, rerank
from .scores import mean_over_patients

PRECISION_AT = (1, 5, 10)
MIN_DISTANCE_MM = 20.0
"""Least distance between two results in one scan, and from the query in its own."""
QUERIES = 3
"""Most queries of a structure in a scan."""
KINDS = ("within", "across", "across, re-ranked")


@dataclass(frozen=True, eq=False)
class RegionScores:
    """How well regions of a structure find others of the same structure.

    Attributes:
        queries: number of queries of each structure that have something to find across patients.
        metrics: for each of `KINDS`, for each structure and for "mean", precision@k by k.
        chance: for the kinds "within" and "across", the share of the structure among the regions that are searched.
    """

    queries: dict[str, int]
    metrics: dict[str, dict[str, dict[int, Estimate]]]
    chance: dict[str, dict[str, float]]


def evaluate_regions(
    scans: Sequence[LabeledRegions],
    queries: int = QUERIES,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> RegionScores:
    """Use regions in labeled structures as queries.

    A scan in which a structure was not looked for is not searched for it, because it may be there without a label.

    Args:
        scans: with labels.
        queries: most queries of a structure in a scan, drawn at random.
        seed: of the draw.
        progress: called with the fraction done and a message.
        cancel: checked between scans.

    Raises:
        LibraryError: no structure has regions in scans of two patients.
        Cancelled: `cancel` was called.
    """
    random = np.random.default_rng(seed)
    found: list[tuple[str, str, str, NDArray]] = []
    shares: list[tuple[str, str, float]] = []
    for number, scan in enumerate(scans):
        raise_if_cancelled(cancel)
        report(progress, number / len(scans), f"Scan {number + 1} of {len(scans)}")
        for structure in sorted({str(name) for name in scan.structures if name}):
            rows = np.flatnonzero(scan.structures == structure)
            others = [each for each in scans if each.patient != scan.patient and structure in each.known]
            for row in sorted(random.permutation(rows)[:queries].tolist()):
                _within(scan, row, structure, found, shares)
                if any((each.structures == structure).any() for each in others):
                    _across(scan, row, structure, others, found, shares)
    return _scores(found, shares)


def _within(scan: LabeledRegions, row: int, structure: str, found: list, shares: list) -> None:
    """The query in its own scan, apart from its neighborhood; nothing where there is no further region of the structure."""
    apart = np.linalg.norm(scan.points_ras - scan.points_ras[row], axis=1) >= MIN_DISTANCE_MM
    right = scan.structures == structure
    if not (right & apart).any():
        return
    scores = np.where(apart, scan.vectors @ scan.vectors[row], -np.inf)
    hits = _apart(scores, np.zeros(len(scores), int), scan.points_ras, max(PRECISION_AT))
    found.append(("within", structure, scan.patient, right[hits]))
    shares.append(("within", structure, float(right[apart].mean())))


def _across(
    scan: LabeledRegions, row: int, structure: str, others: Sequence[LabeledRegions], found: list, shares: list
) -> None:
    """The query in the scans of other patients, before and after re-ranking."""
    scores = np.concatenate([each.vectors @ scan.vectors[row] for each in others])
    owner = np.repeat(np.arange(len(others)), [len(each.points_ras) for each in others])
    points = np.concatenate([each.points_ras for each in others])
    right = np.concatenate([each.structures for each in others]) == structure
    hits = _apart(scores, owner, points, CANDIDATES)
    found.append(("across", structure, scan.patient, right[hits[: max(PRECISION_AT)]]))
    shares.append(("across", structure, float(right.mean())))
    first = np.cumsum([0, *(len(each.points_ras) for each in others)])
    candidates = [(others[owner[hit]], int(hit - first[owner[hit]])) for hit in hits]
    order = rerank(scan, row, candidates)
    found.append(("across, re-ranked", structure, scan.patient, right[hits[order[: max(PRECISION_AT)]]]))


def _apart(scores: NDArray, owner: NDArray, points: NDArray, count: int) -> NDArray[np.int64]:
    """The best regions, best first, with the least distance between those of one scan."""
    kept: list[int] = []
    for hit in np.argsort(-scores, kind="stable"):
        if not np.isfinite(scores[hit]) or len(kept) == count:
            break
        near = [other for other in kept if owner[other] == owner[hit]]
        if not near or np.linalg.norm(points[near] - points[hit], axis=1).min() >= MIN_DISTANCE_MM:
            kept.append(int(hit))
    return np.array(kept, int)


def _scores(found: list[tuple[str, str, str, NDArray]], shares: list[tuple[str, str, float]]) -> RegionScores:
    if not any(kind == "across" for kind, *_ in found):
        raise LibraryError("No labeled structure has regions in the scans of two patients, so nothing can be measured.")
    structures = sorted({structure for kind, structure, *_ in found if kind == "across"})
    metrics: dict[str, dict[str, dict[int, Estimate]]] = {}
    for kind in KINDS:
        rows = [each for each in found if each[0] == kind and each[1] in structures]
        if not rows:
            continue
        precision = {k: np.array([right[:k].sum() / k for *_, right in rows]) for k in PRECISION_AT}
        names, patients = [each[1] for each in rows], [each[2] for each in rows]
        metrics[kind] = {"mean": {k: mean_over_patients(values, patients, names) for k, values in precision.items()}}
        for structure in structures:
            chosen = np.array([name == structure for name in names])
            if chosen.any():
                whose = [patient for patient, is_chosen in zip(patients, chosen, strict=True) if is_chosen]
                metrics[kind][structure] = {k: mean_over_patients(values[chosen], whose) for k, values in precision.items()}
    chance: dict[str, dict[str, float]] = {}
    for kind in ("within", "across"):
        by_structure = {
            structure: [share for of, name, share in shares if (of, name) == (kind, structure)] for structure in structures
        }
        chance[kind] = {structure: float(np.mean(values)) for structure, values in by_structure.items() if values}
        if chance[kind]:
            chance[kind]["mean"] = float(np.mean(list(chance[kind].values())))
    queries = {structure: sum(each[:2] == ("across", structure) for each in found) for structure in structures}
    return RegionScores(queries, metrics, chance)
