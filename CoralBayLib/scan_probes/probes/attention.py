"""Training of attention pooling: a few learned queries weigh the tokens of a scan, and a linear map reads the weighted mean.

A query's score of a token is linear in the token's features, and so is what the token adds to the output. A model is
therefore, for each level, one linear map for the scores and one for the values. Both begin at about zero: the first model is
a linear probe on plain averages, and the queries leave it only where that lowers the loss on held-out patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.features.whitening import whitening
from CoralBayLib.scan_probes.tokens import ScanTokens

QUERIES = 4
"""Learned queries of a model."""
COMPONENTS = 32
"""Most principal components of a level's tokens."""
MAX_STEPS, PATIENCE = 300, 30
"""Most steps of a training; steps without a lower held-out loss after which it ends."""
STEPS_WITHOUT_HELD_OUT = 40
"""Steps where there are too few patients to hold some out."""
_LEARNING_RATE, _WEIGHT_DECAY = 5e-3, 0.3
_KEPT_TOKENS = 0.5
"""Fraction of the tokens that a step sees, drawn anew for each."""
_PCA_TOKENS = 20_000

Loss = Callable[[torch.Tensor, NDArray[np.int64]], torch.Tensor]
"""The loss of (N, outputs) for the scans of these rows; lower is better."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Whitened tokens of scans, padded to equal numbers.

    Attributes:
        levels: for each level (N, T, D) float32.
        log_weights: (N, tokens of all levels) float32; minus infinity for padding, otherwise minus the log of the number
            of tokens of the scan's level, so that each level has the same total weight before training.
    """

    levels: tuple[torch.Tensor, ...]
    log_weights: torch.Tensor

    def take(self, rows: NDArray[np.int64]) -> Batch:
        """Some of the scans."""
        index = torch.from_numpy(rows)
        return Batch(tuple(level[index] for level in self.levels), self.log_weights[index])


@dataclass(frozen=True, eq=False)
class Whitening:
    """Projection of each level's tokens, fitted on the scans of a training part.

    Attributes:
        projections: for each level (D, channels).
        offsets: for each level (D,).
        spreads: for each level (D,), deviation of the scans' mean tokens; values are divided by it.
    """

    projections: tuple[torch.Tensor, ...]
    offsets: tuple[torch.Tensor, ...]
    spreads: tuple[torch.Tensor, ...]


