"""Adapts a probe to another patient: it makes a few prompts automatically, which the user's prompts extend and overrule.

The weights of a probe do not carry over to another scan: another scanner, contrast phase or body shifts all features, so
that nothing or everything exceeds the threshold (see the benchmark on transfer). What does carry over is which of its
structures a point most likely belongs to, given its position in the body. So a probe keeps samples of the features and
labels of its own scan (`memory`). In another scan they give confident locations of each structure (`localization`). A few such
points then serve as prompts, and everything proceeds as in the first scan: with the new scan's own basis, geodesic
distances from prompts, and the user's clicks.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from CoralBayLib.core.deprecation import deprecated_function
from CoralBayLib.features.pyramid import FeaturePyramid

from .clicks.answers import clicked_structures
from .evidence import evidence_of
from .localization import localize
from .probe import Probe
from .prompts import BACKGROUND, Prompts
from .suggested import SuggestedProbe, suggested_prompts

_OVERRULED_MM = 20.0
"""A prompt of another label by the user overrules those that the probe made within this distance."""
_OVERRULED_BY_IMPLIED_MM = 6.0
"""The same distance for points that the user did not set, but that a box or a mask stands for."""
_ABSENT = -40.0
"""Log-odds everywhere of a structure that was not found."""


def adapt(
    probe: Probe,
    pyramid: FeaturePyramid,
    corrections: Prompts | None = None,
    implied: Prompts | None = None,
    background_ras: NDArray[np.float64] | None = None,
) -> Probe:
    """The probe to use on a scan: the given one on its own scan, else one that is adapted to this scan.

    Args:
        probe: fitted.
        pyramid: of any scan with the same features.
        corrections: prompts on that scan; they are used on another scan than the probe's only.
        implied: points that count as prompts there, but of which each speaks for its own surroundings only; with the labels of
            the corrections.
        background_ras: as in `Probe.fit`.

    Returns:
        On another scan a new probe, fitted there; its `prompts_` are what it was fitted on, and its structures have the
        labels of the corrections of the same name. It gives very low log-odds everywhere to a structure that was not
        found. The given probe if it kept no samples to be adapted with (a file of an earlier version).

    Raises:
        ProbeError: the scan has other features.
        PromptError: a correction lies outside the scan.
    """
    if not probe.adapts_to(pyramid):
        return probe
    probe.require_features_of(pyramid)
    if probe.patients_ is not None:
        return _suggested(probe, pyramid, corrections, implied, background_ras)
    memory = probe.memory
    if memory is None or BACKGROUND not in memory.labels:
        return probe
    given = corrections if corrections is not None else Prompts.none()
    if pyramid.key not in memory.localized:
        memory.localized.clear()
        memory.localized[pyramid.key] = localize(memory, pyramid)
    suggested = memory.localized[pyramid.key]
    prompts = _merged(suggested, probe.names_, given, implied)
    return _fitted(type(probe)(**probe.parameters), pyramid, prompts, background_ras)


def _suggested(
    probe: Probe,
    pyramid: FeaturePyramid,
    corrections: Prompts | None,
    implied: Prompts | None,
    background_ras: NDArray[np.float64] | None,
) -> Probe:
    """A probe of several patients, as `adapt` gives it."""
    assert probe.patients_ is not None
    found, given = probe.patients_.suggest(pyramid), corrections if corrections is not None else Prompts.none()
    labels = {name: label for label, name in probe.names_.items()}
    started = SuggestedProbe(**probe.parameters)
    known = {label for label in given.structures if given.name(label) in labels}
    stroked = frozenset(given.structures) - (known & set(clicked_structures(given, pyramid, known)))
    if stroked or implied is not None:
        body = pyramid.body.nearest_values(found.grid.centers()).reshape(found.grid.shape) > 0
        prompts = _merged(suggested_prompts(found, body, labels), probe.names_, given, implied)
    else:
        # Nothing needs a fit: clicks correct the suggestion itself.
        prompts = given.merged(Prompts(np.empty((0, 3)), np.empty(0, np.int64), probe.names_))
        prompts = Prompts(prompts.points_ras, np.zeros(len(prompts), np.int64), prompts.names)
    fitted = _fitted(started, pyramid, prompts, background_ras)
    assert isinstance(fitted, SuggestedProbe)
    fitted.stroked_ = stroked
    fitted.take(found, pyramid)
    return fitted


def _merged(suggested: Prompts, names: dict[int, str], given: Prompts, implied: Prompts | None) -> Prompts:
    """The user's prompts, what they imply, and those that a probe made as far as these do not overrule them."""
    # The user's prompts come first in the merge, so that they determine labels and names.
    merged = given.merged(Prompts(suggested.points_ras, suggested.labels, names))
    by_user, by_probe = merged.labels[: len(given)], merged.labels[len(given) :]
    keep = _not_overruled(suggested.points_ras, by_probe, given.points_ras, by_user, _OVERRULED_MM)
    points, labels = merged.points_ras[keep], merged.labels[keep]
    if implied is not None:
        kept = _not_overruled(points, labels, implied.points_ras, implied.labels, _OVERRULED_BY_IMPLIED_MM)[len(implied) :]
        kept[: len(given)] = True
        points = np.concatenate([points[kept], implied.points_ras])
        labels = np.concatenate([labels[kept], implied.labels])
    return Prompts(points, labels, merged.names)


def _fitted(probe: Probe, pyramid: FeaturePyramid, prompts: Prompts, background_ras: NDArray[np.float64] | None) -> Probe:
    """A new probe, fitted on prompts; a structure that has a name but no prompts is absent everywhere."""
    labels, prompted = sorted({*prompts.names, *prompts.structures}), prompts.structures
    weights = torch.zeros(len(labels), pyramid.channels)
    image_weights = torch.zeros(len(labels), evidence_of(pyramid).voxel_features.channels)
    intercept = torch.full((len(labels),), _ABSENT)
    if prompted:
        probe.fit(pyramid, prompts, background_ras)
        rows = [labels.index(label) for label in prompted]
        weights[rows], image_weights[rows], intercept[rows] = probe.weights_, probe.image_weights_, probe.intercept_
    probe.weights_, probe.image_weights_, probe.intercept_ = weights, image_weights, intercept
    probe.labels_, probe.names_ = labels, {label: prompts.name(label) for label in labels}
    probe.prompts_, probe.signature_ = prompts, pyramid.signature
    probe.scan_key_, probe.fitted_pyramid_ = pyramid.key, pyramid
    return probe


def _not_overruled(
    suggested_ras: NDArray[np.float64],
    suggested_labels: NDArray[np.int64],
    given_ras: NDArray[np.float64],
    given_labels: NDArray[np.int64],
    within_mm: float,
) -> NDArray[np.bool_]:
    """Which prompts to keep: all that are given, then those of the probe that are not near one of another label."""
    keep = np.ones(len(suggested_ras), dtype=bool)
    for label in np.unique(given_labels):
        if len(suggested_ras):
            distances, _ = cKDTree(given_ras[given_labels == label]).query(suggested_ras)
            keep &= ~((distances < within_mm) & (suggested_labels != label))
    return np.concatenate([np.ones(len(given_ras), dtype=bool), keep])


for_scan = deprecated_function("for_scan", adapt)
