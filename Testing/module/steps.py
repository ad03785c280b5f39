"""What tests of several panels do with the views: places, colors and clicks."""

from typing import Any

import host
import numpy as np
from host import mouse, pictures

AXIAL = np.array([[-2.0, 0, 0, 48.0], [0, -2.0, 0, 48], [0, 0, 2.5, -50], [0, 0, 0, 1]])


def oblique() -> np.ndarray:
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [14, -9, 25], degrees=True).as_matrix() @ np.diag([-2.0, -2.0, 2.5])
    matrix[:3, 3] = [30, 60, -40]
    return matrix


def show_at(place: Any) -> None:
    from CoralBaySlicerCore.scene.volumes import jump_to

    jump_to(place)
    host.process_events(0.02)


def color_at(view: str, place: Any) -> np.ndarray:
    shown = pictures.view(view)
    column, row, _ = shown.convertRASToXYZ(list(place))
    return pictures.pixels(view)[shown.height - 1 - round(row), round(column)].astype(int)


def click_all(panel: Any, driver: Any, place: np.ndarray, view: str = "Red") -> None:
    """Two clicks in the first ball and three beside it, with the mouse in a view."""
    show_at(place)
    for offset in ([0, 0, 0], [4, 3, 0]):
        mouse.click_view(view, place + offset)
    mouse.key("0")
    for offset in ([-16, 0, 0], [0, 22, 0], [0, -22, 0]):
        mouse.click_view(view, place + offset)
    mouse.key("Esc")
    driver.settle()


def points_of(node: Any) -> np.ndarray:
    """RAS mm of every voxel centre, [k, j, i, 3]."""
    import slicer
    from CoralBaySlicerCore.scene.volumes import ijk_to_ras

    k, j, i = np.indices(slicer.util.arrayFromVolume(node).shape)
    matrix = ijk_to_ras(node)
    return np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]
