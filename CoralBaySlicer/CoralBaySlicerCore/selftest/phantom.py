"""Data that the self-test makes itself: a phantom, and an untrained network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer


def make_phantom(
    ijk_to_ras: np.ndarray | None = None, name: str = "Phantom", seed: int = 0
) -> tuple[slicer.vtkMRMLScalarVolumeNode, np.ndarray]:
    """A volume node with a body of soft tissue and two bright balls in air, and the center of the first ball, (3,) RAS mm."""
    if ijk_to_ras is None:
        ijk_to_ras = np.array([[-2.0, 0, 0, 48.0], [0, -2.0, 0, 48], [0, 0, 2.5, -50], [0, 0, 0, 1]])
    shape = (40, 48, 48)
    k, j, i = np.indices(shape)
    ras = np.stack([i, j, k], axis=-1) @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    middle = ijk_to_ras[:3, :3] @ (np.array(shape[::-1]) - 1) / 2 + ijk_to_ras[:3, 3]
    aside = np.array([16.0, 0, 0])
    center = middle + aside
    hu = np.where(np.linalg.norm(ras - middle, axis=-1) < 40, 40.0, -1000.0)
    for ball in (center, middle - aside):
        hu[np.linalg.norm(ras - ball, axis=-1) < 9] = 300
    hu += np.random.default_rng(seed).normal(0, 8, shape)
    node = slicer.util.addVolumeFromArray(np.round(hu).astype(np.int16), ijkToRAS=ijk_to_ras, name=name)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevelMinMax(-160, 400)
    return node, center


def write_random_checkpoint(path: Path) -> None:
    """Write an untrained CoralBay network of a quarter of the width, for tests that do not depend on its features."""
    import torch
    from safetensors.torch import save_file

    from CoralBayLib.encoders.coralbay import CoralBayNetwork

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CoralBayNetwork(feature_size=12)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
