"""Going to a place brings it into view and leaves the views' panning alone where it can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def centre(view: Any) -> np.ndarray:
    """The middle of a slice view, RAS mm."""
    import slicer

    x, y = (side / 2 for side in view.GetDimensions()[:2])
    return (slicer.util.arrayFromVTKMatrix(view.GetXYToRAS()) @ [x, y, 0, 1])[:3]


def test_a_place_in_view_does_not_pan_and_one_outside_is_centred(coralbay: Any, make_volume: Any) -> None:
    import slicer
    from CoralBaySlicerCore.volumes import jump_to

    slicer.util.setSliceViewerLayers(background=make_volume(), fit=True)
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    before = centre(red)
    jump_to(before + [10, 15, 20])
    assert centre(red) == pytest.approx(before + [0, 0, 20], abs=1e-3)
    far = before + [2 * red.GetFieldOfView()[0], 0, -5]
    jump_to(far)
    assert centre(red) == pytest.approx(far, abs=0.6)
