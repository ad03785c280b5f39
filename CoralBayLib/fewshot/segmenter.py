"""Segmentation of one scan: fits a probe on prompts, and computes previews and labelmaps with it."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.deprecation import warn_renamed
from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid, Volume

from .labeling import predict_labels
from .options import Options
from .preview import Preview, ProbabilityMaps, preview_of
from .probe import Probe
from .prompts import BACKGROUND, Prompts
from .transfer import adapt


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
        self._names: dict[int, str] = {}
        self._seeds: dict[int, NDArray[np.float64]] | None = None
        self._logits: dict[int, torch.Tensor] = {}
        self._maps: ProbabilityMaps | None = None
        self._unbounded: bool | None = None

    def fit(self, prompts: Prompts | None = None) -> Segmenter:
        """Fit a probe on prompts, or adapt the given one; nothing is done if the prompts are those of the last fit.

        Args:
            prompts: points of each structure and, preferably, of the background. Optional if a probe was given.

        Raises:
            PromptError: no prompts, some outside the volume, or background only.
            ProbeError: the given probe was made for other features.
        """
        if self.probe_ is not None and (prompts is self.prompts_ or (prompts is not None and prompts.same_as(self.prompts_))):
            return self
        if self._given is None:
            self.probe_ = Probe().fit(self.pyramid, Prompts.none() if prompts is None else prompts)
        else:
            self.probe_ = adapt(self._given, self.pyramid, prompts)
        seeds = self.probe_.prompts_ if self.is_adapted else prompts
        self._names = {label: self.probe_.names_[label] for label in self.probe_.labels_}
        self._seeds = None if seeds is None else self.probe_.seeds(seeds)
        self.prompts_, self._logits, self._maps = prompts, {}, None
        return self

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
            logits = probe.logits(self.pyramid, unbounded=options.unbounded)
            raise_if_cancelled(cancel)
            self._logits, self._unbounded = dict(zip(probe.labels_, logits, strict=True)), options.unbounded
            self._maps = None
        labels = self.labelmap(self.pyramid.grid, options, cancel=cancel)
        self._maps = self._maps or ProbabilityMaps.of(self._logits, self.pyramid.body, cancel)
        return preview_of(self._maps, self._logits, labels, self.is_calibrated)

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
        alone = replace(prompts, labels=np.where(prompts.labels == label, label, BACKGROUND))
        fitted = Probe().fit(self.pyramid, alone)
        raise_if_cancelled(cancel)
        logits = fitted.logits(self.pyramid, [label], options.unbounded)[0]
        raise_if_cancelled(cancel)
        partial = copy(self)
        partial._names = dict(sorted({**self._names, label: prompts.name(label)}.items()))
        partial._seeds = {n: points for n, points in (self._seeds or {}).items() if n != label} | fitted.seeds(alone)
        partial._logits = {**self._logits, label: logits}
        labels = partial.labelmap(self.pyramid.grid, options, cancel=cancel)
        maps = ProbabilityMaps.of({label: logits}, self.pyramid.body, cancel)
        one = preview_of(maps, {label: logits}, labels, self.is_calibrated)
        totals = {**(self._maps.totals if self._maps else {}), **maps.totals}
        partial._maps = ProbabilityMaps(before.percent | maps.percent, before.uncertainty, totals)
        estimate = before.dice_estimate | one.dice_estimate
        return partial, Preview(labels.grid, labels.array, partial._maps.percent, before.uncertainty, estimate)

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
        probe = self._fitted()
        known = self._logits if self._unbounded == options.unbounded else {}

        def logits(label: int) -> torch.Tensor:
            return known[label] if label in known else probe.logits(self.pyramid, [label], options.unbounded)[0]

        return predict_labels(
            logits,
            self._names,
            self.pyramid.body,
            grid,
            threshold=options.threshold,
            seeds=self._seeds if options.connected else None,
            progress=progress,
            cancel=cancel,
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
    threshold: float = 0.5,
    connected: bool = True,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Volume:
    """Segment every structure of the prompts, or of a probe.

    Args:
        volume: the CT that was embedded; its grid is the result's.
        pyramid: its features.
        prompts: points of each structure and, preferably, of the background.
        probe: a fitted probe to use instead of fitting one on the prompts; see `Segmenter`.
        threshold: as in `Options`.
        connected: as in `Options`.
        progress: called with the fraction done and a message.
        cancel: checked between steps.

    Returns:
        Labelmap on the volume's grid, uint8 (uint16 for labels over 255); 0 is background.

    Raises:
        PromptError: no prompts, some outside the volume, or background only.
        VolumeError: the volume is not the one that was embedded.
        ProbeError: the probe was made for other features.
        Cancelled: `cancel` was called.
    """
    if not volume.grid.same_as(pyramid.source_grid):
        raise VolumeError("These features are of a volume with another grid; embed this volume first.")
    report(progress, 0.0, "Fitting the probe")
    segmenter = Segmenter(pyramid, probe).fit(prompts)
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
