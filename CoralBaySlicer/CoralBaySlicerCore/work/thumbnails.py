"""Small pictures of places in scans, cut from their files away from the main thread."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from CoralBayLib.core.progress import CancelToken, Progress
from CoralBaySlicerCore.scene.colors import LIBRARY_REGION

from .worker import Task, Worker

PIXELS = 72
"""Width and height."""
_FIELD_MM = 160.0
_WINDOW_HU = (-160.0, 240.0)

Where = tuple[float, float, float] | None
"""A place, RAS mm of the scan's own space; None for the middle of the scan, and all of the slice."""


class Thumbnails:
    """Cuts pictures, one scan after the other, and remembers those of the last request.

    Args:
        worker: reads the scans.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._known: dict[Hashable, NDArray[np.uint8]] = {}
        self._tasks: list[Task] = []

    def want(
        self,
        sources: Mapping[str, Callable[[], Any]],
        places: Iterable[tuple[str, Where]],
        made: Callable[[str, Where, NDArray[np.uint8]], None],
    ) -> None:
        """Have pictures cut, and forget what was wanted before.

        Args:
            sources: reads the library's Volume of a scan, on the worker, by the scan's name.
            places: of which scans what is wanted; those of which there is no source are left out.
            made: is given each picture, uint8 [row, column, RGB], on the main thread.
        """
        self.stop()
        wanted: dict[str, list[Where]] = {}
        kept = {}
        for scan, where in places:
            if (scan, where) in self._known:
                kept[scan, where] = self._known[scan, where]
                made(scan, where, kept[scan, where])
            elif scan in sources:
                wanted.setdefault(scan, []).append(where)
        self._known = kept
        for scan, wheres in wanted.items():
            self._tasks.append(self._worker.start(self._task(scan, wheres, sources[scan], made)))

    def stop(self) -> None:
        """Cut no more."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    def _task(self, scan: str, wheres: list[Where], read: Callable[[], Any], made: Callable) -> Task:
        def run(_progress: Progress, cancel: CancelToken) -> list[NDArray[np.uint8]]:
            volume = read()
            cancel.raise_if_cancelled()
            return [cut(volume, where) for where in wheres]

        def done(pictures: list[NDArray[np.uint8]]) -> None:
            for where, picture in zip(wheres, pictures, strict=True):
                self._known[scan, where] = picture
                made(scan, where, picture)

        task = Task(run)
        task.on_done = done
        # A row without a picture says enough; opening the scan tells what is wrong with its file.
        task.on_failed = lambda error: None
        return task


def cut(volume: Any, where: ArrayLike | None, pixels: int = PIXELS) -> NDArray[np.uint8]:
    """An axial cut, as seen from the feet, in a window for soft tissue; air beyond the scan.

    Args:
        volume: the library's Volume, in HU.
        where: (3,) RAS mm of the middle of the picture, which is marked; None for the middle of the scan, all of the slice.
        pixels: width and height.

    Returns:
        uint8 [row, column, RGB]; rows from anterior to posterior, columns from right to left.
    """
    field = _FIELD_MM
    if where is None:
        corners = volume.grid.to_ras(_CORNERS * (np.array(volume.grid.size) - 1))
        field = float(np.ptp(corners[:, :2], axis=0).max())
    centre = np.asarray(volume.grid.center_ras if where is None else where, float)
    steps = (np.arange(pixels) - (pixels - 1) / 2) * field / pixels
    a, r = np.meshgrid(centre[1] - steps, centre[0] - steps, indexing="ij")
    points = np.stack([r, a, np.full_like(r, centre[2])], axis=-1).reshape(-1, 3)
    low, high = _WINDOW_HU
    hu = np.where(volume.grid.contains(points), volume.nearest_values(points), low)
    grey = np.rint(np.clip((hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    picture = np.repeat(grey.reshape(pixels, pixels, 1), 3, axis=2)
    if where is not None:
        _draw_mark(picture)
    return picture


def ppm(picture: NDArray[np.uint8]) -> bytes:
    """A picture [row, column, RGB] as a file in memory that Qt can read."""
    return b"P6 %d %d 255\n" % (picture.shape[1], picture.shape[0]) + picture.tobytes()


_CORNERS = np.indices((2, 2, 2)).reshape(3, 8).T


def _draw_mark(picture: NDArray[np.uint8]) -> None:
    """Four short lines around the middle, which stays free to be seen."""
    middle, color = picture.shape[0] // 2, [round(255 * part) for part in LIBRARY_REGION]
    for start, stop in ((middle - 9, middle - 4), (middle + 4, middle + 9)):
        picture[start:stop, middle] = picture[middle, start:stop] = color
