"""The probe of one scan that begins with what other patients taught, and goes on with the user's prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.features.pyramid import FeaturePyramid

from .clicks.started import Start
from .localization import confident_prompts
from .patients.patients import SuggestedStructures
from .probe import Probe
from .prompts import Prompts

_MOST = 3.0
"""Most log-odds that a suggestion adds to those of a fit: strokes decide where they are sure."""


class SuggestedProbe(Probe):
    """Gives the suggestion for structures that the user did not mark with strokes; to the others a fit is added.

    Attributes:
        suggested_: by label, the log-odds on the working grid.
        stroked_: labels of structures with strokes.
        starts_: by label, the suggestion as the start of a session of clicks; a structure that was not found has none.
    """

    suggested_: Mapping[int, torch.Tensor]
    starts_: Mapping[int, Start]
    stroked_: frozenset[int] = frozenset()

    def take(self, found: SuggestedStructures, pyramid: FeaturePyramid) -> None:
        """Use a suggestion for the structures of the same names."""
        labels = {name: label for label, name in self.names_.items()}
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            maps = dict(
                zip(
                    [labels[name] for name in found.log_odds if name in labels],
                    threads.map(lambda name: found.on(name, pyramid.grid), [n for n in found.log_odds if n in labels]),
                    strict=True,
                )
            )
            starts = dict(zip(maps, threads.map(lambda one: Start.of(one, pyramid.grid), maps.values()), strict=True))
        self.suggested_ = maps
        self.starts_ = {label: start for label, start in starts.items() if start is not None}

    def logits(
        self, pyramid: FeaturePyramid, structures: Sequence[int] | None = None, unbounded: bool | None = None
    ) -> torch.Tensor:
        """As `Probe.logits`; `unbounded` counts for structures with strokes only."""
        labels = self.labels_ if structures is None else list(structures)
        self._require_structures(labels)
        fitted = [label for label in labels if label in self.stroked_ or label not in self.suggested_]
        own = dict(zip(fitted, super().logits(pyramid, fitted, unbounded), strict=True)) if fitted else {}
        for label in self.stroked_ & self.suggested_.keys() & own.keys():
            own[label] = own[label] + self.suggested_[label].clamp(-_MOST, _MOST)
        return torch.stack([own[label] if label in own else self.suggested_[label].clone() for label in labels])

    def seeds(self, prompts: Prompts) -> dict[int, NDArray[np.float64]]:
        """As `Probe.seeds`; the main component of a suggestion is kept."""
        found = super().seeds(prompts)
        return found | {label: start.point_ras for label, start in self.starts_.items() if label not in self.stroked_}


def suggested_prompts(found: SuggestedStructures, body: NDArray[np.bool_], labels: Mapping[str, int]) -> Prompts:
    """Prompts at confident places of a suggestion.

    Args:
        found: the suggestion.
        body: [k, j, i] of the patient, on its grid.
        labels: by name.
    """
    names = [name for name in found.log_odds if name in labels]
    probability = np.stack([found.log_odds[name].sigmoid().numpy() for name in names])
    background = np.where(body, np.clip(1 - probability.sum(axis=0), 0, 1 - 1e-6), 1.0)
    return confident_prompts(
        np.concatenate([background[None], probability]), [0, *(labels[name] for name in names)], found.grid
    )
