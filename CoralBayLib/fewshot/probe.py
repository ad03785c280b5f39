"""A few-shot probe: a linear classifier for each structure on frozen features, fitted in a fraction of a second."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.deprecation import deprecated_attribute
from CoralBayLib.core.errors import ProbeError, PromptError
from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid, Volume

from .evidence import evidence_of
from .evidence.linear import fit_linear
from .labeling import predict_labels
from .memory import TransferMemory
from .patients.files import is_of_patients, read_patients, write_patients
from .patients.teaching import Example, LearnsPatients
from .probe_io import ProbeFile, read_probe, write_probe
from .prompts import Prompts

TEMPERATURE = 1.8
"""Calibration temperature (Guo et al. 2017) of the combined log-odds, which are overconfident. Estimate it again when
`geodesic.WEIGHT` or `intensity.WEIGHT` changes; see DECISIONS.md."""
_PARAMETERS = ("C", "weak_negatives", "max_per_label")


class Probe(LearnsPatients):
    """One-against-rest logistic regression on whitened deep features, intensity and position.

    On the scan it was fitted on, the geodesic distance to the prompts (see `geodesic`) and the intensity beside them (see
    `intensity`) are added to its log-odds.

    The negatives of a structure are the background prompts, the prompts of the other structures, and voxels drawn at
    random from the body. Nearly all of these "weak negatives" are right, because a structure fills a small part of the
    body, and they cover regions where the user has placed no prompt.

    Args:
        C: inverse strength of the L2 penalty, as in scikit-learn.
        weak_negatives: how many random body voxels to add; 0 for none.
        max_per_label: prompts of one label beyond this number are thinned out evenly over space.

    Attributes:
        labels_: (S,) labels of the structures, sorted.
        names_: their names by label.
        weights_: (S, channels) on the pyramid's features, the whitening folded in.
        image_weights_: (S, image channels) on intensity and position.
        intercept_: (S,).
        signature_: of the features it was fitted on.
        prompts_: the prompts it was fitted on.
        scan_key_: key of the scan of these prompts.
        fitted_pyramid_: the features of that scan, or None if the probe was loaded from a file.
        labels_for_memory_: gives the labels on the working grid from which `memory` is drawn, where they are not the probe's
            alone (see `Segmenter`); else None.
        patients_: what it learnt from several patients, or None if it was fitted on the prompts of one scan.
        fragmented_: labels whose prompts lie in many components (see `GeodesicEvidence.is_fragmented`); further components
            may be anywhere.

    Example::

        probe = Probe().fit(pyramid, prompts)
        probability = probe.predict(pyramid)          # (S, K, J, I) on the working grid
        probe.save("liver.safetensors")
    """

    fitted_pyramid_: FeaturePyramid | None = None
    fragmented_: frozenset[int] = frozenset()
    labels_for_memory_: Callable[[], Volume] | None = None
    _memory: TransferMemory | None = None

    scan_ = deprecated_attribute("scan_", "scan_key_")
    home_ = deprecated_attribute("home_", "fitted_pyramid_")
    scattered_ = deprecated_attribute("scattered_", "fragmented_")
    appearance = deprecated_attribute("appearance", "appearance_logits")

    def __init__(self, C: float = 0.01, weak_negatives: int = 1000, max_per_label: int = 1000) -> None:
        self.C = C
        self.weak_negatives = weak_negatives
        self.max_per_label = max_per_label

    def fit(
        self,
        pyramid: FeaturePyramid | Sequence[Example],
        prompts: Prompts | None = None,
        background_ras: NDArray[np.float64] | None = None,
    ) -> Probe:
        """Fit the structures of some prompts on one scan, or learn from several annotated scans.

        Args:
            pyramid: the scan's features; or a list of (pyramid, labels) or (pyramid, labelmap, names), each as in `learn`.
            prompts: of at least one structure, all inside the scan. Background prompts are optional: the weak negatives
                represent it. None for a list.
            background_ras: (N, 3) RAS mm of further points of the background, which the classifier learns from as from the
                weak negatives; unlike prompts, they are not kept.

        Raises:
            PromptError: no prompts, some outside the scan, background only, or one structure and no negatives.
            ProbeError: as in `learn`.
        """
        if not isinstance(pyramid, FeaturePyramid):
            self._forget()
            for example in pyramid:
                self.learn(*example)
            return self
        prompts = Prompts.none() if prompts is None else prompts
        prompts.require_usable(pyramid.source_grid)
        prompts = prompts.with_points_of_boxes(pyramid.body)
        if not self.weak_negatives and len(np.unique(prompts.labels)) < 2:
            raise PromptError(
                f"All prompts are on '{prompts.name(prompts.structures[0])}', and weak negatives are turned off. Add a "
                "click or a stroke on the background, or on another structure."
            )
        thinned = prompts.thinned(self.max_per_label)
        basis = pyramid.basis
        weak = slice(0, min(self.weak_negatives, len(basis.points_ras)))
        marked = thinned.points_ras if background_ras is None else np.concatenate([thinned.points_ras, background_ras])
        deep = torch.cat([pyramid.sample_whitened(marked), basis.vectors[weak]])
        points = np.concatenate([marked, basis.points_ras[weak].numpy()])
        features = torch.cat([deep, evidence_of(pyramid).voxel_features.sample(points)], dim=1).numpy()
        labels = np.concatenate([thinned.labels, np.zeros(len(points) - len(thinned), dtype=np.int64)])
        structures = prompts.structures
        fitted = fit_linear(features, [labels == label for label in structures], len(thinned), self.C)
        coefficients = torch.from_numpy(np.stack([w for w, _ in fitted])).float()
        on_deep, on_image = coefficients.split([deep.shape[1], coefficients.shape[1] - deep.shape[1]], dim=1)
        self.labels_ = structures
        self.names_ = {label: prompts.name(label) for label in structures}
        self.weights_ = on_deep @ basis.projection
        self.image_weights_ = on_image.contiguous()
        self.intercept_ = torch.tensor([b for _, b in fitted]).float() + on_deep @ basis.offset
        self.signature_ = pyramid.signature
        self.prompts_ = prompts
        geodesic = evidence_of(pyramid).geodesic
        self.fragmented_ = frozenset(n for n in structures if geodesic.is_fragmented(prompts.points_ras, prompts.labels == n))
        self.scan_key_ = pyramid.key
        self.fitted_pyramid_, self._memory, self.labels_for_memory_, self.patients_ = pyramid, None, None, None
        return self

    @property
    def memory(self) -> TransferMemory | None:
        """Samples for adapting it to other scans (see `transfer`), drawn at first use; None if its file has none."""
        if self._memory is None and self.fitted_pyramid_ is not None:
            if self.labels_for_memory_ is not None:
                labelmap = self.labels_for_memory_()
            else:
                labelmap = self.predict_labels(self.fitted_pyramid_, prompts=self.prompts_)
            self._memory = TransferMemory.sample(self.fitted_pyramid_, labelmap, self.labels_)
        return self._memory

    def adapts_to(self, pyramid: FeaturePyramid) -> bool:
        """Whether it was fitted on another scan and has what it needs to be adapted to this one."""
        if self.patients_ is not None:
            return True
        known = self._memory is not None or self.fitted_pyramid_ is not None
        return known and not (self.scan_key_ and self.scan_key_ == pyramid.key)

    def logits(
        self, pyramid: FeaturePyramid, structures: Sequence[int] | None = None, unbounded: bool | None = None
    ) -> torch.Tensor:
        """Log-odds of each structure at every voxel of the working grid.

        On the scan it was fitted on, appearance, geodesic distance and intensity are combined, and the log-odds are
        calibrated (see `TEMPERATURE`). On other scans they are those of appearance alone.

        Args:
            pyramid: of the scan the probe was fitted on, or of another embedded in the same way.
            structures: which labels, in this order; all by default.
            unbounded: whether a structure may be far from its prompts, where appearance and intensity alone decide. By
                default only the structures in `fragmented_`.

        Returns:
            (S, K, J, I) float32.

        Raises:
            ProbeError: not fitted, other features, or no such structure.
        """
        self.require_features_of(pyramid)
        labels = self.labels_ if structures is None else structures
        if self.patients_ is not None:
            self._require_structures(labels)
            found = self.patients_.suggest(pyramid)
            return torch.stack([found.on(self.names_[label], pyramid.grid) for label in labels])
        is_own_scan = bool(pyramid.key) and pyramid.key == self.scan_key_
        masks = {n: self.prompts_.labels == n for n in labels if is_own_scan and n in self.prompts_.labels}
        points, evidence = self.prompts_.points_ras, evidence_of(pyramid)
        with ThreadPoolExecutor(1) as geodesic_thread:
            # Geodesic paths take one core for as long as appearance does, and neither needs the other.
            geodesic = {
                label: geodesic_thread.submit(
                    evidence.geodesic.log_odds, points, mask, label in self.fragmented_ if unbounded is None else unbounded
                )
                for label, mask in masks.items()
            }
            out = self.appearance_logits(pyramid, structures)
            for label, one in zip(labels, out, strict=True):
                if label in masks:
                    evidence.intensity.refine(points, masks[label], one, geodesic[label].result().add_to(one))
        return out.div_(TEMPERATURE) if is_own_scan and len(self.prompts_) else out

    def appearance_logits(self, pyramid: FeaturePyramid, structures: Sequence[int] | None = None) -> torch.Tensor:
        """Log-odds of each structure at every voxel of the working grid by appearance alone, in any scan.

        Arguments, result and errors are those of `logits`.
        """
        if self.patients_ is not None:
            return self.logits(pyramid, structures)
        self.require_features_of(pyramid)
        self._require_structures(structures or ())
        rows = [self.labels_.index(label) for label in (self.labels_ if structures is None else structures)]
        deep = pyramid.linear_map(self.weights_[rows], self.intercept_[rows])
        return evidence_of(pyramid).voxel_features.add_linear_map(self.image_weights_[rows], deep)

    def _require_structures(self, labels: Sequence[int]) -> None:
        unknown = [label for label in labels if label not in self.labels_]
        if unknown:
            raise ProbeError(f"The probe has no structure {unknown}; its structures are {self.labels_}.")

    def predict_labels(
        self,
        pyramid: FeaturePyramid,
        grid: Grid | None = None,
        prompts: Prompts | None = None,
        threshold: float = 0.5,
        unbounded: bool | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Volume:
        """The labelmap of a scan on any grid (the working grid by default), as `labeling.predict_labels` makes it.

        Args:
            pyramid: as in `logits`.
            grid: of the result.
            prompts: keep only the connected components of a structure that one of its prompts lies in, but all components
                of those in `fragmented_`; without prompts, all components are kept.
            threshold: as in `labeling.predict_labels`.
            unbounded: as in `logits`.
            progress: as in `labeling.predict_labels`.
            cancel: as in `labeling.predict_labels`.

        Raises:
            ProbeError: not fitted, or other features.
            VolumeError: the threshold is not between 0 and 1.
            Cancelled: `cancel` was called.
        """
        return predict_labels(
            lambda label: self.logits(pyramid, [label], unbounded)[0],
            {label: self.names_[label] for label in self.labels_},
            pyramid.body,
            pyramid.grid if grid is None else grid,
            threshold=threshold,
            seeds=None if prompts is None else self.seeds(prompts),
            progress=progress,
            cancel=cancel,
        )

    def seeds(self, prompts: Prompts) -> dict[int, NDArray[np.float64]]:
        """(N, 3) RAS points by label of the structures whose components must hold one: all but those in `fragmented_`."""
        return {n: prompts.points_ras[prompts.labels == n] for n in self.labels_ if n not in self.fragmented_}

    def require_features_of(self, pyramid: FeaturePyramid) -> None:
        """Raise ProbeError if the features of a scan are not of the kind it was fitted on."""
        self._require_fitted()
        if pyramid.signature != self.signature_:
            raise ProbeError(
                "This probe was made on features of another encoder, weights or setting. Embed the scan with the same "
                f"encoder as the probe's (probe: {self.signature_[:60]}..., scan: {pyramid.signature[:60]}...)."
            )

    def predict(self, pyramid: FeaturePyramid, structures: Sequence[int] | None = None) -> torch.Tensor:
        """Probability of each structure at every voxel of the working grid, (S, K, J, I) float32; they need not sum to 1."""
        return self.logits(pyramid, structures).sigmoid_()

    def save(self, path: str | os.PathLike) -> None:
        """Write the probe as safetensors with a JSON header; no pickle.

        The samples for adapting it to other scans are written too: a few megabytes of features at random points.

        Raises:
            ProbeError: not fitted.
            StoreError: the file could not be written; an existing file is unchanged.
        """
        self._require_fitted()
        if self.patients_ is not None:
            write_patients(path, self.patients_, self.signature_, self.parameters)
            return
        parts = ProbeFile(
            self.parameters,
            {label: self.names_[label] for label in self.labels_},
            self.weights_,
            self.image_weights_,
            self.intercept_,
            self.signature_,
            self.prompts_,
            self.scan_key_,
            self.fragmented_,
            self.memory,
        )
        write_probe(path, parts)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Probe:
        """Read a probe that `save` wrote.

        Raises:
            ProbeError: the file is missing, damaged, or no probe.
        """
        if is_of_patients(path):
            patients, signature, parameters = read_patients(path)
            probe = cls(**{name: parameters[name] for name in _PARAMETERS})
            probe._know(patients, signature)
            return probe
        parts = read_probe(path)
        probe = cls(**parts.parameters)
        probe.labels_, probe.names_ = list(parts.names), parts.names
        probe.weights_, probe.image_weights_, probe.intercept_ = parts.weights, parts.image_weights, parts.intercept
        probe.signature_, probe.scan_key_ = parts.signature, parts.scan_key
        probe.prompts_, probe.fragmented_, probe._memory = parts.prompts, parts.fragmented, parts.memory
        return probe

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments that it was made with."""
        return {name: getattr(self, name) for name in _PARAMETERS}

    def _require_fitted(self) -> None:
        if not hasattr(self, "signature_"):
            raise ProbeError("This probe is not fitted yet; call fit(pyramid, prompts) first.")
