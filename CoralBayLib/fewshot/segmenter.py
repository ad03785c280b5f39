"""Segmentation of one scan: fits a probe on prompts, and computes previews and labelmaps with it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.deprecation import warn_renamed
from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report, subprogress
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid, Volume

from .clicks.answers import ClickedStructures
from .clicks.session import Locks
from .constraints.masks import Constraints
from .labeling import predict_labels
from .options import Options
from .preview import Preview, ProbabilityMaps, preview_of
from .probe import Probe
from .prompts import BACKGROUND, Prompts
from .transfer import adapt
from .uncertainty import DICE_ERROR


class Segmenter:
    """Segments one scan from prompts, from a probe, or from a probe that prompts correct.

    Args:
        pyramid: the scan's features.
        probe: a fitted probe to use instead of fitting one on the prompts. A probe of another scan is adapted to this
            scan, and the prompts, if there are any, correct it (see `transfer`).

    Attributes:
        pyramid: the scan's features.
        prompts_: the prompts of the last `fit`.
        probe_: the probe of this scan.

    Example::

        segmenter = Segmenter(pyramid).fit(prompts)
        preview = segmenter.preview()                   # on the working grid
        labelmap = segmenter.labelmap(volume.grid)      # on the grid of the CT, with the same labels
    """

    prompts_: Prompts | None = None
    probe_: Probe | None = None

    def __init__(self, pyramid: FeaturePyramid, probe: Probe | None = None) -> None:
        self.pyramid = pyramid
        self._given = probe
        self._constraints = Constraints()
        self._given_points = Prompts.none()
        self._names: dict[int, str] = {}
        self._seeds: dict[int, NDArray[np.float64]] | None = None
        self._logits: dict[int, torch.Tensor] = {}
        self._clicked: ClickedStructures | None = None
        self._extents: dict[int, int] = {}
        self._maps: ProbabilityMaps | None = None
        self._unbounded: bool | None = None

    def fit(
        self,
        prompts: Prompts | None = None,
        *,
        locked: Volume | None = None,
        start: Volume | None = None,
        extents: Mapping[int, int] | None = None,
    ) -> Segmenter:
        """Fit a probe on prompts, or adapt the given one; nothing is done if everything is as in the last fit.

        Args:
            prompts: points of each structure and, preferably, of the background; boxes. Optional if a probe or a start was
                given.
            locked: a mask on any grid. Its voxels, those that are not 0, never get a label, and points in them count as
                background. For another mask pass another `Volume`: what was computed of this one is kept.
            start: a labelmap on any grid, with the labels of the prompts' structures. The answer begins as this mask, and
                differs from it only in those parts of the difference where a prompt contradicts it (see
                `constraints.changes`). Points in it and around it count as prompts.
            extents: by label, which answer to the first click of a structure is wanted: 0 for the most probable region
                (the default), -1 for a part of it, 1 for a larger region around it.

        Raises:
            PromptError: no prompts, some outside the volume, or background only; or a prompt of a structure is locked, or
                outside of the structure's box.
            VolumeError: a mask has no voxel in the scan, or the start has values that are no labels.
            ProbeError: the given probe was made for other features.
        """
        if self.is_fitted_on(prompts, locked, start, extents):
            return self
        self._extents = dict(extents or {})
        constraints = Constraints(locked, start, () if prompts is None else prompts.boxes)
        own, implied, held = self._evidence(prompts, constraints)
        told = own if own is None or implied is None else own + implied
        if self._given is None:
            self.probe_ = Probe().fit(self.pyramid, Prompts.none() if told is None else told, held)
        else:
            self.probe_ = adapt(self._given, self.pyramid, own, implied, held)
        seeds = self.probe_.prompts_ if self.is_adapted else told
        self._names = {label: self.probe_.names_[label] for label in self.probe_.labels_}
        self._seeds = None if seeds is None else self.probe_.seeds(seeds)
        self.prompts_, self._constraints, self._logits, self._maps = prompts, constraints, {}, None
        self._given_points = Prompts.none() if prompts is None else prompts
        self._clicked = None
        if prompts is not None and self._given is None:
            apart = self.probe_.fragmented_.union(constraints.started)
            self._clicked = ClickedStructures(
                self.pyramid, prompts, apart, extents, Locks(constraints.locked_on(self.pyramid.grid), held)
            )
        answered = self._clicked is not None and bool(self._clicked.labels)
        if (constraints or answered) and self.probe_ is not self._given:
            self.probe_.labels_for_memory_ = lambda: self.labelmap(self.pyramid.grid)
        return self

    def _raw_logits(self, probe: Probe, labels: list[int], options: Options, cancel: CancelToken | None) -> list[torch.Tensor]:
        """Log-odds of structures on the working grid, without constraints."""
        clicked = self._clicked if options.connected else None
        rest = [n for n in labels if clicked is None or n not in clicked.labels]
        fitted = dict(zip(rest, probe.logits(self.pyramid, rest, options.unbounded), strict=True)) if rest else {}
        raise_if_cancelled(cancel)
        return [fitted[n] if clicked is None or n in fitted else clicked.answer(n, cancel).log_odds.clone() for n in labels]

    def is_fitted_on(
        self,
        prompts: Prompts | None,
        locked: Volume | None = None,
        start: Volume | None = None,
        extents: Mapping[int, int] | None = None,
    ) -> bool:
        """Whether the last `fit` had these arguments, so that another one would change nothing."""
        known = prompts is self.prompts_ or (prompts is not None and prompts.same_as(self.prompts_))
        same = dict(extents or {}) == self._extents
        return self.probe_ is not None and known and same and self._constraints.has_masks(locked, start)

    def _evidence(
        self, prompts: Prompts | None, constraints: Constraints
    ) -> tuple[Prompts | None, Prompts | None, NDArray[np.float64] | None]:
        """The user's prompts, with points in place of boxes; prompts that boxes and the start imply; points that are locked.

        Each is None where there is nothing to say.
        """
        if not constraints:
            return prompts, None, None
        given, grid, body = Prompts.none() if prompts is None else prompts, self.pyramid.source_grid, self.pyramid.body
        given.require_inside(grid)
        constraints.require_consistent(given.points_ras, given.labels, given.name, grid)
        own = given.with_points_of_boxes(body, shell=False)
        points, labels = constraints.implied(own.points_ras, own.labels, body)
        implied = Prompts(points, labels, own.names).inside(grid)
        return own, implied if len(implied) else None, constraints.locked_points(own.points_ras, body.grid)

    @property
    def names(self) -> dict[int, str]:
        """Names by label of all structures that a labelmap may have: those of the probe and of the start."""
        started = {label: self._given_points.name(label) for label in self._constraints.started}
        return dict(sorted({**started, **self._fitted().names_}.items()))

    @property
    def is_adapted(self) -> bool:
        """Whether the given probe was made on another scan and has been adapted to this one."""
        return self._given is not None and self.probe_ is not self._given

    @property
    def is_calibrated(self) -> bool:
        """Whether probabilities are calibrated; those of a probe that was made on another scan are not."""
        return bool(self.pyramid.key) and (self._given is None or self._given.scan_key_ == self.pyramid.key)

    def preview(self, options: Options | None = None, cancel: CancelToken | None = None) -> Preview:
        """Probabilities, labels and their uncertainty on the working grid.

        The labels are those of `labelmap` with the same options, voxel by voxel. The log-odds are kept: another threshold
        takes a fraction of the time, and `labelmap` uses them again.

        Args:
            options: defaults if None.
            cancel: checked between steps.

        Raises:
            VolumeError: the threshold is not between 0 and 1.
            Cancelled: `cancel` was called.
        """
        options = options or Options()
        probe = self._fitted()
        if not self._logits or self._unbounded != options.unbounded:
            self._names = {label: probe.names_[label] for label in probe.labels_}
            logits = self._raw_logits(probe, probe.labels_, options, cancel)
            self._logits = {n: self._bound(n, one) for n, one in zip(probe.labels_, logits, strict=True)}
            self._unbounded = options.unbounded
            self._maps = None
        labels = self.labelmap(self.pyramid.grid, options, cancel=cancel)
        self._maps = self._maps or ProbabilityMaps.of(self._logits, self._free_body, cancel)
        return self._preview_of(self._maps, self._logits, labels)

    def preview_of_one(
        self,
        label: int,
        prompts: Prompts,
        before: Preview,
        options: Options | None = None,
        cancel: CancelToken | None = None,
    ) -> tuple[Segmenter, Preview]:
        """A quick preview in which one structure follows new prompts while the others stay as they were.

        A click on one structure affects all others, so that each has to be fitted again, which takes seconds if they are
        many. This shows the effect on the clicked structure at once.

        Args:
            label: the structure that was clicked.
            prompts: all prompts.
            before: the last preview of this segmenter.
            options: those of that preview.
            cancel: checked between steps.

        Returns:
            A segmenter that holds the new log-odds beside the old probe, and its preview, in which the uncertainty is still
            the old one. This segmenter stays as it is.

        Raises:
            PromptError: the structure has no prompts.
        """
        options = options or Options()
        constraints = replace(self._constraints, boxes=prompts.boxes)
        own, implied, held = self._evidence(prompts, constraints)
        assert own is not None
        told = own if implied is None else own + implied
        alone = replace(told, labels=np.where(told.labels == label, label, BACKGROUND))
        fitted = Probe().fit(self.pyramid, alone, held)
        raise_if_cancelled(cancel)
        partial = copy(self)
        partial._constraints, partial._given_points = constraints, prompts
        partial._clicked = None if self._clicked is None else self._clicked.updated(label, prompts)
        logits = partial._bound(label, partial._raw_logits(fitted, [label], options, cancel)[0])
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
        self,
        grid: Grid,
        options: Options | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Volume:
        """The labels on any grid, such as the CT's own.

        Args:
            grid: of the result.
            options: defaults if None.
            progress: called with the fraction done and a message.
            cancel: checked between structures.

        Returns:
            Labelmap on the grid, uint8 (uint16 for labels over 255); 0 is background.

        Raises:
            VolumeError: the threshold is not between 0 and 1.
            Cancelled: `cancel` was called.
        """
        options = options or Options()
        constraints, working = self._constraints, self.pyramid.grid
        if not constraints.started:
            return self._labels_on(grid, options, progress, cancel)
        proposal = self._labels_on(working, options, None if grid is working else subprogress(progress, 0, 0.4), cancel)
        changes = constraints.changes(proposal, self._given_points.points_ras, self._given_points.labels)
        if grid is not working:
            proposal = self._labels_on(grid, options, subprogress(progress, 0.4, 1), cancel)
        labels = constraints.keep_start(proposal.array, grid, changes)
        constraints.clear(labels, grid)
        return Volume(labels, grid)

    def _labels_on(self, grid: Grid, options: Options, progress: Progress | None, cancel: CancelToken | None) -> Volume:
        """The labels without regard to the start."""
        probe, constraints, working = self._fitted(), self._constraints, self.pyramid.grid
        known = self._logits if self._unbounded == options.unbounded else {}

        def logits(label: int) -> torch.Tensor:
            if label in known:
                return known[label]
            return self._bound(label, self._raw_logits(probe, [label], options, cancel)[0])

        labelmap = predict_labels(
            logits,
            self._names,
            self.pyramid.body,
            grid,
            threshold=options.threshold,
            seeds=self._seeds_of(options),
            locked=constraints.locked_on(working),
            progress=progress,
            cancel=cancel,
        )
        constraints.clear(labelmap.array, grid)
        return labelmap

    def _seeds_of(self, options: Options) -> dict[int, NDArray[np.float64]] | None:
        """Points that components must hold; the answers to clicks are whole already."""
        if not options.connected or self._seeds is None:
            return None
        clicked, given = frozenset() if self._clicked is None else self._clicked.labels, self._given_points
        # Points that stand for a box need not lie in the structure.
        return self._seeds | {n: given.points_ras[given.labels == n] for n in clicked if n in self._seeds}

    def _bound(self, label: int, logits: torch.Tensor) -> torch.Tensor:
        """Exclude a structure from where the constraints do not let it be, in place."""
        constraints, given = self._constraints, self._given_points
        settled = constraints.settled(given.points_ras, given.labels) if constraints.start is not None else frozenset()
        return constraints.bound(label, logits, self.pyramid.grid, label in settled)

    @property
    def _free_body(self) -> Volume:
        """The body without what is locked."""
        body, locked = self.pyramid.body, self._constraints.locked_on(self.pyramid.grid)
        return body if locked is None else Volume(np.where(locked, 0, body.array), body.grid)

    def _preview_of(self, maps: ProbabilityMaps, logits: dict[int, torch.Tensor], labels: Volume) -> Preview:
        """A preview; a structure that has a start gets no estimate, because the probe did not make its mask."""
        preview = preview_of(maps, logits, labels, self.is_calibrated)
        for label in preview.dice_estimate:
            dice = None if self._clicked is None else self._clicked.dice(label)
            if dice is not None:
                preview.dice_estimate[label] = dice, DICE_ERROR * (1 - dice)
        started = self._constraints.started
        return replace(
            preview,
            dice_estimate={n: dice for n, dice in preview.dice_estimate.items() if n not in started},
            extents={} if self._clicked is None else self._clicked.extents,
        )

    def _fitted(self) -> Probe:
        if self.probe_ is None:
            self.fit(None)
        assert self.probe_ is not None
        return self.probe_


def segment(
    volume: Volume,
    pyramid: FeaturePyramid,
    prompts: Prompts | None = None,
    *,
    probe: Probe | None = None,
    locked: Volume | None = None,
    start: Volume | None = None,
    threshold: float = 0.5,
    connected: bool = True,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Volume:
    """Segment every structure of the prompts, of a probe, or of a mask to start from.

    Args:
        volume: the CT that was embedded; its grid is the result's.
        pyramid: its features.
        prompts: points of each structure and, preferably, of the background.
        probe: a fitted probe to use instead of fitting one on the prompts; see `Segmenter`.
        locked: voxels that never get a label; see `Segmenter.fit`.
        start: a labelmap that the answer begins as; see `Segmenter.fit`.
        threshold: as in `Options`.
        connected: as in `Options`.
        progress: called with the fraction done and a message.
        cancel: checked between steps.

    Returns:
        Labelmap on the volume's grid, uint8 (uint16 for labels over 255); 0 is background.

    Raises:
        PromptError: no prompts, some outside the volume, or background only; or a prompt of a structure is locked, or outside
            of the structure's box.
        VolumeError: the volume is not the one that was embedded, or a mask is not of this scan.
        ProbeError: the probe was made for other features.
        Cancelled: `cancel` was called.
    """
    if not volume.grid.same_as(pyramid.source_grid):
        raise VolumeError("These features are of a volume with another grid; embed this volume first.")
    report(progress, 0.0, "Fitting the probe")
    segmenter = Segmenter(pyramid, probe).fit(prompts, locked=locked, start=start)
    raise_if_cancelled(cancel)
    return segmenter.labelmap(volume.grid, Options(threshold, connected), progress, cancel)


def labelmap_on(
    grid: Grid,
    pyramid: FeaturePyramid,
    probe: Probe,
    prompts: Prompts | None = None,
    threshold: float = 0.5,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    *,
    anywhere: bool | None = None,
) -> Volume:
    """Deprecated: use `Probe.predict_labels` or `Segmenter.labelmap`."""
    warn_renamed("labelmap_on", "Probe.predict_labels")
    return probe.predict_labels(pyramid, grid, prompts, threshold, anywhere, progress, cancel)
