"""The features of one scan, each level at its native stride, and linear maps of them.

Features are never concatenated at full resolution. A linear map commutes with linear interpolation, so a matrix product at
native stride followed by interpolation of the few resulting channels equals, up to rounding, the product with interpolated
features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.deprecation import deprecated_attribute
from CoralBayLib.core.errors import EncoderError
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.imaging.resampling import sum_interpolated

from .whitening import COMPONENTS, SAMPLES, Basis, fit_basis

SIMILARITY_SPACING_MM = (10.0, 30.0)
"""Spacing, mm, of the levels that are used for similarity."""
SIMILARITY_COMPONENTS = 64
"""Most components of the whitening basis for similarity."""
_CHUNK = 1 << 20
"""Numbers converted from half to single precision at a time; eight times faster when they fit into the cache of a CPU."""


@dataclass(frozen=True, eq=False)
class Level:
    """One feature map.

    Attributes:
        name: of the level in the encoder.
        grid: of the features; the center of a feature of stride s is the center of the s^3 voxels it covers.
        features: (C, K, J, I), half precision on the CPU.
    """

    name: str
    grid: Grid
    features: torch.Tensor

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.features.shape[0])

    def sample(self, ras: ArrayLike, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Linear interpolation of the features at points; points outside the grid are clamped to its border.

        Args:
            ras: (N, 3) RAS mm.
            weights: (M, C) to multiply with. This is cheaper before interpolation, because neighboring points share voxels.

        Returns:
            (N, C) float32, or (N, M) with weights.
        """
        index, weight = trilinear_neighbors(self.grid, ras)
        voxels, where = np.unique(index, return_inverse=True)
        values = self.features.reshape(self.channels, -1)[:, torch.from_numpy(voxels)].float()
        rows = values.T.contiguous() if weights is None else values.T @ weights.T
        corners, shares = torch.from_numpy(where.reshape(index.shape)), torch.from_numpy(weight)
        return torch.nn.functional.embedding_bag(corners, rows, per_sample_weights=shares, mode="sum")

    def project(self, weights: torch.Tensor) -> torch.Tensor:
        """Product of (M, C) weights and the features at native stride; returns (M, K, J, I) float32."""
        flat = self.features.reshape(self.channels, -1)
        out = torch.empty(len(weights), flat.shape[1])
        step = max(64, _CHUNK // self.channels)
        for start in range(0, flat.shape[1], step):
            part = slice(start, start + step)
            out[:, part] = weights @ flat[:, part].float()
        return out.reshape(-1, *self.features.shape[1:])


@dataclass(frozen=True, eq=False)
class FeaturePyramid:
    """The features of a scan, with its CT and body mask on the working grid.

    Attributes:
        levels: feature maps from fine to coarse.
        image: the CT on the working grid, int16 HU.
        body: uint8 mask of the patient on the working grid.
        identity: origin of the features: encoder name, SHA-256 of the weights, tiling and version.
        source_grid: the grid of the volume that was embedded.
        key: content address in the store.
        scan_embedding: (D,) global average of the pooled levels, or None if a pooled level was not computed.
        components: most components of the whitening basis.
        stored_basis: the whitening basis, if it was read from the store.
        stored_similarity_basis: the whitening basis of `for_similarity`, if it was read from the store.
    """

    levels: tuple[Level, ...]
    image: Volume
    body: Volume
    identity: dict[str, Any]
    source_grid: Grid
    key: str = ""
    scan_embedding: torch.Tensor | None = None
    components: int = COMPONENTS
    stored_basis: Basis | None = None
    stored_similarity_basis: Basis | None = None

    only = deprecated_attribute("only", "select_levels")

    @cached_property
    def basis(self) -> Basis:
        """The whitening basis: the stored one, or one that is fitted at first use."""
        if self.stored_basis is not None:
            return self.stored_basis
        points = self.body_points(SAMPLES)
        return fit_basis(self.sample(points), torch.from_numpy(points), self.components)

    @cached_property
    def for_similarity(self) -> FeaturePyramid:
        """The levels with a spacing of 10 to 30 mm, with a basis of few components; all levels if there are none of them.

        Finer levels describe texture and coarser levels the position in the body; both make the search for similar regions
        worse.
        """
        low, high = SIMILARITY_SPACING_MM
        middle = tuple(level for level in self.levels if low <= level.grid.spacing_mm.max() <= high)
        return replace(
            self,
            levels=middle or self.levels,
            components=SIMILARITY_COMPONENTS,
            stored_basis=self.stored_similarity_basis,
            stored_similarity_basis=None,
        )

    def body_points(self, count: int, random: np.random.Generator | None = None) -> NDArray[np.float64]:
        """Centers of voxels of the body, drawn at random without replacement.

        Args:
            count: of points at most; a smaller body gives all of its voxels.
            random: draws them; by default always the same.

        Returns:
            (N, 3) RAS mm.
        """
        random = random or np.random.default_rng(0)
        kji = np.argwhere(self.body.array)
        chosen = kji[random.choice(len(kji), min(count, len(kji)), replace=False)]
        return self.grid.to_ras(chosen[:, ::-1])

    @property
    def grid(self) -> Grid:
        """The working grid: canonical axes, `WORKING_MM` or the scan's own coarser spacing, cropped to the patient."""
        return self.image.grid

    @property
    def channels(self) -> int:
        """Number of channels of all levels."""
        return sum(level.channels for level in self.levels)

    @property
    def signature(self) -> str:
        """Identity and levels as text; a probe or basis can be used on all pyramids of the same signature."""
        names = ",".join(f"{level.name}:{level.channels}" for level in self.levels)
        return "|".join([*(str(self.identity[k]) for k in sorted(self.identity)), names])

    def nbytes(self) -> int:
        """Size of features, image and mask in bytes."""
        tensors = sum(level.features.nbytes for level in self.levels)
        return tensors + self.image.array.nbytes + self.body.array.nbytes

    def select_levels(self, names: Sequence[str]) -> FeaturePyramid:
        """The same scan with only some of its levels.

        Raises:
            EncoderError: there is no such level.
        """
        known = {level.name: level for level in self.levels}
        missing = [name for name in names if name not in known]
        if missing:
            raise EncoderError(f"These features have no level {', '.join(missing)}; their levels are {', '.join(known)}.")
        levels = tuple(level for level in self.levels if level.name in names)
        return replace(self, levels=levels, stored_basis=None, stored_similarity_basis=None)

    def sample(self, ras: ArrayLike) -> torch.Tensor:
        """Features of all levels at (N, 3) RAS mm points, clamped to the border; returns (N, channels) float32."""
        return torch.cat([level.sample(ras) for level in self.levels], dim=1)

    def sample_whitened(self, ras: ArrayLike) -> torch.Tensor:
        """Whitened features of all levels at (N, 3) RAS mm points; returns (N, D) float32."""
        return self.sample_linear(ras, self.basis.projection, self.basis.offset)

    def sample_linear(self, ras: ArrayLike, weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """`weights @ features + bias` at points, computed before interpolation.

        Args:
            ras: (N, 3) RAS mm, clamped to the border of each level.
            weights: (M, channels) float32.
            bias: (M,) float32.

        Returns:
            (N, M) float32.
        """
        parts = zip(self.levels, self.split_by_level(weights), strict=True)
        return sum((level.sample(ras, part) for level, part in parts), bias)

    def linear_map(self, weights: torch.Tensor, bias: torch.Tensor | float = 0.0, on: Grid | None = None) -> torch.Tensor:
        """`weights @ features + bias` at every voxel, computed at native stride and interpolated.

        Args:
            weights: (M, channels) float32.
            bias: (M,) or a number.
            on: grid of the result; the working grid by default.

        Returns:
            (M, K, J, I) float32.

        Raises:
            EncoderError: the weights are for another number of channels.
        """
        if weights.shape[1] != self.channels:
            raise EncoderError(
                f"These weights are for {weights.shape[1]} channels, the features have {self.channels}: "
                "they come from another encoder or other levels."
            )
        on = on or self.grid
        first, *others = self.split_by_level(weights)
        level, *rest = self.levels
        # Interpolation weights sum to one, so a constant can be added before interpolation.
        native = level.project(first) + torch.as_tensor(bias, dtype=torch.float32).reshape(-1, 1, 1, 1)
        parts = [(native, level.grid)]
        parts += [(level.project(part), level.grid) for level, part in zip(rest, others, strict=True)]
        return sum_interpolated(parts, on)

    def cosine_map(self, query: torch.Tensor) -> torch.Tensor:
        """Cosine similarity of a whitened query vector and the whitened features at every voxel.

        Args:
            query: (D,) in the whitening basis.

        Returns:
            (K, J, I) float32 in [-1, 1].
        """
        query = query / query.norm().clamp_min(1e-12)
        dot = self.linear_map((query @ self.basis.projection)[None], query @ self.basis.offset)[0]
        return (dot / self.whitened_norm).clamp_(-1, 1)

    @cached_property
    def whitened_norm(self) -> torch.Tensor:
        """Norm of the interpolated whitened features at every working voxel, (K, J, I) float32; computed once.

        It does not depend on the query. Vectors are interpolated, not norms, because a norm is not linear.
        """
        basis = self.basis
        native = [
            (level.project(part), level.grid)
            for level, part in zip(self.levels, self.split_by_level(basis.projection), strict=True)
        ]
        native[0][0].add_(basis.offset.reshape(-1, 1, 1, 1))
        norm = torch.empty(self.grid.shape)
        for slab in _slabs(self.grid, len(basis.projection)):
            on = self.grid.subgrid((0, 0, slab.start), 1, (slab.stop - slab.start, *self.grid.shape[1:]))
            vectors = sum_interpolated(native, on)
            norm[slab] = torch.linalg.vector_norm(vectors, dim=0).clamp_min(1e-12)
        return norm

    def split_by_level(self, weights: torch.Tensor) -> Iterator[torch.Tensor]:
        """Split (M, channels) weights into one (M, C) tensor for each level."""
        return iter(weights.split([level.channels for level in self.levels], dim=1))


def trilinear_neighbors(grid: Grid, ras: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Flat indices (N, 8) and weights (N, 8) of the voxels around each (N, 3) RAS point, clamped to the border."""
    limit = np.array(grid.size) - 1
    ijk = np.clip(grid.to_ijk(ras), 0, limit)
    low = np.minimum(ijk.astype(np.int64), np.maximum(limit - 1, 0))
    fraction = (ijk - low).astype(np.float32)
    index = np.zeros((len(ijk), 8), dtype=np.int64)
    weight = np.ones((len(ijk), 8), dtype=np.float32)
    strides = (1, grid.size[0], grid.size[0] * grid.size[1])
    for corner in range(8):
        for axis in range(3):
            up = corner >> axis & 1
            index[:, corner] += np.minimum(low[:, axis] + up, limit[axis]) * strides[axis]
            weight[:, corner] *= fraction[:, axis] if up else 1 - fraction[:, axis]
    return index, weight


def _slabs(grid: Grid, channels: int, limit_bytes: int = 1 << 25) -> Iterator[slice]:
    thickness = max(1, limit_bytes // (4 * channels * grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], thickness):
        yield slice(start, min(start + thickness, grid.shape[0]))
