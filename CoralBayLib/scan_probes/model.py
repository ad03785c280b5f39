"""A linear model on scan embeddings that predicts a class, a number or a risk; saved as plain arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax

from CoralBayLib.core import schemas
from CoralBayLib.core.deprecation import deprecated_attribute
from CoralBayLib.core.errors import ProbeError, Remedy, ScansError
from CoralBayLib.core.requirements import SURVIVAL
from CoralBayLib.core.tensor_files import read_tensors, write_tensors

from .labels import SAVED_TASKS, Labels, current_task
from .metrics import leading_score
from .splits import FEWEST_EVENTS, grouped_folds

FORMAT_VERSION = 1
"""Of the file that `ScanProbe.save` writes."""
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse penalties to choose from; they suit some hundred features and some dozen patients."""
SURVIVAL_COMPONENTS = 10
"""The most principal components in a Cox regression; with fewer events than components it has no unique solution."""


class SavedProbe:
    """What probes that are fitted or loaded have in common.

    Attributes:
        task_: "classification", "regression" or "survival".
        classes_: classification: names, in the order of the outputs.
        signature: of the features; set by `load`, or by who fits it.
        target: name of the predicted variable; likewise.
    """

    signature = ""
    target = ""
    task_: str
    classes_: list[str]

    def predictions(self, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """What outputs mean; of two classes there is one output, the logit of the second.

        Args:
            outputs: (N, outputs) logits, numbers in the target's unit, or log risks.

        Returns:
            (N, classes) probabilities, or (N,) numbers or log risks.
        """
        if self.task_ != "classification":
            return outputs[:, 0]
        if len(self.classes_) == 2:
            second = expit(outputs[:, 0])
            return np.stack([1 - second, second], axis=1)
        return softmax(outputs, axis=1)

    def require_fit(self, signature: str) -> None:
        """Refuse features that differ from those the probe was fitted on.

        Args:
            signature: of the features.

        Raises:
            ProbeError: the encoder, its weights or its setting differ.
        """
        if signature != self.signature:
            raise ProbeError(
                "This scan probe was fitted on features of another encoder, weights or setting.",
                remedy=Remedy.CHOOSE_ENCODER,
            )


class ScanProbe(SavedProbe):
    """L2 logistic, ridge or Cox regression on standardized embeddings, folded into one linear map.

    Args:
        strength: inverse of the penalty; None chooses from `STRENGTHS` by cross-validation grouped by patient.

    Attributes:
        kind: "linear".
        task_: "classification", "regression" or "survival".
        classes_: classification: names, in the order of the outputs.
        weights_: (outputs, D) for the raw embedding; one output for two classes (the second's logit), a number or a risk.
        bias_: (outputs,).
        mean_: (D,) average embedding of the scans it was fitted on.
        strength_: the inverse penalty in use.
        signature, pooled: of the features, see `ScanEmbeddings`; set by `load`.
        target: name of the predicted variable; set by `load`.

    Example::

        probe = ScanProbe().fit(vectors, Labels.of("classification", values, patients))
        probability = probe.predict(vectors)          # (N, classes)
        probe.save("emphysema.safetensors")
    """

    kind = "linear"
    pooled: tuple[tuple[str, int], ...] = ()

    def __init__(self, strength: float | None = None) -> None:
        self.strength = strength

    def fit(self, vectors: ArrayLike, labels: Labels, seed: int = 0) -> ScanProbe:
        """Fit to the embeddings of some scans.

        Args:
            vectors: (N, D) embeddings.
            labels: (N,) the truth.
            seed: of the inner splits.

        Raises:
            ScansError: there is one class only, or there are too few scans or events.
        """
        x = np.asarray(vectors, np.float64)
        self.task_, self.classes_ = labels.task, classes_of(labels)
        self.strength_ = self.strength or choose_strength(x, labels, seed)
        mean, scale = x.mean(axis=0), x.std(axis=0)
        # A feature that is constant up to rounding gets no weight; division by its deviation would amplify the rounding.
        scale = np.where(scale > 1e-6 * max(scale.max(), 1e-12), scale, np.inf)
        weights, bias = self._fit_standardized((x - mean) / scale, labels)
        self.weights_ = weights / scale
        self.bias_ = bias - self.weights_ @ mean
        self.mean_ = mean
        return self

    def decision_function(self, vectors: ArrayLike) -> NDArray[np.float64]:
        """The linear outputs.

        Args:
            vectors: (N, D) embeddings.

        Returns:
            (N, outputs) logits, numbers in the target's unit, or log risks.

        Raises:
            ProbeError: the embeddings have another length.
        """
        x = np.asarray(vectors, np.float64)
        if x.shape[-1] != self.weights_.shape[1]:
            raise ProbeError(
                f"This probe expects embeddings of {self.weights_.shape[1]} numbers, but these have {x.shape[-1]}.",
                remedy=Remedy.CHOOSE_ENCODER,
            )
        return x @ self.weights_.T + self.bias_

    decide = deprecated_attribute("decide", "decision_function")

    def predict(self, vectors: ArrayLike) -> NDArray[np.float64]:
        """Predict for some scans.

        Args:
            vectors: (N, D) embeddings.

        Returns:
            Classification: (N, classes) probabilities. Regression: (N,) numbers. Survival: (N,) log risks relative to the
            average scan.

        Raises:
            ProbeError: the embeddings have another length.
        """
        return self.predictions(self.decision_function(vectors))

    def save(
        self, path: str | os.PathLike, signature: str = "", pooled: Sequence[tuple[str, int]] = (), target: str = ""
    ) -> None:
        """Write arrays and a JSON header to a safetensors file; no pickle.

        Args:
            path: of the file.
            signature: of the features that the probe was fitted on.
            pooled: see `ScanEmbeddings.pooled`.
            target: name of the predicted variable.

        Raises:
            StoreError: the file could not be written; a file that existed before is unchanged.
        """
        header = {
            "format": FORMAT_VERSION,
            "task": SAVED_TASKS[self.task_],
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
        """Read a file that `save` wrote; `signature`, `pooled` and `target` become attributes.

        Raises:
            ProbeError: the file is missing, damaged or not a scan probe.
        """
        header, tensors = read_tensors(path, "scan probe", schemas.SCAN_PROBE)
        if header.get("format") != FORMAT_VERSION:
            raise ProbeError(f"This scan probe has format {header.get('format')}; this version reads {FORMAT_VERSION}.")
        try:
            probe = cls(float(header["strength"]))
            probe.task_, probe.classes_ = current_task(str(header["task"])), [str(name) for name in header["classes"]]
            if len(tensors["weights"]) != outputs_of(probe.task_, len(probe.classes_)):
                raise ValueError(f"{len(probe.classes_)} classes for {len(tensors['weights'])} outputs")
            probe.strength_ = float(header["strength"])
            probe.weights_, probe.bias_, probe.mean_ = (tensors[name].numpy() for name in ("weights", "bias", "mean"))
            probe.signature, probe.target = str(header["signature"]), str(header["target"])
            probe.pooled = tuple((str(name), int(channels)) for name, channels in header["pooled"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProbeError(f"The scan probe is incomplete ({error}). Fit it again.") from error
        return probe

    def _fit_standardized(self, x: NDArray[np.float64], labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self.task_ == "survival":
            return _cox(x, labels, self.strength_), np.zeros(1)
        from sklearn.linear_model import LogisticRegression, Ridge

        if self.task_ == "regression":
            ridge = Ridge(alpha=1 / self.strength_).fit(x, labels.values)
            return ridge.coef_[None], np.array([ridge.intercept_])
        if len(self.classes_) < 2:
            raise ScansError(f"All scans have the class '{self.classes_[0]}'. Add scans of another class.")
        # Of two classes the second is the positive one, whatever its name.
        truth = labels.values == self.classes_[1] if len(self.classes_) == 2 else labels.values
        logistic = LogisticRegression(C=self.strength_, max_iter=2000).fit(x, truth)
        return logistic.coef_, logistic.intercept_


def outputs_of(task: str, classes: int) -> int:
    """The number of linear outputs, see `ScanProbe.weights_`; 0 for classes that cannot be."""
    if task != "classification":
        return 0 if classes else 1
    return 1 if classes == 2 else classes if classes > 2 else 0


def classes_of(labels: Labels) -> list[str]:
    """Names of the classes, sorted, but of two the positive one last; empty for regression and survival."""
    names = sorted({str(value) for value in labels.values}) if labels.task == "classification" else []
    return names[::-1] if len(names) == 2 and names[0] == labels.positive else names


def choose_strength(x: NDArray[np.float64], labels: Labels, seed: int) -> float:
    """The inverse penalty with the best mean score on held-out patients; of equal scores the strongest penalty.

    Args:
        x: (N, D) standardized embeddings.
        labels: (N,) the truth.
        seed: of the splits.
    """
    folds = grouped_folds(labels, most=4, seed=seed)
    scores = np.zeros(len(STRENGTHS))
    for train, test in folds:
        for n, strength in enumerate(STRENGTHS):
            probe = ScanProbe(strength).fit(x[train], labels.take(train))
            scores[n] += leading_score(probe.predict(x[test]), probe.classes_, labels.take(test))
    return STRENGTHS[int(np.flatnonzero(scores >= scores.max() - 1e-9)[0])] if folds else STRENGTHS[1]


def _cox(x: NDArray[np.float64], labels: Labels, strength: float) -> NDArray[np.float64]:
    """Ridge Cox regression (lifelines) on the leading principal components; (1, D) weights of the standardized embedding."""
    try:
        import pandas
        from lifelines import CoxPHFitter
    except ImportError as error:
        raise ScansError("Survival needs the package lifelines.", remedy=Remedy.INSTALL_PACKAGE, package=SURVIVAL) from error
    events = int(labels.values.sum())
    if events < FEWEST_EVENTS:
        raise ScansError(f"Survival needs at least two scans with an observed event; these have {events}.")
    _, singular, vectors = np.linalg.svd(x, full_matrices=False)
    rank = max(1, min(SURVIVAL_COMPONENTS, events - 1, int((singular > 1e-6 * singular[0]).sum())))
    projection = vectors[:rank].T / (singular[:rank] / np.sqrt(len(x)))
    frame = pandas.DataFrame(x @ projection).assign(time=labels.times, seen=labels.values)
    fitter = CoxPHFitter(penalizer=0.1 / strength / len(x), l1_ratio=0.0).fit(frame, "time", "seen")
    return (projection @ fitter.params_.to_numpy())[None]
