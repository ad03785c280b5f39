"""A few-shot probe: one small linear classifier a structure on frozen features, fitted in a moment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import ThreadpoolController

from CoralBayLib.core.errors import ProbeError, PromptError
from CoralBayLib.core.tensor_files import read_tensors, write_tensors
from CoralBayLib.features.pyramid import FeaturePyramid

from .prompts import Prompts
from .transfer import Memory, remember

FORMAT_VERSION = 1
TEMPERATURE = 1.8
"""What log-odds with nearness in them are divided by: their parts are surer together than they are right. Undivided, of
voxels with odds of 95 to 98 in 100 eight to nine and a half in ten were what these said. The likeliest divisor lay between
2.2 after strokes on one slice and 1.2 to 1.6 after eight clicks in simulated sessions on two scans; it is to be measured
anew when `nearness.WEIGHT` or `contrast.WEIGHT` changes. The border at even odds stays where it is. Method: temperature
scaling (Guo and others 2017)."""
_INSISTENCE = 3
_LOUDER = 3.0
_MEMORY = "memory."


@cache
def _blas() -> ThreadpoolController:
    """Looked for once: that takes milliseconds."""
    return ThreadpoolController()


class Probe:
    """One-against-rest logistic regression on whitened deep features, intensity and position; and, on the scan it was
    fitted on, how near a place is to the prompts (see `nearness`) and what the CT says there (see `contrast`).

    Each structure's negatives are the background prompts, the other structures' prompts, and voxels drawn at random
    from the body: these "weak" negatives are nearly all right, since a structure fills little of a body, and they
    speak of all the places the user has not been to.

    Args:
        C: inverse strength of the L2 penalty, as in scikit-learn.
        weak_negatives: how many random body voxels to add; 0 for none.
        max_per_label: prompts of one label beyond this are thinned out evenly over space.

    Attributes:
        labels_: (S,) labels of the structures, sorted.
        names_: their names by label.
        weights_: (S, channels) on the pyramid's features, the whitening folded in.
        image_weights_: (S, image channels) on intensity and position.
        intercept_: (S,).
        signature_: of the features it was fitted on.
        prompts_: what it was fitted on.
        scan_: key of the scan they are of.
        home_: that scan's features, or None when it was loaded from a file.
        scattered_: labels whose prompts lie in many pieces (see `Nearness.in_many_pieces`); further pieces may be anywhere.

    Example::

        probe = Probe().fit(pyramid, prompts)
        probability = probe.predict(pyramid)          # (S, K, J, I) on the working grid
        probe.save("liver.safetensors")
    """

    home_: FeaturePyramid | None = None
    scattered_: frozenset[int] = frozenset()
    _memory: Memory | None = None

    def __init__(self, C: float = 0.01, weak_negatives: int = 1000, max_per_label: int = 1000) -> None:
        self.C = C
        self.weak_negatives = weak_negatives
        self.max_per_label = max_per_label

    def fit(self, pyramid: FeaturePyramid, prompts: Prompts) -> Probe:
        """Learn the structures of some prompts on one scan.

        Args:
            pyramid: the scan's features.
            prompts: of at least one structure, all inside the scan. Background prompts may come later: the weak
                negatives stand for it until then.

        Raises:
            PromptError: no prompts, some outside the scan, background only, or one structure and nothing to tell it from.
        """
        prompts.require_usable(pyramid.source_grid)
        if not self.weak_negatives and len(np.unique(prompts.labels)) < 2:
            raise PromptError(
                f"All prompts are on '{prompts.name(prompts.structures[0])}', and weak negatives are turned off. Add a "
                "click or a stroke on the background, or on another structure."
            )
        kept = prompts.thinned(self.max_per_label)
        basis = pyramid.basis
        weak = slice(0, min(self.weak_negatives, len(basis.points_ras)))
        deep = torch.cat([pyramid.sample_whitened(kept.points_ras), basis.vectors[weak]])
        points = np.concatenate([kept.points_ras, basis.points_ras[weak].numpy()])
        features = torch.cat([deep, pyramid.image_features.sample(points)], dim=1).numpy()
        labels = np.concatenate([kept.labels, np.zeros(len(points) - len(kept), dtype=np.int64)])
        structures = prompts.structures
        # A thread for each structure: one is too small to share, and threads that share wait long on a busy machine.
        with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(torch.get_num_threads()) as threads:
            fitted = list(threads.map(lambda label: self._fit_one(features, labels == label, len(kept)), structures))
        coefficients = torch.from_numpy(np.stack([w for w, _ in fitted])).float()
        on_deep, on_image = coefficients.split([deep.shape[1], coefficients.shape[1] - deep.shape[1]], dim=1)
        self.labels_ = structures
        self.names_ = {label: prompts.name(label) for label in structures}
        self.weights_ = on_deep @ basis.projection
        self.image_weights_ = on_image.contiguous()
        self.intercept_ = torch.tensor([b for _, b in fitted]).float() + on_deep @ basis.offset
        self.signature_ = pyramid.signature
        self.prompts_ = prompts
        own = {label: prompts.labels == label for label in structures}
        self.scattered_ = frozenset(n for n in own if pyramid.nearness.in_many_pieces(prompts.points_ras, own[n]))
        self.scan_ = pyramid.key
        self.home_, self._memory = pyramid, None
        return self

    @property
    def memory(self) -> Memory | None:
        """What it needs to be adapted to other scans (see `transfer`), made at first use; None in files of before there
        was any."""
        if self._memory is None and self.home_ is not None:
            self._memory = remember(self, self.home_)
        return self._memory

    def adapts_to(self, pyramid: FeaturePyramid) -> bool:
        """Whether it is of another scan than this and has what it takes to be adapted."""
        known = self._memory is not None or self.home_ is not None
        return known and not (self.scan_ and self.scan_ == pyramid.key)

    def logits(
        self, pyramid: FeaturePyramid, structures: Sequence[int] | None = None, anywhere: bool | None = None
    ) -> torch.Tensor:
        """Log-odds of each structure at every voxel of the working grid: by appearance, and on the scan it was fitted on
        by the nearness to its prompts and the contrast to its neighbours too; there they are honest (see `TEMPERATURE`).

        Args:
            pyramid, structures: as in `appearance`, and so are the result and the errors.
            anywhere: far from all prompts go by appearance and contrast alone, instead of staying near a structure's own;
                by default for those in `scattered_`.
        """
        self.require_features_of(pyramid)
        wanted = self.labels_ if structures is None else structures
        at_home = bool(pyramid.key) and pyramid.key == self.scan_
        own = {label: self.prompts_.labels == label for label in wanted if at_home and label in self.prompts_.labels}
        points = self.prompts_.points_ras
        with ThreadPoolExecutor(1) as beside:
            # Paths take one core as long as appearance does; neither needs the other.
            leaning = {
                label: beside.submit(
                    pyramid.nearness.leaning, points, mine, label in self.scattered_ if anywhere is None else anywhere
                )
                for label, mine in own.items()
            }
            out = self.appearance(pyramid, structures)
            for label, one in zip(wanted, out, strict=True):
                if label in own:
                    pyramid.contrast.sharpen(points, own[label], one, leaning[label].result().add_to(one))
        return out.div_(TEMPERATURE) if at_home and len(self.prompts_) else out

    def appearance(self, pyramid: FeaturePyramid, structures: Sequence[int] | None = None) -> torch.Tensor:
        """Log-odds of each structure at every voxel of the working grid by what it looks like, in any scan.

        Args:
            pyramid: of the scan the probe was fitted on, or of another embedded in the same way.
            structures: which labels, in this order; all by default.

        Returns:
            (S, K, J, I) float32.

        Raises:
            ProbeError: not fitted, other features, or no such structure.
        """
        self.require_features_of(pyramid)
        unknown = [label for label in structures or () if label not in self.labels_]
        if unknown:
            raise ProbeError(f"The probe knows no structure {unknown}; it knows {self.labels_}.")
        rows = [self.labels_.index(label) for label in (self.labels_ if structures is None else structures)]
        deep = pyramid.linear_map(self.weights_[rows], self.intercept_[rows])
        return pyramid.image_features.add_linear_map(self.image_weights_[rows], deep)

    def require_features_of(self, pyramid: FeaturePyramid) -> None:
        """Refuse a scan whose features are not such as it was fitted on; ProbeError says so."""
        self._require_fitted()
        if pyramid.signature != self.signature_:
            raise ProbeError(
                "This probe was made on features of another encoder, weights or setting. Embed the scan with the same "
                f"encoder as the probe's (probe: {self.signature_[:60]}..., scan: {pyramid.signature[:60]}...)."
            )

    def predict(self, pyramid: FeaturePyramid, structures: Sequence[int] | None = None) -> torch.Tensor:
        """Probability of each structure at every voxel of the working grid; (S, K, J, I) float32, each on its own."""
        return self.logits(pyramid, structures).sigmoid_()

    def save(self, path: str | os.PathLike) -> None:
        """Write the probe as safetensors with a JSON header; no pickle. What it takes to adapt it to other scans goes with
        it: some megabytes of features at places drawn at random.

        Raises:
            ProbeError: not fitted.
            StoreError: the file could not be written; whatever stood there before is untouched.
        """
        self._require_fitted()
        header = {
            "format": FORMAT_VERSION,
            "labels": self.labels_,
            "names": self.names_,
            "signature": self.signature_,
            "scan": self.scan_,
            "scattered": sorted(self.scattered_),
            "parameters": {name: getattr(self, name) for name in ("C", "weak_negatives", "max_per_label")},
        }
        tensors = {"weights": self.weights_, "image_weights": self.image_weights_, "intercept": self.intercept_}
        tensors |= {"points": torch.from_numpy(self.prompts_.points_ras), "told": torch.from_numpy(self.prompts_.labels)}
        if self.memory is not None:
            tensors |= {_MEMORY + name: part for name, part in self.memory.tensors().items()}
        write_tensors(path, "probe", header, tensors)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Probe:
        """Read a probe that `save` wrote.

        Raises:
            ProbeError: the file is missing, damaged, or no probe.
        """
        name = Path(path).name
        header, tensors = read_tensors(path, "probe")
        if header.get("format") != FORMAT_VERSION:
            raise ProbeError(f"{name} is a probe of format {header.get('format')}; this version reads {FORMAT_VERSION}.")
        try:
            probe = cls(**header["parameters"])
            probe.labels_ = [int(label) for label in header["labels"]]
            probe.names_ = {int(label): str(called) for label, called in header["names"].items()}
            probe.signature_ = str(header["signature"])
            probe.weights_, probe.image_weights_ = tensors["weights"], tensors["image_weights"]
            probe.intercept_ = tensors["intercept"]
            # Probes of before there was nearness have no prompts, and go by appearance.
            points, told = tensors.get("points", torch.zeros(0, 3)), tensors.get("told", torch.zeros(0))
            probe.prompts_ = Prompts(points.numpy(), told.numpy(), probe.names_)
            probe.scan_ = str(header.get("scan", ""))
            probe.scattered_ = frozenset(map(int, header.get("scattered", ())))
            kept = {name[len(_MEMORY) :]: part for name, part in tensors.items() if name.startswith(_MEMORY)}
            probe._memory = Memory(**kept) if kept else None
        except (KeyError, TypeError, ValueError) as error:
            raise ProbeError(f"The probe {name} is incomplete ({error}). Fit it again.") from error
        return probe

    def _fit_one(
        self, features: NDArray[np.float32], inside: NDArray[np.bool_], spoken: int
    ) -> tuple[NDArray[np.float64], float]:
        """Coefficients and intercept of one structure; the first `spoken` rows are the user's, the rest weak negatives.

        What the user said and the fit denies is made louder and fitted again: a click that corrects an error is few
        points against many, and must be heard all the same.
        """
        model = LogisticRegression(C=self.C, solver="newton-cholesky", tol=3e-3, max_iter=50, warm_start=True)
        weights = np.ones(len(inside))
        for _ in range(1 + _INSISTENCE):
            balance = np.where(inside, weights[inside].sum(), weights[~inside].sum())
            model.fit(features, inside, sample_weight=weights * len(inside) / (2 * balance))
            denied = (model.decision_function(features[:spoken]) > 0) != inside[:spoken]
            if not denied.any():
                break
            weights[:spoken][denied] *= _LOUDER
        return model.coef_[0], float(model.intercept_[0])

    def _require_fitted(self) -> None:
        if not hasattr(self, "weights_"):
            raise ProbeError("This probe is not fitted yet; call fit(pyramid, prompts) first.")
