"""Pictures for the README: the panel, and the views with a few-shot overlay and with a similarity map.

    python Testing/module/screenshots.py VOLUME --output FOLDER --weights FILE [--labelmap FILE --label N]

The clicks are simulated on the volume given. With a labelmap they are drawn from one of its structures, as a person who
knows the structure would click; without one the middle of the volume is the structure.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

import host  # noqa: E402

MODULE = Path(__file__).resolve().parents[2] / "CoralBaySlicer" / "CoralBaySlicer.py"


def main() -> int:
    """Take the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volume", type=Path)
    parser.add_argument("--output", type=Path, default=Path("output/screenshots"))
    parser.add_argument("--encoder", default="coralbay")
    parser.add_argument("--setting", default="")
    parser.add_argument("--weights", default="", help="a weights file; 'random' for a small untrained network")
    parser.add_argument("--labelmap", type=Path)
    parser.add_argument("--label", type=int, default=1)
    parser.add_argument("--name", default="Structure 1", help="of the structure")
    parser.add_argument("--clicks", type=int, default=12)
    parser.add_argument("--window", type=float, nargs=2, default=(-160, 240), help="HU shown as black and white")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    app = host.start()
    import slicer

    widget = host.load_module(MODULE)
    from CoralBaySlicerCore import install

    with tempfile.TemporaryDirectory() as folder:
        weights = arguments.weights
        if weights == "random":
            from CoralBaySlicerCore.selftest import write_random_checkpoint

            os.environ["CORALBAY_CACHE"] = folder
            weights = str(Path(folder) / "random.safetensors")
            write_random_checkpoint(Path(weights))
        install.set_weights_file(arguments.encoder, weights)
        volume = slicer.util.loadVolume(str(arguments.volume))
        volume.CreateDefaultDisplayNodes()
        volume.GetDisplayNode().SetAutoWindowLevel(False)
        volume.GetDisplayNode().SetWindowLevelMinMax(*arguments.window)
        inside, outside = places(volume, arguments)
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        take(widget, volume, inside, outside, arguments)
    host.close()
    del app
    return 0


def take(widget: Any, volume: Any, inside: np.ndarray, outside: np.ndarray, arguments: argparse.Namespace) -> None:
    """Work through the steps as a person would, with a picture of each."""
    import slicer
    from CoralBaySlicerCore.volumes import jump_to
    from host import mouse, pictures

    panel, output = widget.panel, arguments.output

    def settle(timeout: float = 3600) -> None:
        host.wait_for(lambda: not widget.logic.worker.busy and not panel.segment.few_shot._timer.active, timeout)
        host.process_events(0.2)

    def picture(name: str) -> None:
        settle()
        slicer.util.forceRenderAllViews()
        pictures.save_window(output / f"{name}-window.png")
        for view in ("Red", "Yellow", "Green", "1"):
            pictures.save_view(view, output / f"{name}-{view}.png")
        pictures.save_panel("CoralBaySlicer", output / f"{name}-panel.png")

    panel.parameters.encoder = arguments.encoder
    panel.parameters.setting = arguments.setting
    panel.scan.ui.volumeSelector.setCurrentNode(volume)
    settle()
    if panel.scan.ui.computeButton.enabled:
        mouse.press(panel.scan.ui.computeButton)
    settle()
    if host.dialogs.texts("error"):
        raise SystemExit("\n".join(host.dialogs.texts("error")))
    mouse.press(panel.segment.ui.addStructureButton)
    structure, background = panel.segment.few_shot.structures
    structure.node.SetName(arguments.name)
    jump_to(inside.mean(axis=0))
    for one, other in zip(inside, outside, strict=True):
        structure.node.AddControlPointWorld(*one)
        background.node.AddControlPointWorld(*other)
    mouse.key("Esc")
    picture("few-shot")
    panel.segment.ui.overlaySelector.currentIndex = 1
    picture("uncertainty")
    panel.segment.ui.overlaySelector.currentIndex = 2
    mouse.press(panel.segment.ui.applyButton)
    settle()
    widget.panel.parameters.output.CreateClosedSurfaceRepresentation()
    slicer.util.resetThreeDViews()
    picture("segments")
    for each in (structure, background):
        each.node.GetDisplayNode().SetVisibility(False)
    widget.panel.parameters.output.GetDisplayNode().SetVisibility(False)
    for part, opened in ((panel.scan, False), (panel.segment, False), (panel.similar, True)):
        name = type(part).__name__
        getattr(part.ui, name[0].lower() + name[1:] + "Button").collapsed = not opened
    from CoralBaySlicerCore import queries

    queries.make(volume).AddControlPointWorld(*inside[0])
    settle()
    panel.similar.search()
    settle()
    picture("similar")
    panel.similar.jump(1)
    picture("similar-second")


def places(volume: Any, arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Clicks in the structure and around it, RAS mm."""
    import slicer
    from CoralBaySlicerCore.volumes import ijk_to_ras

    matrix, random = ijk_to_ras(volume), np.random.default_rng(0)
    if arguments.labelmap is not None:
        node = slicer.util.loadLabelVolume(str(arguments.labelmap), {"show": False})
        mask = slicer.util.arrayFromVolume(node) == arguments.label
        slicer.mrmlScene.RemoveNode(node)
    else:
        k, j, i = np.indices(slicer.util.arrayFromVolume(volume).shape)
        middle = (np.array(volume.GetImageData().GetDimensions()) - 1) / 2
        mask = np.linalg.norm((np.stack([i, j, k], -1) - middle) * volume.GetSpacing(), axis=-1) < 15
    ijk = np.argwhere(mask)[:, ::-1]
    low, high = ijk.min(axis=0) - 15, ijk.max(axis=0) + 15
    limit = np.array(volume.GetImageData().GetDimensions()) - 1
    around = random.integers(np.clip(low, 0, limit), np.clip(high, 1, limit), size=(4000, 3))
    around = around[~mask[tuple(around[:, ::-1].T)]]
    chosen = np.stack([ijk[random.choice(len(ijk), arguments.clicks)], around[: arguments.clicks]])
    world = chosen @ matrix[:3, :3].T + matrix[:3, 3]
    return world[0], world[1]


if __name__ == "__main__":
    host.leave(main())
