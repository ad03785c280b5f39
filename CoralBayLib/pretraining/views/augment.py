"""Random changes of a crop's values: sharpness, noise and the HU window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

INFERENCE_WINDOW = (-1000.0, 1000.0)
"""The HU window in which the encoders see a scan."""

_FULL_WINDOW = 0.5
"""Part of the crops that are seen in about the window of inference."""

_WINDOWS = ((-600.0, 1500.0), (40.0, 400.0), (300.0, 1800.0), (50.0, 900.0))
"""Center and width in HU of windows for lungs, soft tissue, bone, and contrast-enhanced vessels."""


def change(hu: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """A crop as another scanner might have made it, in a random HU window, scaled to 0..1.

    Args:
        hu: [k, j, i] in HU, with k along S.
        random: source of the changes.
    """
    if random.random() < 0.3:  # thicker slices
        hu = ndimage.gaussian_filter1d(hu, random.uniform(0.4, 1.2), axis=0)
    if random.random() < 0.3:  # a softer kernel
        hu = ndimage.gaussian_filter(hu, random.uniform(0.3, 0.8))
    if random.random() < 0.5:
        hu = hu + random.standard_normal(hu.shape, dtype=np.float32) * np.float32(random.uniform(3, 40))
    low, high = random_window(random)
    return np.clip((hu - low) / (high - low), 0, 1).astype(np.float32)


def random_window(random: np.random.Generator) -> tuple[float, float]:
    """The lower and the upper end of an HU window."""
    if random.random() < _FULL_WINDOW:
        low, high = INFERENCE_WINDOW
        return low + random.normal(0, 15), high + random.normal(0, 30)
    center, width = _WINDOWS[random.integers(len(_WINDOWS))]
    width *= np.exp(random.uniform(-0.3, 0.3))
    center += random.uniform(-0.1, 0.1) * width
    return float(center - width / 2), float(center + width / 2)
