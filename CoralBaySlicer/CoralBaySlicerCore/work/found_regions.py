"""Regions that a search found in the scans of the scene, ranked over all of them."""

from __future__ import annotations

from dataclasses import dataclass

import slicer

from CoralBaySlicerCore.scene import volumes
from CoralBaySlicerCore.work.compute import similarity


@dataclass(frozen=True)
class FoundRegion:
    """A region that is similar to the query.

    Attributes:
        node_id, volume: node ID and name of the scan it lies in.
        rank: from 1, over all scans searched.
        ras: the peak, RAS mm of the world.
        score: similarity at the peak, at most 1.
        volume_ml: volume of the connected component around the peak, in milliliters.
        within: rank of the region in whose component the peak lies, if that is another region; else 0.
    """

    node_id: str
    volume: str
    rank: int
    ras: tuple[float, float, float]
    score: float
    volume_ml: float
    within: int = 0


def rank_regions(
    results: list[similarity.Similarity], nodes: dict[str, slicer.vtkMRMLScalarVolumeNode], count: int
) -> list[FoundRegion]:
    """The best regions over all scans."""
    peaks = []
    for each in results:
        world = volumes.to_world(nodes[each.node_id], each.peaks)
        for number, (score, ras, volume_ml) in enumerate(zip(each.scores, world, each.volumes_ml, strict=True)):
            peaks.append((float(score), each, number, ras, float(volume_ml)))
    peaks = sorted(peaks, key=lambda entry: -entry[0])[:count]
    # The highest peak of a component comes before its other peaks, so it has a rank when these are listed.
    ranks = {(each.node_id, number): rank for rank, (_s, each, number, _p, _v) in enumerate(peaks, start=1)}
    regions = []
    for rank, (score, each, number, ras, volume_ml) in enumerate(peaks, start=1):
        node, leader = nodes[each.node_id], int(each.leaders[number])
        within = 0 if leader == number else ranks[each.node_id, leader]
        point = (float(ras[0]), float(ras[1]), float(ras[2]))
        regions.append(FoundRegion(node.GetID(), node.GetName(), rank, point, score, volume_ml, within))
    return regions
