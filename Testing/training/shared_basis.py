"""Make the whitening basis that all scans of CoralBay-mini share, from CTs without labels.

Usage: python -m Testing.training.shared_basis --data FOLDER... [--output FILE]

Each folder holds a CT `ct.nii.gz`. As many voxels of each body are drawn, so that a long scan counts no more than a short
one. The same scans give the same file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import CoralBayLib as cb
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.features.shared_basis import SharedBasis, shared_basis_path, write_basis
from CoralBayLib.features.whitening import COMPONENTS, whitening

ENCODER = "coralbay-mini"
VOXELS = 4000


def drawn(pyramid: FeaturePyramid, voxels: int = VOXELS, seed: int = 0) -> torch.Tensor:
    """(N, channels) features of body voxels drawn at random."""
    return pyramid.sample(pyramid.body_points(voxels, np.random.default_rng(seed)))


def basis_of(features: Sequence[torch.Tensor]) -> SharedBasis:
    """The whitening basis of features from several scans."""
    return SharedBasis(*whitening(torch.cat(list(features)), COMPONENTS))


def main() -> None:
    """Embed the scans and write their basis."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, default=shared_basis_path(ENCODER))
    args = parser.parse_args()
    encoder = cb.load_encoder(ENCODER, device="cpu")
    features, signature = [], ""
    for folder in sorted(args.data, key=lambda folder: folder.name):
        pyramid = cb.embed(cb.read_volume(folder / "ct.nii.gz"), encoder, store=cb.Store())
        features.append(drawn(pyramid))
        signature = pyramid.signature
        print(folder.name, *features[-1].shape, flush=True)
    write_basis(args.output, basis_of(features), signature, sorted(folder.name for folder in args.data))
    print(f"{args.output}: {args.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