@dataclass(frozen=True, eq=False)
class Attention:
    """A trained model on whitened tokens.

    Attributes:
        keys: for each level (queries, D + 1), the last column added to every token's score.
        values: for each level (queries * outputs, D), of values divided by their spread.
        bias: (outputs,).
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    bias: torch.Tensor

    def __call__(self, batch: Batch, spreads: Sequence[torch.Tensor]) -> torch.Tensor:
        """(N, outputs) for a batch."""
        scores = torch.cat([x @ key[:, :-1].T + key[:, -1] for x, key in zip(batch.levels, self.keys, strict=True)], dim=1)
        attention = torch.softmax(scores + batch.log_weights[..., None], dim=1)
        queries, outputs = attention.shape[2], len(self.bias)
        pooled, start = self.bias, 0
        for x, value, spread in zip(batch.levels, self.values, spreads, strict=True):
            means = attention[:, start : start + x.shape[1]].transpose(1, 2) @ x / spread
            pooled = pooled + torch.einsum("nqd,qod->no", means, value.reshape(queries, outputs, -1)) / queries
            start += x.shape[1]
        return pooled


def fit_whitening(tokens: ScanTokens) -> Whitening:
    """Fit the projection of each level on the tokens of a training part."""
    projections, offsets, spreads = [], [], []
    for number, (_, channels) in enumerate(tokens.levels):
        rows = np.concatenate([scan[number] for scan in tokens.scans])
        if len(rows) > _PCA_TOKENS:
            rows = rows[np.random.default_rng(0).choice(len(rows), _PCA_TOKENS, replace=False)]
        projection, offset = whitening(torch.from_numpy(rows.astype(np.float32)), min(COMPONENTS, channels))
        means = np.stack([scan[number].astype(np.float32).mean(axis=0) for scan in tokens.scans])
        spread = (torch.from_numpy(means) @ projection.T).std(dim=0, correction=0)
        projections.append(projection)
        offsets.append(offset)
        # A component whose means do not differ between scans would be divided by its rounding error.
        spreads.append(spread.clamp_min(1e-2))
    return Whitening(tuple(projections), tuple(offsets), tuple(spreads))


def whitened(tokens: ScanTokens, basis: Whitening) -> Batch:
    """The tokens of scans, projected and padded."""
    levels, log_weights = [], []
    for number, (projection, offset) in enumerate(zip(basis.projections, basis.offsets, strict=True)):
        counts = [len(scan[number]) for scan in tokens.scans]
        padded = torch.zeros(len(tokens), max(counts), len(projection))
        weights = torch.full((len(tokens), max(counts)), -torch.inf)
        for row, (scan, count) in enumerate(zip(tokens.scans, counts, strict=True)):
            padded[row, :count] = torch.from_numpy(scan[number].astype(np.float32)) @ projection.T + offset
            weights[row, :count] = -float(np.log(count))
        levels.append(padded)
        log_weights.append(weights)
    return Batch(tuple(levels), torch.cat(log_weights, dim=1))


def train(
    batch: Batch,
    spreads: Sequence[torch.Tensor],
    outputs: int,
    loss: Loss,
    train_rows: NDArray[np.int64],
    held_out: NDArray[np.int64] | None,
    seed: int = 0,
    cancel: CancelToken | None = None,
) -> Attention:
    """Train one model; it stops early by the loss on held-out scans.

    Args:
        batch: of all scans of the training part.
        spreads: of `Whitening`.
        outputs: number of outputs.
        loss: of outputs for rows.
        train_rows: rows to fit to.
        held_out: rows of other patients; None trains for `STEPS_WITHOUT_HELD_OUT` steps.
        seed: of the first queries and of the tokens that a step sees.
        cancel: checked at each step.

    Raises:
        Cancelled: `cancel` was called.
    """
    random = torch.Generator().manual_seed(seed)
    keys = [0.1 * torch.randn(QUERIES, x.shape[2] + 1, generator=random) for x in batch.levels]
    values = [torch.zeros(QUERIES * outputs, x.shape[2]) for x in batch.levels]
    bias = torch.zeros(outputs)
    parameters = [tensor.requires_grad_() for tensor in (*keys, *values, bias)]
    model = Attention(tuple(keys), tuple(values), bias)
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    fitted, tested = batch.take(train_rows), batch.take(held_out) if held_out is not None else None
    best, lowest, since = _copy(model), float("inf"), 0
    for _ in range(STEPS_WITHOUT_HELD_OUT if tested is None else MAX_STEPS):
        raise_if_cancelled(cancel)
        optimizer.zero_grad()
        loss(model(_thinned(fitted, random), spreads), train_rows).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if tested is None:
            best = _copy(model)
            continue
        with torch.no_grad():
            now = float(loss(model(tested, spreads), np.asarray(held_out)))
        since += 1
        if now < lowest - 1e-4:
            best, lowest, since = _copy(model), now, 0
        if since >= PATIENCE:
            break
    return best


def _thinned(batch: Batch, random: torch.Generator) -> Batch:
    """A random part of the tokens, the same columns for all scans; the first, which no scan lacks, is always among them."""
    columns, start = [], 0
    chosen = []
    for x in batch.levels:
        count = x.shape[1]
        kept = torch.randperm(count - 1, generator=random)[: int(_KEPT_TOKENS * count)] + 1
        chosen.append(torch.cat([torch.zeros(1, dtype=torch.long), kept]))
        columns.append(chosen[-1] + start)
        start += count
    levels = tuple(x[:, index] for x, index in zip(batch.levels, chosen, strict=True))
    return Batch(levels, batch.log_weights[:, torch.cat(columns)])


def _copy(model: Attention) -> Attention:
    def copies(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return tuple(tensor.detach().clone() for tensor in tensors)

    return Attention(copies(model.keys), copies(model.values), model.bias.detach().clone())
