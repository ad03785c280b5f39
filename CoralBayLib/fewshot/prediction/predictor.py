"""Log-odds, previews and labelmaps of one scan, from a fitted probe, answers to clicks and constraints."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, subprogress
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.fewshot.clicks.answers import ClickedStructures
from CoralBayLib.fewshot.constraints.masks import Constraints
from CoralBayLib.fewshot.labeling import predict_labels
from CoralBayLib.fewshot.options import Options
from CoralBayLib.fewshot.preview import Preview, ProbabilityMaps, preview_of
from CoralBayLib.fewshot.probe import Probe
from CoralBayLib.fewshot.prompts import BACKGROUND, Prompts
from CoralBayLib.fewshot.uncertainty import DICE_ERROR
from CoralBayLib.imaging.grid import Grid, Volume

from .training_points import TrainingPoints


class Predictor:
    """Predicts the structures of one scan. What it computes for a preview is kept for further ones and for labelmaps.

    Args:
        pyramid: the scan's features.
        probe: fitted on the scan, or adapted to it.
        prompts: of the user; may be empty.
        constraints: locked voxels, a start, and boxes.
        seeds: (N, 3) RAS points by label; see `predict_labels`. None to keep all components.
        clicked: the structures that are answered click by click, or None.
        calibrated: whether the probe's probabilities are calibrated on this scan.

    Attributes:
        pyramid, probe, prompts, constraints, clicked: as given.
    """

    def __init__(
        self,
        pyramid: FeaturePyramid,
        probe: Probe,
        prompts: Prompts,
        constraints: Constraints,
        seeds: dict[int, NDArray[np.float64]] | None,
        clicked: ClickedStructures | None,
        calibrated: bool,
    ) -> None:
        self.pyramid, self.probe, self.prompts, self.constraints, self.clicked = pyramid, probe, prompts, constraints, clicked
        self._seeds, self._calibrated = seeds, calibrated
        self._names = {label: probe.names_[label] for label in probe.labels_}
        self._logits: dict[int, torch.Tensor] = {}
        self._unbounded: bool | None = None
        self._maps: ProbabilityMaps | None = None

    @property
    def names(self) -> dict[int, str]:
        """Names by label of all structures that a labelmap may have: those of the probe and of the start."""
        started = {label: self.prompts.name(label) for label in self.constraints.started}
        return dict(sorted({**started, **self.probe.names_}.items()))

    def preview(self, options: Options, cancel: CancelToken | None = None) -> Preview:
        """As `Segmenter.preview`."""
        probe = self.probe
        if not self._logits or self._unbounded != options.unbounded:
            self._names = {label: probe.names_[label] for label in probe.labels_}
            self._logits = dict(zip(probe.labels_, self._log_odds(probe, probe.labels_, options, cancel), strict=True))
            self._unbounded = options.unbounded
            self._maps = None
        labels = self.labelmap(self.pyramid.grid, options, cancel=cancel)
        self._maps = self._maps or ProbabilityMaps.of(self._logits, self._free_body, cancel)
        return self._preview_of(self._maps, self._logits, labels)

    def updated(
        self, label: int, prompts: Prompts, before: Preview, options: Options, cancel: CancelToken | None = None
    ) -> tuple[Predictor, Preview]:
        """As `Segmenter.preview_of_one`: a predictor in which one structure follows new prompts, and its preview."""
        constraints = replace(self.constraints, boxes=prompts.boxes)
        points = TrainingPoints.of(prompts, constraints, self.pyramid)
        assert points.prompts is not None
        alone = replace(points.prompts, labels=np.where(points.prompts.labels == label, label, BACKGROUND))
        fitted = Probe().fit(self.pyramid, alone, points.locked_ras)
        raise_if_cancelled(cancel)
        partial = copy(self)
        partial.constraints, partial.prompts = constraints, prompts
        partial.clicked = None if self.clicked is None else self.clicked.updated(label, prompts)
        logits = partial._log_odds(fitted, [label], options, cancel)[0]
        raise_if_cancelled(cancel)
        partial._names = dict(sorted({**self._names, label: prompts.name(label)}.items()))
        partial._seeds = {n: points for n, points in (self._seeds or {}).items() if n != label} | fitted.seeds(alone)
        partial._logits = {**self._logits, label: logits}
        labels = partial.labelmap(self.pyramid.grid, options, cancel=cancel)
        maps = ProbabilityMaps.of({label: logits}, self._free_body, cancel)
        one = partial._preview_of(maps, {label: logits}, labels)
        totals = {**(self._maps.totals if self._maps else {}), **maps.totals}
        partial._maps = ProbabilityMaps(before.percent | maps.percent, before.uncertainty, totals)
        estimate = before.dice_estimate | one.dice_estimate
        percent, extents = partial._maps.percent, before.extents | one.extents
        return partial, Preview(labels.grid, labels.array, percent, before.uncertainty, estimate, extents)

    def labelmap(
        self, grid: Grid, options: Options, progress: Progress | None = None, cancel: CancelToken | None = None
    ) -> Volume:
        """As `Segmenter.labelmap`."""
        constraints, working = self.constraints, self.pyramid.grid
        if not constraints.started:
            return self._labels_on(grid, options, progress, cancel)
        proposal = self._labels_on(working, options, None if grid is working else subprogress(progress, 0, 0.4), cancel)
        changes = constraints.changes(proposal, self.prompts.points_ras, self.prompts.labels)
        if grid is not working:
            proposal = self._labels_on(grid, options, subprogress(progress, 0.4, 1), cancel)
        labels = constraints.keep_start(proposal.array, grid, changes)
        constraints.clear(labels, grid)
        return Volume(labels, grid)

    def _labels_on(self, grid: Grid, options: Options, progress: Progress | None, cancel: CancelToken | None) -> Volume:
        """The labels without regard to the start."""
        known = self._logits if self._unbounded == options.unbounded else {}

        def logits(label: int) -> torch.Tensor:
            return known[label] if label in known else self._log_odds(self.probe, [label], options, cancel)[0]

        labelmap = predict_labels(
            logits,
            self._names,
            self.pyramid.body,
            grid,
            threshold=options.threshold,
            seeds=self._seeds_of(options),
            locked=self.constraints.locked_on(self.pyramid.grid),
            progress=progress,
            cancel=cancel,
        )
        self.constraints.clear(labelmap.array, grid)
        return labelmap

    def _log_odds(self, probe: Probe, labels: list[int], options: Options, cancel: CancelToken | None) -> list[torch.Tensor]:
        """Log-odds of structures on the working grid, very low where the constraints do not let a structure be."""
        clicked = self.clicked
        answered = frozenset() if clicked is None else clicked.labels if options.connected else clicked.started
        rest = [n for n in labels if n not in answered]
        fitted = dict(zip(rest, probe.logits(self.pyramid, rest, options.unbounded), strict=True)) if rest else {}
        raise_if_cancelled(cancel)
        found = [fitted[n] if clicked is None or n in fitted else clicked.answer(n, cancel).log_odds.clone() for n in labels]
        constraints, prompts = self.constraints, self.prompts
        settled = constraints.settled(prompts.points_ras, prompts.labels)
        return [constraints.bound(n, one, self.pyramid.grid, n in settled) for n, one in zip(labels, found, strict=True)]

    def _seeds_of(self, options: Options) -> dict[int, NDArray[np.float64]] | None:
        """Points that components must hold.

        Of answers that began with a click it is the clicks. Where a box or a suggestion came first, a click may lie in a small
        piece beside the main one: all pieces of the answer are kept.
        """
        clicked, prompts, grid = self.clicked, self.prompts, self.pyramid.grid
        if not options.connected or self._seeds is None or clicked is None:
            return self._seeds if options.connected else None
        answered = [n for n in clicked.labels if n in self._seeds]
        begun = clicked.started | {box.label for box in prompts.boxes}
        own = {n: prompts.points_ras[prompts.labels == n] for n in answered}
        return self._seeds | {n: clicked.answer(n).points_ras(grid) if n in begun else own[n] for n in answered}

    @property
    def _free_body(self) -> Volume:
        """The body without what is locked."""
        body, locked = self.pyramid.body, self.constraints.locked_on(self.pyramid.grid)
        return body if locked is None else Volume(np.where(locked, 0, body.array), body.grid)

    def _preview_of(self, maps: ProbabilityMaps, logits: dict[int, torch.Tensor], labels: Volume) -> Preview:
        """A preview; a structure that has a start gets no estimate, because the probe did not make its mask."""
        preview = preview_of(maps, logits, labels, self._calibrated)
        for label in preview.dice_estimate:
            dice = None if self.clicked is None else self.clicked.dice(label)
            if dice is not None:
                preview.dice_estimate[label] = dice, DICE_ERROR * (1 - dice)
        started = self.constraints.started
        return replace(
            preview,
            dice_estimate={n: dice for n, dice in preview.dice_estimate.items() if n not in started},
            extents={} if self.clicked is None else self.clicked.extents,
        )
