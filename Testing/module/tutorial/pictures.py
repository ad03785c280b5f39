"""Pictures for the tutorial: the window after each of its steps, on the sample scan.

    python -m Testing.module.tutorial.pictures VOLUME LABELMAP --output FOLDER [--only STEP ...]

The clicks lie along strokes on slices of some structures of the labelmap, as a person who knows them would draw. Libraries,
scan probes and cohorts need more scans: these are stretched copies of the sample.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import host  # noqa: E402
from host import mouse, pictures  # noqa: E402

from Testing.module.screenshots import MODULE, places, show, show_all_in_3d  # noqa: E402
from Testing.module.tutorial import copies  # noqa: E402

STRUCTURES = [("5", "liver"), ("1", "spleen"), ("52", "aorta"), ("51", "heart")]
CLAVICLE = 73
"""The labelmap's label of the clavicle that is the query (the left one)."""
SIZE = 1500, 1040
"""Of the window, in pixels."""
STEPS = ("features", "few-shot", "similar", "library", "scan-probes", "cohort")


class Tutorial:
    """Works through the module as the reader does.

    Args:
        volume: node of the sample.
        widget: of the module.
        arguments: of the command line.
    """

    def __init__(self, volume: Any, widget: Any, arguments: argparse.Namespace) -> None:
        from CoralBayLib.imaging.volume_io import read_labelmap

        self.volume, self.widget, self.panel, self.arguments = volume, widget, widget.panel, arguments
        self.labels = read_labelmap(arguments.labelmap)

    def settle(self) -> None:
        """Wait until nothing is computed."""
        workers = (self.widget.logic.worker, self.widget.logic.reader)
        timers = (self.panel._refresh_timer, self.panel.segment.few_shot._timer)
        host.process_events(0.2)
        host.wait_for(lambda: not any(w.busy for w in workers) and not any(t.active for t in timers), 3600)
        if host.dialogs.texts("error"):
            raise SystemExit("\n".join(host.dialogs.texts("error")))

    def open(self, *opened: Any) -> None:
        """Show these steps of the panel, and collapse all others."""
        for part in self.panel.panels:
            part.header.collapsed = part not in opened
        host.process_events(0.1)

    def picture(self, name: str, last: Any = None) -> None:
        """Save the window, with the panel scrolled so that the widget `last` is seen."""
        import slicer

        self.settle()
        window = slicer.util.mainWindow()
        window.resize(*SIZE)
        host.process_events(0.2)
        area = slicer.util.findChild(window, "ModulePanel")._area
        area.verticalScrollBar().setValue(0)
        if last is not None:
            area.ensureWidgetVisible(last, 0, 12)
        host.process_events(0.2)
        pictures.save_window(self.arguments.output / f"{name}.png", *SIZE)

    def new_folder(self, name: str) -> Path:
        """A folder beside the pictures that does not exist: what an earlier run left there is removed."""
        folder = self.arguments.output.resolve() / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    # -- the steps

    def features(self) -> None:
        """Step 1, before and after the computation."""
        scan = self.panel.scan
        self.panel.parameters.encoder = "coralbay-mini"
        scan.ui.volumeSelector.setCurrentNode(self.volume)
        self.settle()
        if scan.ui.computeButton.enabled:
            mouse.press(scan.ui.computeButton)
        self.settle()
        self.open(scan)
        self.picture("features")

    def few_shot(self) -> None:
        """Step 2: clicks, preview, and the applied segments in 3D."""
        segment = self.panel.segment
        self.open(segment)
        clicks = places(self.volume, self.arguments)
        for name, (inside, outside) in clicks.items():
            mouse.press(segment.ui.addStructureButton)
            segment.few_shot.active_structure.node.SetName(name)
            for node, points in (
                (segment.few_shot.active_structure.node, inside),
                (segment.few_shot.structures[-1].node, outside),
            ):
                for point in points:
                    node.AddControlPointWorld(*point)
        segment.few_shot.activate(segment.few_shot.structures[0].label)
        main = next(iter(clicks.values()))[0]
        show(main[len(main) // 2])
        mouse.key("Esc")
        self.settle()
        segment.ui.show3DCheck.click()
        mouse.press(segment.ui.applyButton)
        self.settle()
        # The preview again, beside the surfaces of what was applied.
        output = self.panel.parameters.output
        output.GetDisplayNode().SetVisibility2D(False)
        segment.ui.overlaySelector.currentIndex = 1
        segment.ui.overlaySelector.currentIndex = 0
        self.settle()
        for each in segment.few_shot.structures:
            each.node.GetDisplayNode().SetVisibility3D(False)
        show_all_in_3d()
        self.picture("few-shot")
        for each in segment.few_shot.structures:
            each.node.GetDisplayNode().SetVisibility(False)

    def similar(self) -> None:
        """Step 3: one clavicle as the query, and a segment of each region that looks like it."""
        import slicer
        from CoralBaySlicerCore.scene import query_markups

        similar, place = self.panel.similar, center(self.labels, CLAVICLE)
        self.open(similar)
        query_markups.make(self.volume).AddControlPointWorld(*place)
        self.panel.parameters.regionDistance, self.panel.parameters.similarityThreshold = 40, 75
        self.settle()
        similar.search()
        self.settle()
        show(place)
        mouse.press(similar.ui.allSegmentsButton)
        self.settle()
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            node.CreateClosedSurfaceRepresentation()
            node.GetDisplayNode().SetVisibility2DFill(False)
        show(place)
        show_all_in_3d()
        self.picture("similar", similar.ui.regionSegmentsFrame)

    def library(self) -> None:
        """Step 3 in a library."""
        from CoralBaySlicerCore.work.library import tasks as scan_library

        similar, place = self.panel.similar, center(self.labels, CLAVICLE)
        self.open(similar)
        scan_library.set_folder(str(self.new_folder("library")))
        self.panel.parameters.scope = "library"
        self.settle()
        similar.ui.libraryBox.collapsed = False
        host.dialogs.answer(str(self.folder / "scans"))
        host.process_events(0.2)
        mouse.press(similar.ui.addFolderButton)
        self.settle()
        from CoralBaySlicerCore.scene import query_markups

        if query_markups.node(self.volume) is None:
            query_markups.make(self.volume).AddControlPointWorld(*place)
        similar.search()
        self.settle()
        hit = similar.library.table.hits[0]
        similar.library.open(hit)
        self.settle()
        show_scan(self.panel.parameters.volume)
        show(np.array(hit.ras))
        self.open(similar)
        self.picture("library", similar.ui.hitTable)
        self.panel.parameters.scope = "scan"

    def scan_probes(self) -> None:
        """Step 5: a probe of the filled lobe, on a copy that has it."""
        import slicer

        from CoralBayLib.imaging.volume_io import read_labelmap

        scans = self.panel.scans
        self.open(scans)
        volume = slicer.util.loadVolume(str(self.folder / "scans" / "patient-02.nrrd"))
        show_scan(volume)
        self.panel.parameters.volume = volume
        self.panel.parameters.scansTable = slicer.util.loadTable(str(self.table))
        scans.refresh()
        self.panel.parameters.targetColumn = "consolidation"
        self.settle()
        scans.fit()
        self.settle()
        scans.probe.apply_to_scan()
        self.settle()
        self.panel.parameters.speaksThreshold = 60
        scans.probe.show_map()
        self.settle()
        # The filled part is in the lower half of the lobe.
        show(center(read_labelmap(self.folder / "labels" / "patient-02.nrrd"), copies.LOBE) - [0, 0, 20])
        self.picture("scan-probes", scans.ui.saliencyDisplayForm)

    def cohort(self) -> None:
        """Step 6: three scans are accepted, and the suggestion in the fourth is shown."""
        import slicer
        from CoralBaySlicerCore.scene import segments
        from CoralBaySlicerCore.scene.volumes import read
        from CoralBaySlicerCore.work.cohort import nodes

        from CoralBayLib.fewshot.constraints.sampling import labels_on
        from CoralBayLib.imaging.volume_io import read_labelmap

        cohort, folder = self.panel.cohort, self.new_folder("Upper abdomen")
        self.open(cohort)
        cohort.ui.structuresEdit.text = ", ".join(name for _label, name in STRUCTURES)
        host.dialogs.answer(str(folder))
        folder.mkdir(exist_ok=True)
        cohort.new_cohort()
        self.settle()
        host.dialogs.answer(str(self.folder / "scans"))
        cohort.add_folder()
        self.settle()
        for _accepted in range(3):
            cohort.next_scan()
            self.settle()
            segmentation = nodes.current(cohort.contents.folder)
            name, volume = nodes.scan_of(segmentation), nodes.volume_of(segmentation)
            truth = labels_on(read_labelmap(self.folder / "labels" / f"{name}.nrrd"), read(volume).volume.grid)
            for label, structure in STRUCTURES:
                segment = segmentation.GetSegmentation().GetSegmentIdBySegmentName(structure)
                mask = (truth == int(label)).astype(np.uint8)
                slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment, volume)
            cohort.write(accept=True)
            self.settle()
        cohort.next_scan()
        self.settle()
        output, volume = self.panel.parameters.output, self.panel.parameters.volume
        found = [segments.points(output, each, volume) for each in segments.ids(output)]
        show_scan(volume)
        show(np.concatenate(found).mean(axis=0))
        self.open(cohort)
        self.picture("cohort", cohort.ui.cardButton)

    def run(self) -> None:
        """Take all pictures that are wanted."""
        only = self.arguments.only or STEPS
        if set(only) & {"library", "scan-probes", "cohort"}:
            self.folder = self.arguments.output / "copies"
            self.table = self.folder / "study.csv"
            if not self.table.is_file():
                copies.make(self.arguments.volume, self.arguments.labelmap, self.folder, 10)
        for step in STEPS:
            if step in only or step == "features":
                clear()
                getattr(self, step.replace("-", "_"))()
                print(step, flush=True)


def center(labels: Any, label: int) -> np.ndarray:
    """The voxel of a structure that is nearest to its center, RAS mm."""
    ijk = np.argwhere(labels.array == label)
    nearest = ijk[np.argmin(((ijk - ijk.mean(axis=0)) ** 2).sum(axis=1))]
    return labels.grid.to_ras(nearest[None, ::-1])[0]


def clear() -> None:
    """Remove the segmentations and hide the points of earlier steps."""
    import slicer

    for node in slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode"):
        node.GetDisplayNode().SetVisibility(False)
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        slicer.mrmlScene.RemoveNode(node)


def show_scan(volume: Any) -> None:
    """Show a scan in all slice views, in the window of the sample."""
    import slicer
    from CoralBaySlicerCore.scene import volumes
    from CoralBaySlicerCore.work import sample_data

    volumes.set_window(volume, *sample_data._SOFT_TISSUE_HU)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)


def main() -> int:
    """Take the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volume", type=Path)
    parser.add_argument("labelmap", type=Path)
    parser.add_argument("--output", type=Path, default=Path("output/tutorial"))
    parser.add_argument("--only", nargs="+", choices=STEPS)
    parser.add_argument("--clicks", type=int, default=45, help="at most, on each structure and around it")
    arguments = parser.parse_args()
    arguments.structure = STRUCTURES
    return take(Tutorial, arguments)


def take(kind: type[Tutorial], arguments: argparse.Namespace) -> int:
    """Open the module with the sample, and take pictures; returns the exit status."""
    arguments.output.mkdir(parents=True, exist_ok=True)
    app = host.start()
    import slicer

    widget = host.load_module(MODULE)
    from CoralBaySlicerCore.work import sample_data

    volume = slicer.util.loadVolume(str(arguments.volume), {"name": sample_data.NAME})
    show_scan(volume)
    kind(volume, widget, arguments).run()
    host.close()
    del app
    return 0


if __name__ == "__main__":
    host.leave(main())
