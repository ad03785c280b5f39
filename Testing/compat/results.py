"""What the fixtures are asked: the same questions when they were made and in each test, as arrays by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import CoralBayLib as cb

from . import homes

DATA = Path(__file__).parent / "data"
CENTRE = np.array([12.0, -30.0, 45.0])
"""RAS mm of the middle of each phantom."""
BRIGHT = {"a": (11.0, 0.0, 0.0), "b": (-10.0, 4.0, 0.0), "c": (0.0, 9.0, 6.0), "small": (8.0, 0.0, 0.0)}
"""Where the bright spot of each phantom lies, from its middle, in mm; the dark one lies at the other end."""
NAMES = {1: "Bright spot", 3: "Dünkler Fleck"}
_EVERY = 5

Arrays = dict[str, NDArray]


def ct(name: str) -> cb.Volume:
    """One of the phantoms that the fixtures were made from."""
    return cb.read_volume(DATA / "ct" / f"{name}.nrrd")


def no_prompts() -> cb.Prompts:
    """Nothing said yet."""
    return cb.Prompts(np.empty((0, 3)), np.empty(0, np.int64))


def of_pyramid(pyramid: cb.FeaturePyramid) -> Arrays:
    """All that is kept of a scan."""
    found = {f"level.{level.name}": level.features.numpy() for level in pyramid.levels}
    found |= {f"grid.{level.name}": level.grid.ijk_to_ras for level in pyramid.levels}
    found |= {"image": pyramid.image.array, "body": pyramid.body.array, "working": pyramid.grid.ijk_to_ras}
    for title, basis in (("basis", pyramid.basis), ("similarity", pyramid.for_similarity.basis)):
        found |= {f"{title}.{name}": tensor[:100].numpy() for name, tensor in basis.tensors().items()}
    assert pyramid.scan_embedding is not None
    return found | {"scan_embedding": pyramid.scan_embedding.numpy(), "source": pyramid.source_grid.ijk_to_ras}


def of_probe(probe: cb.Probe, pyramid: cb.FeaturePyramid) -> Arrays:
    """What a few-shot probe says of a scan, before any labels are made of it."""
    body = np.flatnonzero(pyramid.body.array)[::_EVERY]
    flat = {"logits": probe.logits(pyramid), "appearance": probe.appearance_logits(pyramid)}
    return {name: values.flatten(1)[:, body].numpy() for name, values in flat.items()}


def of_memory(probe: cb.Probe) -> Arrays:
    """A summary of what a probe keeps to be adapted to other scans."""
    memory = probe.memory
    assert memory is not None
    found = {name: tensor.double().numpy() for name, tensor in memory.tensors().items()}
    return {name: np.append(np.array(value.shape, float), np.abs(value).mean()) for name, value in found.items()}


def of_look(colours: Any, clusters: Any, pyramid: cb.FeaturePyramid) -> Arrays:
    """Colours and clusters of the body's places."""
    body = pyramid.body.array > 0
    return {
        "colours": homes.color_map(pyramid, colours)[body][::_EVERY],
        "clusters": homes.cluster_map(pyramid, clusters).array[body],
    }


def of_scan_probe(probe: Any, vectors: NDArray, pyramid: cb.FeaturePyramid) -> Arrays:
    """What a probe on whole scans says of some vectors, and what speaks for it in a scan."""
    speaks = homes.saliency_map(pyramid, probe).array[pyramid.body.array > 0][::_EVERY]
    return {"predicted": probe.predict(vectors), "decided": probe.decision_function(vectors), "speaks": speaks}


def of_features(pyramid: cb.FeaturePyramid) -> Arrays:
    """Features at some places of the body."""
    kji = np.argwhere(pyramid.body.array)[:: 4 * _EVERY]
    points = pyramid.grid.to_ras(kji[:, ::-1])
    return {"points": points, "features": pyramid.sample(points).numpy(), "scan_embedding": pyramid.scan_embedding.numpy()}


def about_probe(probe: cb.Probe) -> dict[str, Any]:
    """What a few-shot probe tells of itself."""
    return {
        "labels": probe.labels_,
        "names": {str(label): called for label, called in probe.names_.items()},
        "signature": probe.signature_,
        "scan": probe.scan_key_,
        "scattered": sorted(probe.fragmented_),
        "parameters": [probe.C, probe.weak_negatives, probe.max_per_label],
        "points": probe.prompts_.points_ras.tolist(),
        "told": probe.prompts_.labels.tolist(),
    }


def about_scan_probe(probe: Any) -> dict[str, Any]:
    """What a probe on whole scans tells of itself."""
    return {
        "task": homes.SAVED_TASKS[probe.task_],
        "target": probe.target,
        "classes": probe.classes_,
        "strength": probe.strength_,
        "signature": probe.signature,
        "pooled": [list(level) for level in probe.pooled],
    }


def of_library(library: cb.Library, pyramid: cb.FeaturePyramid) -> dict[str, Any]:
    """Records of the scans, and what is found like the bright spot of the phantom c, and like it as a whole."""
    query = cb.Query.point(CENTRE + BRIGHT["c"])
    return {
        "records": [record.to_row() for record in library.scans()],
        "regions": [hit.as_dict() for hit in library.search_regions(pyramid, query, k=6, min_distance_mm=12)],
        "others": [hit.as_dict() for hit in library.search_regions(pyramid, query, k=2, exclude_query_scan=True, exact=True)],
        "scans": [hit.as_dict() for hit in library.search_scans(pyramid)],
        "findings": [issue.kind for issue in library.verify()],
        "names": [stats.encoder for stats in library.stats()],
    }


def about_segmentation(node: Any, volume: Any) -> dict[str, Any]:
    """Names, colours and voxels of a segmentation node's segments, by ID; in the application only."""
    import slicer

    inner = node.GetSegmentation()
    found = {}
    for each in inner.GetSegmentIDs():
        segment = inner.GetSegment(each)
        voxels = np.flatnonzero(slicer.util.arrayFromSegmentBinaryLabelmap(node, each, volume))
        found[each] = [segment.GetName(), list(segment.GetColor()), len(voxels), int(voxels.sum())]
    return found


def under(arrays: dict[str, NDArray], title: str) -> Iterator[tuple[str, NDArray]]:
    """Those of a title, by the rest of their names."""
    return ((name.removeprefix(f"{title}/"), values) for name, values in arrays.items() if name.startswith(f"{title}/"))
