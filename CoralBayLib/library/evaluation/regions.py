"""Retrieval of regions: precision@k by structure, within a scan and across patients, before and after re-ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
        possible: for the same kinds, the largest precision@k that the structures have room for, as results in one scan lie
            `MIN_DISTANCE_MM` apart.
    """

    queries: dict[str, int]
    metrics: dict[str, dict[str, dict[int, Estimate]]]
    chance: dict[str, dict[str, float]]
    possible: dict[str, dict[str, dict[int, float]]]


class _Answer(NamedTuple):
    """The results of one query.

    Attributes:
        kind: of `KINDS`.
        structure, patient: of the query.
        right: which of the results, best first, lie in the structure.
        share: of the structure among the regions that are searched.
        room: how many right results are possible.
    """

    kind: str
    structure: str
    patient: str
    right: NDArray[np.bool_]
    share: float
    room: int


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
    found: list[_Answer] = []
    rooms = {
        (number, structure): _room(scan.points_ras[scan.structures == structure])
        for number, scan in enumerate(scans)
        for structure in scan.known
    }
    for number, scan in enumerate(scans):
        raise_if_cancelled(cancel)
        report(progress, number / len(scans), f"Scan {number + 1} of {len(scans)}")
        for structure in sorted({str(name) for name in scan.structures if name}):
            rows = np.flatnonzero(scan.structures == structure)
            searched = [n for n, each in enumerate(scans) if each.patient != scan.patient and structure in each.known]
            room = sum(rooms[n, structure] for n in searched)
            for row in sorted(random.permutation(rows)[:queries].tolist()):
                found += _within(scan, row, structure)
                if room:
                    found += _across(scan, row, structure, [scans[n] for n in searched], room)
    return _scores(found)


def _within(scan: LabeledRegions, row: int, structure: str) -> list[_Answer]:
    """The query in its own scan, apart from its neighborhood; nothing where there is no further region of the structure."""
    apart = np.linalg.norm(scan.points_ras - scan.points_ras[row], axis=1) >= MIN_DISTANCE_MM
    right = scan.structures == structure
    if not (right & apart).any():
        return []
    scores = np.where(apart, scan.vectors @ scan.vectors[row], -np.inf)
    hits = _apart(scores, np.zeros(len(scores), int), scan.points_ras, max(PRECISION_AT))
    room = _room(scan.points_ras[right & apart])
    return [_Answer("within", structure, scan.patient, right[hits], float(right[apart].mean()), room)]


def _across(
    scan: LabeledRegions, row: int, structure: str, others: Sequence[LabeledRegions], room: int
) -> tuple[_Answer, _Answer]:
    """The query in the scans of other patients, before and after re-ranking."""
    scores = np.concatenate([each.vectors @ scan.vectors[row] for each in others])
    owner = np.repeat(np.arange(len(others)), [len(each.points_ras) for each in others])
    points = np.concatenate([each.points_ras for each in others])
    right = np.concatenate([each.structures for each in others]) == structure
    hits = _apart(scores, owner, points, CANDIDATES)
    first = np.cumsum([0, *(len(each.points_ras) for each in others)])
    candidates = [(others[owner[hit]], int(hit - first[owner[hit]])) for hit in hits]
    order = rerank(scan, row, candidates)
    before, after = hits[: max(PRECISION_AT)], hits[order[: max(PRECISION_AT)]]
    answer = _Answer("across", structure, scan.patient, right[before], float(right.mean()), room)
    return answer, answer._replace(kind="across, re-ranked", right=right[after])


def _room(points: NDArray) -> int:
    """How many of some points can be results, up to the largest k; found by taking one after the other."""
    return len(_apart(np.zeros(len(points)), np.zeros(len(points), int), points, max(PRECISION_AT)))


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


def _scores(found: Sequence[_Answer]) -> RegionScores:
    structures = sorted({each.structure for each in found if each.kind == "across"})
    if not structures:
        raise LibraryError("No labeled structure has regions in the scans of two patients, so nothing can be measured.")
    metrics: dict[str, dict[str, dict[int, Estimate]]] = {}
    chance: dict[str, dict[str, float]] = {}
    possible: dict[str, dict[str, dict[int, float]]] = {}
    for kind in KINDS:
        rows = [each for each in found if each.kind == kind and each.structure in structures]
        if not rows:
            continue
        by_structure = {name: [each for each in rows if each.structure == name] for name in structures}
        by_structure = {name: answers for name, answers in by_structure.items() if answers}
        metrics[kind] = {"mean": _precision(rows), **{name: _precision(answers) for name, answers in by_structure.items()}}
        if "re-ranked" not in kind:
            shares = {name: float(np.mean([each.share for each in answers])) for name, answers in by_structure.items()}
            chance[kind] = {**shares, "mean": float(np.mean(list(shares.values())))}
            most = {name: {k: _possible(answers, k) for k in PRECISION_AT} for name, answers in by_structure.items()}
            mean = {k: float(np.mean([values[k] for values in most.values()])) for k in PRECISION_AT}
            possible[kind] = {**most, "mean": mean}
    queries = {name: sum(each.kind == "across" and each.structure == name for each in found) for name in structures}
    return RegionScores(queries, metrics, chance, possible)


def _precision(answers: Sequence[_Answer]) -> dict[int, Estimate]:
    """Precision@k, in which structures count the same."""
    patients, names = [each.patient for each in answers], [each.structure for each in answers]
    return {
        k: mean_over_patients(np.array([each.right[:k].sum() / k for each in answers]), patients, names) for k in PRECISION_AT
    }


def _possible(answers: Sequence[_Answer], k: int) -> float:
    """The largest possible precision@k. What was found can be more than taking one point after the other leaves room for."""
    return float(np.mean([min(max(each.room, int(each.right.sum())), k) / k for each in answers]))
