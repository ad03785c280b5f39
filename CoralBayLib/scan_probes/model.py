"""A linear model on scan embeddings: classes, a number, or a risk; kept as plain arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax

from CoralBayLib.core.errors import ProbeError, ScansError
from CoralBayLib.core.tensor_files import read_tensors, write_tensors

from .splits import grouped_folds
from .table import Labels

FORMAT_VERSION = 1
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties that are tried; embeddings have hundreds of numbers and studies dozens of patients."""
SURVIVAL_COMPONENTS = 10
"""Cox regression sees so many principal components at most: with fewer events than that it has no unique answer."""


class ScanProbe:
    """L2 logistic, ridge or Cox regression on standardised embeddings, folded into one linear map.

    Args:
        strength: inverse of the penalty; None chooses among `STRENGTHS` by cross-validation grouped by patient.

    Attributes:
        task_: "classify", "regress" or "survive".
        classes_: classify: names, in the order of the outputs.
        weights_: (outputs, D) on the raw embedding; one output for two classes (the second's logit), a number or a risk.
        bias_: (outputs,).
        strength_: the one used.

    Example::

        probe = ScanProbe().fit(vectors, Labels.of("classify", values, patients))
        probability = probe.predict(vectors)          # (N, classes)
        probe.save("emphysema.safetensors")
    """

    def __init__(self, strength: float | None = None) -> None:
        self.strength = strength

    def fit(self, vectors: ArrayLike, labels: Labels, seed: int = 0) -> ScanProbe:
        """Learn from some scans.

        Args:
            vectors: (N, D) embeddings.
            labels: what is known of them.
            seed: of the inner splits.

        Raises:
            ScansError: one class only, or too few scans.
        """
        x = np.asarray(vectors, np.float64)
        self.task_, self.classes_ = labels.task, classes_of(labels)
        self.strength_ = self.strength or chosen_strength(x, labels, seed)
        mean, scale = x.mean(axis=0), x.std(axis=0)
        # A number that hardly varies among these scans says nothing; dividing by its noise would make it shout.
        scale = np.where(scale > 1e-6 * max(scale.max(), 1e-12), scale, np.inf)
        weights, bias = self._fit_standardised((x - mean) / scale, labels)
        self.weights_ = weights / scale
        self.bias_ = bias - self.weights_ @ mean
        self.mean_ = mean
        return self

    def decide(self, vectors: ArrayLike) -> NDArray[np.float64]:
        """(N, outputs) logits, numbers or log risks."""
        x = np.asarray(vectors, np.float64)
        if x.shape[-1] != self.weights_.shape[1]:
            raise ProbeError(f"This probe is for embeddings of {self.weights_.shape[1]} numbers, these have {x.shape[-1]}.")
        return x @ self.weights_.T + self.bias_

    def predict(self, vectors: ArrayLike) -> NDArray[np.float64]:
        """classify: (N, classes) probabilities; regress: (N,) numbers; survive: (N,) log risks relative to the average."""
        decided = self.decide(vectors)
        if self.task_ != "classify":
            return decided[:, 0]
        if len(self.classes_) == 2:
            second = expit(decided[:, 0])
            return np.stack([1 - second, second], axis=1)
        return softmax(decided, axis=1)

    def save(
        self, path: str | os.PathLike, signature: str = "", pooled: Sequence[tuple[str, int]] = (), target: str = ""
    ) -> None:
        """Write arrays and a JSON header to a safetensors file; no pickle.

        Args:
            path: where to.
            signature: of the features it was learnt on.
            pooled: see `ScanEmbeddings.pooled`.
            target: what it says.

        Raises:
            StoreError: the file could not be written; whatever stood there before is untouched.
        """
        header = {
            "format": FORMAT_VERSION,
            "task": self.task_,
            "target": target,
            "classes": self.classes_,
            "strength": self.strength_,
            "signature": signature,
            "pooled": [list(level) for level in pooled],
        }
        arrays = {"weights": self.weights_, "bias": self.bias_, "mean": self.mean_}
        write_tensors(path, "scan probe", header, {name: torch.from_numpy(array) for name, array in arrays.items()})

    @classmethod
    def load(cls, path: str | os.PathLike) -> ScanProbe:
        """Read what `save` wrote; `signature`, `pooled` and `target` become attributes.

        Raises:
            ProbeError: the file is missing, damaged or something else.
        """
        header, tensors = read_tensors(path, "scan probe")
        if header.get("format") != FORMAT_VERSION:
            raise ProbeError(f"This scan probe has format {header.get('format')}; this version reads {FORMAT_VERSION}.")
        try:
            probe = cls(float(header["strength"]))
            probe.task_, probe.classes_ = str(header["task"]), [str(name) for name in header["classes"]]
            probe.strength_ = float(header["strength"])
            probe.weights_, probe.bias_, probe.mean_ = (tensors[name].numpy() for name in ("weights", "bias", "mean"))
            probe.signature, probe.target = str(header["signature"]), str(header["target"])
            probe.pooled = tuple((str(name), int(channels)) for name, channels in header["pooled"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProbeError(f"The scan probe is incomplete ({error}). Fit it again.") from error
        return probe

    signature = ""
    target = ""
    pooled: tuple[tuple[str, int], ...] = ()

    def _fit_standardised(self, x: NDArray[np.float64], labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self.task_ == "survive":
            return _cox(x, labels, self.strength_), np.zeros(1)
        from sklearn.linear_model import LogisticRegression, Ridge

        if self.task_ == "regress":
            ridge = Ridge(alpha=1 / self.strength_).fit(x, labels.values)
            return ridge.coef_[None], np.array([ridge.intercept_])
        if len(self.classes_) < 2:
            raise ScansError(f"All scans are '{self.classes_[0]}': there is nothing to tell apart. Add scans of another class.")
        logistic = LogisticRegression(C=self.strength_, max_iter=2000).fit(x, labels.values)
        return logistic.coef_, logistic.intercept_


def classes_of(labels: Labels) -> list[str]:
    """Names of the classes, sorted; none where it is not classes that are learnt."""
    return sorted({str(value) for value in labels.values}) if labels.task == "classify" else []


def chosen_strength(x: NDArray[np.float64], labels: Labels, seed: int) -> float:
    """The strength with the best score on patients left out, averaged over folds; of equals the strongest penalty."""
    from .metrics import leading_score

    folds = grouped_folds(labels, most=4, seed=seed)
    scores = np.zeros(len(STRENGTHS))
    for train, test in folds:
        for n, strength in enumerate(STRENGTHS):
            scores[n] += leading_score(ScanProbe(strength).fit(x[train], labels.take(train)), x[test], labels.take(test))
    return STRENGTHS[int(np.flatnonzero(scores >= scores.max() - 1e-9)[0])] if folds else STRENGTHS[1]


def _cox(x: NDArray[np.float64], labels: Labels, strength: float) -> NDArray[np.float64]:
    """Ridge Cox regression (lifelines) on the leading principal components, as (1, D) weights of the standardised embedding."""
    try:
        import pandas
        from lifelines import CoxPHFitter
    except ImportError as error:
        raise ScansError("Survival needs the package lifelines: pip install lifelines") from error
    events = int(labels.values.sum())
    if events < 2:
        raise ScansError("Fewer than two of these scans saw the event: there is no risk to learn.")
    _, singular, vectors = np.linalg.svd(x, full_matrices=False)
    rank = max(1, min(SURVIVAL_COMPONENTS, events - 1, int((singular > 1e-6 * singular[0]).sum())))
    turn = vectors[:rank].T / (singular[:rank] / np.sqrt(len(x)))
    frame = pandas.DataFrame(x @ turn).assign(time=labels.times, seen=labels.values)
    fitter = CoxPHFitter(penalizer=0.1 / strength / len(x), l1_ratio=0.0).fit(frame, "time", "seen")
    return (turn @ fitter.params_.to_numpy())[None]
