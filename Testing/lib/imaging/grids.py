"""Grids of every kind for tests."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from CoralBayLib.imaging.grid import Grid

FEW = settings(max_examples=40, deadline=None)

sizes = st.tuples(*[st.integers(2, 7)] * 3)


@st.composite
def grids(draw, shear=True):
    """Any grid that a scanner or a person may produce: permuted, flipped, turned, stretched, sheared."""
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    angles = draw(st.tuples(*[st.floats(-40, 40)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.4, 5)] * 3))
    matrix = np.eye(4)
    turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.eye(3)[list(order)] * signs
    if shear:
        turned = turned @ np.array([[1, draw(st.floats(-0.2, 0.2)), 0], [0, 1, draw(st.floats(-0.2, 0.2))], [0, 0, 1]])
    matrix[:3, :3] = turned * spacing
    matrix[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return Grid(draw(sizes), matrix)


def all_ijk(grid):
    return np.stack(np.meshgrid(*(np.arange(n) for n in grid.size), indexing="ij"), axis=-1).reshape(-1, 3)
