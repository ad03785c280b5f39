"""Colors of segments."""

import numpy as np

from CoralBayLib.imaging.palette import label_color


def test_colors_can_be_told_apart():
    colors = np.array([label_color(n) for n in range(1, 17)])
    assert ((colors >= 0) & (colors <= 1)).all()
    assert colors.max(axis=1).min() > 0.6
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1) + np.eye(16) * 9
    assert distances.min() > 0.08
    assert np.linalg.norm(np.diff(colors, axis=0), axis=1).min() > 0.4
    assert len({label_color(n) for n in range(1, 121)}) == 120
