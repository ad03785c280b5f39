"""Segmentation of one scan: fits a probe on prompts, and computes previews and labelmaps with it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

from CoralBayLib.core.deprecation import warn_renamed
from CoralBayLib.core.errors import VolumeError
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid, Volume

from .clicks.answers import ClickedStructures
from .clicks.locks import Locks
from .constraints.masks import Constraints
from .options import Options
from .prediction.predictor import Predictor
from .prediction.training_points import TrainingPoints
from .preview import Preview
from .probe import Probe
from .prompts import Prompts
from .suggested import SuggestedProbe
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
        self._extents: dict[int, int] = {}
        self._predictor: Predictor | None = None

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
        constraints = Constraints(locked, start, () if prompts is None else prompts.boxes)
        points = TrainingPoints.of(prompts, constraints, self.pyramid)
        if self._given is None:
            probe = Probe().fit(self.pyramid, Prompts.none() if points.prompts is None else points.prompts, points.locked_ras)
        else:
            probe = adapt(self._given, self.pyramid, points.own, points.implied, points.locked_ras)
        clicked = None
        if prompts is not None and (self._given is None or isinstance(probe, SuggestedProbe)):
            apart = probe.fragmented_.union(constraints.started)
            locks = Locks(constraints.locked_on(self.pyramid.grid), points.locked_ras)
            starts = probe.starts_ if isinstance(probe, SuggestedProbe) else None
            clicked = ClickedStructures(self.pyramid, prompts, apart, extents, locks, starts)
        # The prompts of an adapted probe are those that it made itself, and the user's.
        of_seeds = points.prompts if self._given in (None, probe) else probe.prompts_
        predictor = Predictor(
            self.pyramid,
            probe,
            Prompts.none() if prompts is None else prompts,
            constraints,
            None if of_seeds is None else probe.seeds(of_seeds),
            clicked,
            self.is_calibrated,
        )
        answered = clicked is not None and bool(clicked.labels)
        if (constraints or answered) and probe is not self._given:
            probe.labels_for_memory_ = lambda: predictor.labelmap(self.pyramid.grid, Options())
        self.prompts_, self.probe_, self._extents, self._predictor = prompts, probe, dict(extents or {}), predictor
        return self

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
        predictor = self._predictor
        return predictor is not None and known and same and predictor.constraints.has_masks(locked, start)

    @property
    def names(self) -> dict[int, str]:
        """Names by label of all structures that a labelmap may have: those of the probe and of the start."""
        return self._fitted().names

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
        return self._fitted().preview(options or Options(), cancel)

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
        partial = copy(self)
        partial._predictor, preview = self._fitted().updated(label, prompts, before, options or Options(), cancel)
        return partial, preview

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
        return self._fitted().labelmap(grid, options or Options(), progress, cancel)

    def _fitted(self) -> Predictor:
        if self._predictor is None:
            self.fit(None)
        assert self._predictor is not None
        return self._predictor


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
