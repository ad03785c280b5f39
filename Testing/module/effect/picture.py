"""Pictures of the effect in the Segment Editor, for the documentation.

    python -m Testing.module.effect.picture VOLUME LABELMAP --structure 5 liver --structure 1 spleen --output FOLDER

On one slice of each structure a part is painted, as with the brush.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import host


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volume", type=Path)
    parser.add_argument("labelmap", type=Path)
    parser.add_argument("--structure", nargs=2, action="append", metavar=("LABEL", "NAME"), required=True)
    parser.add_argument("--encoder", default="coralbay-mini")
    parser.add_argument("--output", type=Path, default=Path("output/screenshots"))
    parser.add_argument("--window", type=float, nargs=2, default=(-160, 240), help="HU shown as black and white")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    host.start()
    import slicer
    from host import mouse, pictures

    from Testing.module.coralbay_fixtures import MODULE

    widget = host.load_module(MODULE)
    widget.panel.parameters.encoder = arguments.encoder
    from CoralBaySlicerCore.scene import volumes
    from scipy import ndimage

    from CoralBayLib.fewshot.constraints.sampling import labels_on
    from CoralBayLib.imaging.grid import Volume
    from CoralBayLib.imaging.volume_io import read_labelmap
    from Testing.module.effect.session import EffectSession

    volume = slicer.util.loadVolume(str(arguments.volume))
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevelMinMax(*arguments.window)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    session = EffectSession(volume, np.zeros(3))
    # Files may have other axes than the volume in Slicer.
    grid = volumes.read(volume).volume.grid
    labels = Volume(labels_on(read_labelmap(arguments.labelmap), grid), grid)
    middle = np.zeros(3)
    background = ndimage.binary_dilation(labels.array > 0, iterations=8) & (labels.array == 0)
    colors = {
        "liver": (0.87, 0.51, 0.4),
        "spleen": (0.62, 0.42, 0.75),
        "aorta": (0.85, 0.2, 0.2),
        "Background": (0.4, 0.6, 0.9),
    }
    for name, mask in [(n, labels.array == int(label)) for label, n in arguments.structure] + [("Background", background)]:
        k = int(np.argmax(mask.sum(axis=(1, 2))))
        inner = ndimage.binary_erosion(mask[k], iterations=2 if name == "Background" else 4)
        # Every tenth row is a stroke.
        stroke = np.zeros(mask.shape, bool)
        stroke[k, ::10] = inner[::10]
        segment_id = session.paint_mask(name, stroke)
        if name in colors:
            session.segmentation.GetSegmentation().GetSegment(segment_id).SetColor(*colors[name])
        if not middle.any():
            middle = labels.grid.to_ras(np.argwhere(stroke).mean(axis=0)[::-1])[0]
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        view.JumpSliceByOffsetting(*middle)
    pictures.save_window(arguments.output / "effect-painted.png")
    effect = session.activate()
    mouse.press(effect.previewButton)
    host.wait_for(lambda: not effect.completion.is_running, 3600)
    host.process_events(0.5)
    pictures.save_window(arguments.output / "effect-window.png")
    pictures.save_panel("SegmentEditor", arguments.output / "effect-panel.png")
    for view in ("Red", "Green"):
        pictures.save_view(view, arguments.output / f"effect-{view}.png")


if __name__ == "__main__":
    main()
    host.leave()
