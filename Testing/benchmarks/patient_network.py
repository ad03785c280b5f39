"""A 3D U-Net that is trained from scratch on the labeled patients, a peer of a probe of several patients (see `patients`)."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from CoralBayLib.core.progress import CancelToken, raise_if_cancelled
from CoralBayLib.evaluation.method import Lesson
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import interpolate, resample

from .patient_methods import isotropic, largest_pieces

SPACING_MM = 4.0
"""Spacing of the isotropic grid; the patients of the benchmark have voxels of about 4 x 4 x 2.5 mm."""
_PATCH, _BATCH = 64, 2
_CHANNELS, _STRIDES = (16, 32, 64, 128), (2, 2, 2)
_RATE, _DECAY = 2e-3, 1e-4
_WINDOW_HU = (-200.0, 300.0)
_NEVER = -1e4
"""Logit of a class that is not asked for."""


@dataclass(frozen=True, eq=False)
class Example:
    """A labeled patient: (1, K, J, I) image and labels on an isotropic grid, and the names that were looked for, by label."""

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    names: Mapping[int, str]


class UNet:
    """MONAI's residual U-Net with Dice and cross-entropy loss, random crops and augmentation; largest pieces are kept.

    Args:
        minutes: of training, counted as processor time over all threads, so that programs beside it do not shorten it.
        threads: to train with; all cores by default.
        least_steps: of the optimizer, also if the time is over.
    """

    def __init__(self, minutes: float, threads: int | None = None, least_steps: int = 1) -> None:
        self.minutes, self.threads, self.least_steps = minutes, threads or os.cpu_count() or 1, least_steps
        self.version = f"unet 1, {minutes:g} minutes of {self.threads} threads"

    def learn(self, lesson: Lesson, cancel: CancelToken | None = None) -> Example:
        """See `Method`."""
        pyramid, labelmap = lesson.load()
        image = _image(pyramid)
        labels = resample(labelmap, image.grid, "nearest").array
        labels = np.where(np.isin(labels, list(lesson.names)), labels, 0).astype(np.uint8)
        return Example(image.array[None], labels[None], dict(lesson.names))

    def combine(self, parts: Sequence[Example], cancel: CancelToken | None = None) -> tuple[torch.nn.Module, list[int]]:
        """See `Method`."""
        labels = sorted({label for part in parts for label in part.names})
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return self._trained(parts, labels, cancel), labels
        finally:
            torch.set_num_threads(before)

    def predict(
        self,
        model: tuple[torch.nn.Module, list[int]],
        pyramid: FeaturePyramid,
        grid: Grid,
        cancel: CancelToken | None = None,
    ) -> Volume:
        """See `Method`."""
        from monai.inferers import sliding_window_inference

        network, labels = model
        image = _image(pyramid)
        with torch.no_grad():
            logits = sliding_window_inference(
                torch.from_numpy(image.array)[None, None], (_PATCH,) * 3, 1, network, overlap=0.5, mode="gaussian"
            )
        probability = interpolate(torch.softmax(logits[0], dim=0), image.grid, grid)
        found = np.array([0, *labels], np.uint8)[probability.argmax(dim=0).numpy()]
        return Volume(largest_pieces(found, labels), grid)

    def _trained(self, parts: Sequence[Example], labels: list[int], cancel: CancelToken | None) -> torch.nn.Module:
        from monai.losses import DiceCELoss
        from monai.networks.nets import UNet as Network

        network = Network(3, 1, 1 + len(labels), _CHANNELS, _STRIDES, num_res_units=2, norm="instance").train()
        loss = DiceCELoss(to_onehot_y=True, softmax=True)
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
        most, start, batches = self.minutes * 60 * self.threads, time.process_time(), _batches(parts, labels)
        step, done = 0, 0.0
        while done < 1 or step < self.least_steps:
            raise_if_cancelled(cancel)
            for group in optimizer.param_groups:
                group["lr"] = _RATE * 0.5 * (1 + math.cos(math.pi * min(done, 1)))
            images, targets, unknown = next(batches)
            with torch.enable_grad():
                optimizer.zero_grad()
                loss(known_logits(network(images), unknown), targets).backward()
                optimizer.step()
            step += 1
            done = (time.process_time() - start) / most if most else 1.0
        return network.eval()


def known_logits(logits: torch.Tensor, unknown: torch.Tensor) -> torch.Tensor:
    """Logits in which background stands for itself and for the structures that were not looked for in a patient.

    Args:
        logits: (N, C, K, J, I); background is first.
        unknown: (N, C) which classes were not looked for.
    """
    mask = unknown[:, :, None, None, None]
    either = mask.clone()
    either[:, 0] = True
    background = torch.logsumexp(logits.masked_fill(~either, _NEVER), dim=1, keepdim=True)
    return torch.cat([background, logits.masked_fill(mask, _NEVER)[:, 1:]], dim=1)


def _image(pyramid: FeaturePyramid) -> Volume:
    """The CT on an isotropic grid, with values of about unit size."""
    grid = isotropic(pyramid.grid, SPACING_MM)
    low, high = _WINDOW_HU
    image = np.clip(resample(pyramid.image, grid).array, low, high)
    return Volume(((image - low) / (high - low) * 2 - 1).astype(np.float32), grid)


def _batches(
    parts: Sequence[Example], labels: Sequence[int], seed: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Augmented crops without end: images (N, 1, ...), classes (N, 1, ...), and (N, C) classes that were not looked for."""
    from monai.transforms import (
        Compose,
        RandAffined,
        RandCropByPosNegLabeld,
        RandGaussianNoised,
        RandScaleIntensityd,
        RandShiftIntensityd,
        SpatialPadd,
    )

    both, size = ["image", "label"], (_PATCH,) * 3
    transform = Compose(
        [
            SpatialPadd(both, size, mode=["edge", "constant"]),
            RandCropByPosNegLabeld(both, "label", size, pos=2, neg=1),
            RandAffined(
                both,
                prob=0.7,
                rotate_range=(0.2,) * 3,
                scale_range=(0.15,) * 3,
                mode=["bilinear", "nearest"],
                padding_mode=["border", "zeros"],
            ),
            RandScaleIntensityd("image", 0.1, prob=0.5),
            RandShiftIntensityd("image", 0.1, prob=0.5),
            RandGaussianNoised("image", prob=0.3, std=0.1),
        ]
    ).set_random_state(seed)
    table = np.zeros(1 + max(labels), np.float32)
    table[list(labels)] = np.arange(1, 1 + len(labels))
    data = [{"image": part.image, "label": table[part.labels]} for part in parts]
    unknown = torch.tensor([[False, *(label not in part.names for label in labels)] for part in parts])
    random = np.random.default_rng(seed)
    while True:
        chosen = random.integers(len(parts), size=_BATCH)
        crops = [transform(data[n])[0] for n in chosen]
        images, targets = (
            torch.stack([torch.as_tensor(crop[key]).as_subclass(torch.Tensor) for crop in crops]) for key in both
        )
        yield images, targets, unknown[torch.from_numpy(chosen)]
