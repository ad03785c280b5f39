"""Pictures for the documentation: the panel, and the views with a few-shot overlay and with a similarity map.

    python Testing/module/screenshots.py VOLUME --output FOLDER --weights FILE [--labelmap FILE --structure N NAME ...]

The clicks are simulated on the volume given. With a labelmap they lie along strokes on three slices of some of its
structures, as a person who knows them would draw; without one the middle of the volume is the structure.
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
    parser.add_argument("--structure", nargs=2, action="append", metavar=("LABEL", "NAME"), help="the first is the main one")
    parser.add_argument("--clicks", type=int, default=60, help="at most, on each structure and around it")
    parser.add_argument("--library", type=Path, nargs="+", metavar="SCAN", help="other scans, for a picture of a library")
    parser.add_argument(
        "--table", type=Path, help="a CSV of scans (columns scan, patient, ...), for a picture of a probe on it"
    )
    parser.add_argument("--target", help="the column of it that is learnt")
    parser.add_argument("--cohort", type=Path, help="the folder of a cohort, for a picture of its next scan")
    parser.add_argument("--only", choices=("library", "scans", "cohort"), help="nothing but the picture of this")
    parser.add_argument("--window", type=float, nargs=2, default=(-160, 240), help="HU shown as black and white")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    app = host.start()
    import slicer

    widget = host.load_module(MODULE)
    from CoralBaySlicerCore.setup import settings

    with tempfile.TemporaryDirectory() as folder:
        weights = arguments.weights
        if weights == "random":
            from CoralBaySlicerCore.selftest import write_random_checkpoint

            os.environ["CORALBAY_CACHE"] = folder
            weights = str(Path(folder) / "random.safetensors")
            write_random_checkpoint(Path(weights))
        settings.set_weights_file(arguments.encoder, weights)
        volume = slicer.util.loadVolume(str(arguments.volume))
        volume.CreateDefaultDisplayNodes()
        volume.GetDisplayNode().SetAutoWindowLevel(False)
        volume.GetDisplayNode().SetWindowLevelMinMax(*arguments.window)
        clicks = places(volume, arguments)
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        take(widget, volume, clicks, arguments)
    host.close()
    del app
    return 0


def take(widget: Any, volume: Any, clicks: dict[str, tuple], arguments: argparse.Namespace) -> None:
    """Work through the steps as a person would, with a picture of each."""
    from host import mouse, pictures

    panel, output = widget.panel, arguments.output

    def settle(timeout: float = 3600) -> None:
        host.wait_for(lambda: not widget.logic.worker.busy and not panel.segment.few_shot._timer.active, timeout)
        host.process_events(0.2)

    def picture(name: str) -> None:
        settle()
        show_all_in_3d()
        # So high that the panel of step 2 is seen down to Apply.
        pictures.save_window(output / f"{name}-window.png", height=1010)
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
    few_shot, main = panel.segment.few_shot, next(iter(clicks.values()))[0]
    if arguments.library:
        in_library(widget, volume, main.mean(axis=0), arguments, settle)
        picture("library")
    if arguments.table:
        with_table(widget, volume, arguments, settle)
        picture("scans")
    if arguments.cohort:
        in_cohort(widget, arguments, settle)
        picture("cohort")
    if arguments.only:
        return
    for name, (inside, outside) in clicks.items():
        mouse.press(panel.segment.ui.addStructureButton)
        few_shot.active_structure.node.SetName(name)
        for node, points in ((few_shot.active_structure.node, inside), (few_shot.structures[-1].node, outside)):
            for point in points:
                node.AddControlPointWorld(*point)
    few_shot.activate(few_shot.structures[0].label)
    show(main.mean(axis=0))
    mouse.key("Esc")
    picture("few-shot")
    panel.segment.ui.overlaySelector.currentIndex = 1
    picture("uncertainty")
    panel.segment.ui.overlaySelector.currentIndex = 2
    panel.segment.ui.outlinesCheck.click()
    picture("together")
    panel.segment.ui.showAllCheck.click()
    for each in few_shot.structures:
        each.node.GetDisplayNode().SetVisibility(False)
    panel.segment.ui.show3DCheck.click()
    mouse.press(panel.segment.ui.applyButton)
    picture("segments")
    widget.panel.parameters.output.GetDisplayNode().SetVisibility2D(False)
    for part, opened in ((panel.scan, False), (panel.segment, False), (panel.similar, True)):
        name = type(part).__name__
        getattr(part.ui, name[0].lower() + name[1:] + "Button").collapsed = not opened
    from CoralBaySlicerCore.scene import query_markups

    query_markups.make(volume).AddControlPointWorld(*main[0])
    settle()
    panel.similar.search()
    settle()
    show(main[0])
    picture("similar")
    panel.similar.go_to(panel.similar.regions[1])
    picture("similar-second")
    panel.similar.ui.allSegmentsButton.click()
    settle()
    picture("similar-segments")
    panel.similar.ui.similarPanelButton.collapsed = True
    panel.feature_maps.ui.featureMapsPanelButton.collapsed = False
    # Until it is laid out, a click misses it.
    host.process_events(0.1)
    mouse.press(panel.feature_maps.ui.colorsButton)
    picture("feature-maps")


def in_library(widget: Any, volume: Any, place: np.ndarray, arguments: argparse.Namespace, settle: Any) -> None:
    """Search a library of other scans for a place, and open the best of them."""
    from CoralBaySlicerCore.scene import query_markups
    from CoralBaySlicerCore.work.library import tasks as scan_library

    panel = widget.panel
    for part in (panel.scan, panel.segment, panel.similar):
        name = type(part).__name__
        getattr(part.ui, name[0].lower() + name[1:] + "Button").collapsed = part is not panel.similar
    scan_library.set_folder(str(arguments.output.resolve() / "library"))
    panel.parameters.scope = "library"
    widget.logic.addToLibrary(arguments.library, scan_library.folder())
    panel.similar.library.section.forget()
    query_markups.make(volume).AddControlPointWorld(*place)
    panel.similar.search()
    settle()
    if panel.similar.library.table.hits:
        panel.similar.library.open(panel.similar.library.table.hits[0])
    host.wait_for(lambda: not widget.logic.reader.busy, 600)
    show(np.array(panel.similar.library.table.hits[0].ras))


def with_table(widget: Any, volume: Any, arguments: argparse.Namespace, settle: Any) -> None:
    """Learn a probe from a table, and show what speaks for what it says of the scan."""
    import slicer

    panel = widget.panel
    for part in (panel.scan, panel.segment, panel.similar, panel.scans):
        name = type(part).__name__
        getattr(part.ui, name[0].lower() + name[1:] + "Button").collapsed = part is not panel.scans
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    panel.parameters.volume = volume
    panel.parameters.scansTable = slicer.util.loadTable(str(arguments.table))
    panel.scans.refresh()
    panel.parameters.targetColumn = arguments.target
    settle()
    panel.scans.fit()
    settle()
    panel.scans.probe.apply_to_scan()
    panel.scans.probe.show_map()
    settle()


def in_cohort(widget: Any, arguments: argparse.Namespace, settle: Any) -> None:
    """Open a cohort and its next scan, with the suggestion in the middle of the views."""
    from CoralBaySlicerCore.scene import segments
    from CoralBaySlicerCore.work.cohort import tasks

    panel = widget.panel
    for part in panel.panels:
        name = type(part).__name__
        getattr(part.ui, name[0].lower() + name[1:] + "Button").collapsed = part is not panel.cohort
    tasks.set_folder(str(arguments.cohort.resolve()))
    panel.cohort.refresh()
    host.wait_for(lambda: not widget.logic.reader.busy, 60)
    panel.cohort.next_scan()
    settle()
    if host.dialogs.texts("error"):
        raise SystemExit("\n".join(host.dialogs.texts("error")))
    host.wait_for(lambda: not widget.logic.reader.busy, 60)
    output, volume = panel.parameters.output, panel.parameters.volume
    found = [segments.points(output, each, volume) for each in segments.ids(output)]
    show(np.concatenate(found).mean(axis=0) if any(map(len, found)) else np.zeros(3))


def show(place: np.ndarray) -> None:
    """The slices through a place, RAS mm, with the whole scan in each view."""
    import slicer

    slicer.util.resetSliceViews()
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        view.JumpSliceByOffsetting(*place)


def show_all_in_3d() -> None:
    """What there is in 3D, with the letters of the box around it."""
    import slicer

    slicer.util.resetThreeDViews()
    node = slicer.app.layoutManager().threeDWidget(0).threeDView().cameraNode()
    node.GetCamera().Dolly(0.8)
    node.ResetClippingRange()
    slicer.util.forceRenderAllViews()


def places(volume: Any, arguments: argparse.Namespace) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Clicks in each structure and around it, RAS mm, by the structure's name."""
    if arguments.labelmap is None:
        import slicer
        from CoralBaySlicerCore.scene.volumes import ijk_to_ras

        k, j, i = np.indices(slicer.util.arrayFromVolume(volume).shape)
        middle = (np.array(volume.GetImageData().GetDimensions()) - 1) / 2
        away = np.linalg.norm((np.stack([i, j, k], -1) - middle) * volume.GetSpacing(), axis=-1)
        matrix, random = ijk_to_ras(volume), np.random.default_rng(0)
        masks = (away < 15, (away > 20) & (away < 40))
        ijk = [random.choice(np.argwhere(mask)[:, ::-1], arguments.clicks) for mask in masks]
        return {"Structure 1": tuple(each @ matrix[:3, :3].T + matrix[:3, 3] for each in ijk)}
    from CoralBayLib.demo.annotator import Annotator
    from CoralBayLib.fewshot.prompts import Prompts
    from CoralBayLib.imaging.volume_io import read_labelmap

    reference, made = read_labelmap(arguments.labelmap), {}
    for label, name in arguments.structure or [("1", "Structure 1")]:
        points, inside = Annotator(reference, int(label)).strokes(3)
        kept = Prompts(points, inside.astype(int)).thinned(arguments.clicks)
        made[name] = kept.points_ras[kept.labels == 1], kept.points_ras[kept.labels == 0]
    return made


if __name__ == "__main__":
    host.leave(main())
