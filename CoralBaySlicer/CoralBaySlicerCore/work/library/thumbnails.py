"""Thumbnails of positions in scans, made from their files on a worker."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.progress import CancelToken
from CoralBayLib.imaging.grid import Volume
from CoralBaySlicerCore.scene.colors import LIBRARY_REGION
from CoralBaySlicerCore.work.worker import Task, TaskProgress, Worker

PIXELS = 72
"""Width and height of a thumbnail."""
_FIELD_MM = 160.0
"""Width and height of what a thumbnail of a position shows."""
_WINDOW_HU = (-160.0, 240.0)

Position = tuple[float, float, float] | None
"""RAS mm in the scan's own space; None for the whole slice through the middle of the scan."""


class Thumbnails:
    """Makes thumbnails, one scan after the other, and keeps those of the last request.

    Args:
        worker: reads the scans.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._known: dict[Hashable, NDArray[np.uint8]] = {}
        self._tasks: list[Task] = []

    def request(
        self,
        sources: Mapping[str, Callable[[], Volume]],
        positions: Iterable[tuple[str, Position]],
        on_made: Callable[[str, Position, NDArray[np.uint8]], None],
    ) -> None:
        """Have thumbnails made, in place of those requested before.

        Args:
            sources: by the scan's ID, a function that reads its `Volume`; called on the worker.
            positions: scans' IDs and positions in them; those of scans without a source are ignored.
            on_made: called on the main thread with each thumbnail, uint8 [row, column, RGB].
        """
        self.stop()
        missing: dict[str, list[Position]] = {}
        known: dict[Hashable, NDArray[np.uint8]] = {}
        for scan, position in positions:
            if (scan, position) in self._known:
                known[scan, position] = self._known[scan, position]
                on_made(scan, position, known[scan, position])
            elif scan in sources:
                missing.setdefault(scan, []).append(position)
        self._known = known
        for scan, of_scan in missing.items():
            self._tasks.append(self._worker.start(self._task(scan, of_scan, sources[scan], on_made)))

    def stop(self) -> None:
        """Cancel what is not made yet."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    def _task(self, scan: str, positions: list[Position], read: Callable[[], Volume], on_made: Callable) -> Task:
        def run(_progress: TaskProgress, cancel: CancelToken) -> list[NDArray[np.uint8]]:
            volume = read()
            cancel.raise_if_cancelled()
            return [render(volume, position) for position in positions]

        def done(thumbnails: list[NDArray[np.uint8]]) -> None:
            for position, thumbnail in zip(positions, thumbnails, strict=True):
                self._known[scan, position] = thumbnail
                on_made(scan, position, thumbnail)

        task = Task(run)
        task.on_done = done
        # The row stays without a thumbnail; opening the scan shows what is wrong with its file.
        task.on_failed = lambda error: None
        return task


def render(volume: Volume, position: ArrayLike | None, pixels: int = PIXELS) -> NDArray[np.uint8]:
    """An axial slice, seen from the feet, in a soft-tissue window; air outside the scan.

    Args:
        volume: a `Volume` in HU.
        position: (3,) RAS mm of the center of the image, which is marked; None for the whole slice through the middle of
            the scan.
        pixels: width and height.

    Returns:
        uint8 [row, column, RGB]; rows from anterior to posterior, columns from right to left.
    """
    field = _FIELD_MM
    if position is None:
        corners = volume.grid.to_ras(_CORNERS * (np.array(volume.grid.size) - 1))
        field = float(np.ptp(corners[:, :2], axis=0).max())
    center = np.asarray(volume.grid.center_ras if position is None else position, float)
    steps = (np.arange(pixels) - (pixels - 1) / 2) * field / pixels
    a, r = np.meshgrid(center[1] - steps, center[0] - steps, indexing="ij")
    points = np.stack([r, a, np.full_like(r, center[2])], axis=-1).reshape(-1, 3)
    low, high = _WINDOW_HU
    hu = np.where(volume.grid.contains(points), volume.nearest_values(points), low)
    gray = np.rint(np.clip((hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    image = np.repeat(gray.reshape(pixels, pixels, 1), 3, axis=2)
    if position is not None:
        _draw_mark(image)
    return image


def ppm(image: NDArray[np.uint8]) -> bytes:
    """An image [row, column, RGB] as the content of a PPM file, which Qt can read."""
    return b"P6 %d %d 255\n" % (image.shape[1], image.shape[0]) + image.tobytes()


_CORNERS = np.indices((2, 2, 2)).reshape(3, 8).T


def _draw_mark(image: NDArray[np.uint8]) -> None:
    """Draw four short lines around the center, which stays visible."""
    middle, color = image.shape[0] // 2, [round(255 * part) for part in LIBRARY_REGION]
    for start, stop in ((middle - 9, middle - 4), (middle + 4, middle + 9)):
        image[start:stop, middle] = image[middle, start:stop] = color
