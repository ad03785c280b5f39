"""An attentive probe: learned queries weigh the tokens of a scan, so that a small finding is not lost in an average."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import ProbeError, Remedy, ScansError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.core.tensor_files import read_tensors, write_tensors
from CoralBayLib.scan_probes.labels import SAVED_TASKS, Labels, current_task
from CoralBayLib.scan_probes.model import SavedProbe, classes_of, outputs_of
from CoralBayLib.scan_probes.splits import grouped_folds
from CoralBayLib.scan_probes.tokens import ScanTokens

from . import attention
from .calibration import calibrate_classes, calibrate_numbers
from .losses import class_loss, number_loss, survival_loss

FORMAT_VERSION = 1
"""Of the file that `AttentiveProbe.save` writes."""
KIND = "attentive scan probe"
_INNER_FOLDS = 4


class AttentiveProbe(SavedProbe):
    """Attention pooling over the tokens of all levels, with a linear output.

    One model is trained for each inner fold of patients, and stops early by the fold's loss; the probe is their mean. Each
    class has the same weight in training, and the outputs are then calibrated on the held-out folds, which brings back the
    classes' shares.

    Args:
        cancel: checked at each step of the training.

    Attributes:
        kind: "attentive".
        task_, classes_: as in `ScanProbe`.
        levels_: name and number of channels of each level.
        keys_: for each level (queries, channels) float32; a token's score is `keys @ features + key_bias`.
        key_bias_: for each level (queries,) float32.
        values_: for each level (outputs, queries, channels) float32; what a token adds to an output when a query gives it
            all of its weight.
        value_bias_: for each level (outputs, queries) float32, added to the values of each token.
        bias_: (outputs,) float32.
        signature: of the features; set by `load`, or by who fits it.
        target: name of the predicted variable; likewise.
    """

    kind = "attentive"

    def __init__(self, cancel: CancelToken | None = None) -> None:
        self._cancel = cancel

    def fit(self, tokens: ScanTokens, labels: Labels, seed: int = 0) -> AttentiveProbe:
        """Fit to the tokens of some scans.

        Args:
            tokens: of N scans.
            labels: (N,) the truth.
            seed: of the inner splits and of the training.

        Raises:
            ScansError: there is one class only, or there are too few events.
            Cancelled: `cancel` was called.
        """
        self.task_, self.classes_, self.levels_ = labels.task, classes_of(labels), tokens.levels
        if self.task_ == "classification" and len(self.classes_) < 2:
            raise ScansError(f"All scans have the class '{self.classes_[0]}'. Add scans of another class.")
        basis = attention.fit_whitening(tokens)
        batch = attention.whitened(tokens, basis)
        outputs, rows = outputs_of(self.task_, len(self.classes_)), np.arange(len(tokens))
        loss, center, scale = self._loss(labels)
        folds = grouped_folds(labels, most=_INNER_FOLDS, seed=seed)
        models, held_out = [], np.full((len(tokens), outputs), np.nan)
        for number, (train, test) in enumerate(folds or [(rows, None)]):
            model = attention.train(batch, basis.spreads, outputs, loss, train, test, seed + number, self._cancel)
            models.append(model)
            if test is not None:
                with torch.no_grad():
                    held_out[test] = model(batch.take(test), basis.spreads).numpy()
        self._fold_in(basis, models)
        self._calibrate(held_out[~np.isnan(held_out[:, 0])], labels.take(~np.isnan(held_out[:, 0])), labels, center, scale)
        return self

    def decision_function(self, tokens: ScanTokens) -> NDArray[np.float64]:
        """The outputs.

        Args:
            tokens: of N scans.

        Returns:
            (N, outputs) logits, numbers in the target's unit, or log risks.

        Raises:
            ProbeError: the tokens are of other levels.
        """
        self.require_levels(tokens.levels)
        return np.stack([self._one([torch.from_numpy(level.astype(np.float32)) for level in scan]) for scan in tokens.scans])

    def predict(self, tokens: ScanTokens) -> NDArray[np.float64]:
        """Predict for some scans; values as `ScanProbe.predict` returns them.

        Raises:
            ProbeError: the tokens are of other levels.
        """
        return self.predictions(self.decision_function(tokens))

    def require_levels(self, levels: tuple[tuple[str, int], ...]) -> None:
        """Refuse tokens of other levels.

        Raises:
            ProbeError: the levels differ from those that the probe was fitted on.
        """
        if tuple(levels) != self.levels_:
            raise ProbeError(
                "This scan probe was fitted on other levels of features.",
                remedy=Remedy.CHOOSE_ENCODER,
            )

    def save(self, path: str | os.PathLike, signature: str = "", target: str = "") -> None:
        """Write arrays and a JSON header to a safetensors file; no pickle.

        Args:
            path: of the file.
            signature: of the features that the probe was fitted on.
            target: name of the predicted variable.

        Raises:
            StoreError: the file could not be written; a file that existed before is unchanged.
        """
        header = {
            "format": FORMAT_VERSION,
            "task": SAVED_TASKS[self.task_],
            "target": target,
            "classes": self.classes_,
            "signature": signature,
            "levels": [list(level) for level in self.levels_],
        }
        tensors = {"bias": self.bias_}
        for number in range(len(self.levels_)):
            tensors[f"level.{number}.keys"] = self.keys_[number]
            tensors[f"level.{number}.key_bias"] = self.key_bias_[number]
            tensors[f"level.{number}.values"] = self.values_[number]
            tensors[f"level.{number}.value_bias"] = self.value_bias_[number]
        write_tensors(path, KIND, header, {name: tensor.contiguous() for name, tensor in tensors.items()})

    @classmethod
    def load(cls, path: str | os.PathLike) -> AttentiveProbe:
        """Read a file that `save` wrote; `signature` and `target` become attributes.

        Raises:
            ProbeError: the file is missing, damaged or not an attentive scan probe.
        """
        header, tensors = read_tensors(path, KIND, schemas.ATTENTIVE_PROBE)
        if header.get("format") != FORMAT_VERSION:
            raise ProbeError(f"This scan probe has format {header.get('format')}; this version reads {FORMAT_VERSION}.")
        try:
            probe = cls()
            probe.task_, probe.classes_ = current_task(str(header["task"])), [str(name) for name in header["classes"]]
            probe.levels_ = tuple((str(name), int(channels)) for name, channels in header["levels"])
            probe.signature, probe.target = str(header["signature"]), str(header["target"])
            probe._take(tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise ProbeError(f"The scan probe is incomplete ({error}). Fit it again.") from error
        return probe

    def _take(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Use a file's tensors.

        Raises:
            KeyError: one is missing.
            ValueError: their shapes do not fit the classes and the levels.
        """

        def of_levels(name: str) -> tuple[torch.Tensor, ...]:
            return tuple(tensors[f"level.{number}.{name}"] for number in range(len(self.levels_)))

        self.bias_ = tensors["bias"]
        self.keys_, self.key_bias_ = of_levels("keys"), of_levels("key_bias")
        self.values_, self.value_bias_ = of_levels("values"), of_levels("value_bias")
        queries, outputs = len(self.keys_[0]), outputs_of(self.task_, len(self.classes_))
        for number, (_, channels) in enumerate(self.levels_):
            found = [tuple(each[number].shape) for each in (self.keys_, self.key_bias_, self.values_, self.value_bias_)]
            if found != [(queries, channels), (queries,), (outputs, queries, channels), (outputs, queries)]:
                raise ValueError(f"{queries} queries and {outputs} outputs do not fit the tensors of level {number}")
        if self.bias_.shape != (outputs,) or len(tensors) != 4 * len(self.levels_) + 1:
            raise ValueError(f"{len(tensors)} tensors for {len(self.levels_)} levels")

    def _one(self, scan: list[torch.Tensor]) -> NDArray[np.float64]:
        """(outputs,) for the tokens of one scan, by level."""
        scores = [
            x @ keys.T + bias - float(np.log(len(x))) for x, keys, bias in zip(scan, self.keys_, self.key_bias_, strict=True)
        ]
        weights = torch.softmax(torch.cat(scores), dim=0).split([len(x) for x in scan])
        out = self.bias_.clone()
        for x, weight, values, bias in zip(scan, weights, self.values_, self.value_bias_, strict=True):
            out = out + torch.einsum("qc,oqc->o", weight.T @ x, values) + bias @ weight.sum(dim=0)
        return out.double().numpy()

    def _loss(self, labels: Labels) -> tuple[attention.Loss, float, float]:
        """The loss of the task, and mean and deviation of the numbers to predict."""
        if self.task_ == "classification":
            index = np.array([self.classes_.index(str(value)) for value in labels.values])
            return class_loss(index, len(self.classes_)), 0.0, 1.0
        if self.task_ == "survival":
            events = int(labels.values.sum())
            if events < 2:
                raise ScansError(f"Survival needs at least two scans with an observed event; these have {events}.")
            return survival_loss(labels), 0.0, 1.0
        center, scale = float(np.mean(labels.values)), float(np.std(labels.values)) or 1.0
        return number_loss((labels.values - center) / scale), center, scale

    def _fold_in(self, basis: attention.Whitening, models: list[attention.Attention]) -> None:
        """Write whitening and models as linear maps of raw features; the queries of all models become those of one."""
        keys, key_bias, values, value_bias = [], [], [], []
        bias = torch.stack([model.bias for model in models]).mean(dim=0)
        queries = len(models) * attention.QUERIES
        for number, (projection, offset, spread) in enumerate(
            zip(basis.projections, basis.offsets, basis.spreads, strict=True)
        ):
            white = torch.cat([model.keys[number] for model in models])
            keys.append(white[:, :-1] @ projection)
            key_bias.append(white[:, :-1] @ offset + white[:, -1])
            parts = [model.values[number].reshape(attention.QUERIES, len(bias), -1) for model in models]
            read = (torch.cat(parts) / spread / queries).transpose(0, 1)
            values.append(read @ projection)
            value_bias.append(read @ offset)
        self.keys_, self.key_bias_, self.bias_ = tuple(keys), tuple(key_bias), bias
        self.values_, self.value_bias_ = tuple(values), tuple(value_bias)

    def _calibrate(self, outputs: NDArray, held_out: Labels, labels: Labels, center: float, spread: float) -> None:
        """Scale and shift the outputs by those of the held-out scans, and numbers to the unit of the target."""
        if self.task_ == "survival":
            return
        if self.task_ == "regression":
            scale, shift = calibrate_numbers(outputs[:, 0], (held_out.values - center) / spread)
            scale, shifts = scale * spread, np.array([shift * spread + center])
        else:
            shares = np.array([np.mean(labels.values == name) for name in self.classes_])
            truth = np.array([self.classes_.index(str(value)) for value in held_out.values], int)
            scale, shifts = calibrate_classes(outputs, truth, shares)
        self.values_ = tuple(scale * values for values in self.values_)
        self.value_bias_ = tuple(scale * bias for bias in self.value_bias_)
        self.bias_ = scale * self.bias_ + torch.from_numpy(shifts).float()
