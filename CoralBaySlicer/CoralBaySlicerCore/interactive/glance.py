"""The structure that a click was for, shown at once; the others follow when all are fitted anew.

A click on one structure says a little of all others too, so that each is fitted again, and with many that takes seconds.
What the user looks at is the one they clicked on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBaySlicerCore.work.compute import Points, Preview, bounded, dice_to_expect, foremost

LEAST = 3
"""With fewer structures all of them are as quick."""
_MOST = 20_000
"""Of prompts that are compared, as this is done where the user waits; large painted segments have more."""


def clicked(before: Points | None, now: Points, preview: Preview | None) -> int | None:
    """The one structure that a change of prompts was for: theirs, or where they say background, what was found there. None
    when it was for several or for none, or when there are too few structures for it to matter."""
    if before is None or preview is None or len(preview.percents) < LEAST or len(before.labels) + len(now.labels) > _MOST:
        return None
    from CoralBayLib.imaging.grid import Grid, Volume

    rows, times = np.unique(np.concatenate([_rows(before), _rows(now)]), axis=0, return_counts=True)
    whose, places = rows[times == 1, 0].astype(int), rows[times == 1, 1:]
    found = Volume(preview.labels, Grid(preview.labels.shape, preview.geometry))
    about = {*whose[whose > 0].tolist(), *found.values_at(places[whose == 0]).tolist()}
    label = about.pop() if len(about) == 1 else 0
    return label if label and (now.labels == label).any() else None


def glance(pyramid: Any, points: Points, label: int, preview: Preview, cancel: CancelToken | None = None) -> Preview:
    """A preview with one structure as new prompts make it, the others and the probe as they were."""
    import torch

    from CoralBayLib.fewshot.probe import Probe
    from CoralBayLib.fewshot.segmentation import claim

    alone = Points(points.points, np.where(points.labels == label, label, 0), points.names)
    probe = Probe().fit(pyramid, alone.prompts())
    raise_if_cancelled(cancel)
    odds = probe.logits(pyramid, anywhere=None if preview.connected else True)[0]
    odds.masked_fill_(torch.from_numpy(pyramid.body.array == 0), -np.inf)
    raise_if_cancelled(cancel)
    likeliest = preview.likeliest.astype(np.promote_types(preview.likeliest.dtype, np.min_scalar_type(label)))
    values = preview.log_odds.copy()
    _give_up(label, likeliest, values, preview.percents)
    claim(likeliest, values, odds.numpy(), label)
    probability = odds.sigmoid_()
    totals = None if preview.totals is None else preview.totals | {label: float(probability.sum())}
    touching = {n: at for n, at in preview.touching.items() if n != label}
    if preview.connected and label not in probe.scattered_:
        touching[label] = points.points[points.labels == label]
    percents = preview.percents | {label: (100 * probability.numpy()).astype(np.uint8)}
    labels = bounded(preview.threshold, likeliest, values, percents, touching, preview.geometry)
    return replace(
        preview,
        percents=percents,
        touching=touching,
        labels=labels,
        likeliest=likeliest,
        log_odds=values,
        totals=totals,
        expected=dice_to_expect(labels, values, totals),
    )


def _rows(points: Points) -> NDArray[np.float64]:
    """Labels and places to a micrometre, each once, for comparing."""
    return np.unique(np.column_stack([points.labels, np.round(points.points, 3)]), axis=0)


def _give_up(label: int, likeliest: NDArray, values: NDArray[np.float32], percents: dict[int, NDArray[np.uint8]]) -> None:
    """Where a structure was the likeliest, put the likeliest of the others in its place, in place. All that is known of
    them there is their percent."""
    where = np.flatnonzero(likeliest == label)
    whose, percent = foremost({n: one.ravel()[where] for n, one in percents.items() if n != label})
    share = (percent + np.float32(0.5)) / np.float32(101)
    likeliest.ravel()[where] = whose
    values.ravel()[where] = np.log(share / (1 - share))
