"""Pictures for the pages on libraries and scan probes, with libraries and a probe of other scans than the sample.

    python -m Testing.module.tutorial.whole_scans VOLUME LABELMAP --output FOLDER [--cohort LIBRARY] [--reports LIBRARY]
        [--probe FILE --place R A S]

The views show the sample scan. The libraries are made with `coralbay library add --encoder coralbay-mini`, that of `--reports`
with `--reports TABLE`; the attentive probe with `coralbay scans fit --encoder coralbay-mini --probe attentive`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from Testing.module.tutorial import pictures

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import host  # noqa: E402

AORTA = 52
"""The labelmap's label of the structure that the views go to."""


class WholeScans(pictures.Tutorial):
    """Works with libraries and with a probe as a reader does who has them."""

    def outliers(self) -> None:
        """Step 3: the scans of a library that are unlike the rest."""
        self._open_library(self.arguments.cohort)
        ui = self.panel.similar.ui
        ui.outliersButton.click()
        host.wait_for(lambda: ui.libraryReport.visible, 120)
        self._panel_picture("outliers", self.panel.similar.header, ui.libraryReport)

    def reports(self) -> None:
        """Step 3: the sentences of the reports of scans like the sample; the scans themselves are not shown."""
        self._open_library(self.arguments.reports)
        similar = self.panel.similar
        similar.ui.libraryBox.collapsed = True
        self.panel.parameters.queryKind = "whole"
        self.settle()
        similar.search()
        self.settle()
        self._panel_picture("reports", similar.ui.sentenceTable, similar.ui.sentenceTable)
        self.panel.parameters.queryKind = "point"

    def attention(self) -> None:
        """Step 5: where an attentive probe looks in the sample."""
        scans = self.panel.scans
        self.open(scans)
        host.dialogs.answer(str(self.arguments.probe))
        scans.probe.load()
        self.settle()
        scans.probe.apply_to_scan()
        self.settle()
        selector = scans.ui.saliencyClassSelector
        selector.setCurrentIndex(selector.count - 1)
        scans.probe.show_map()
        self.settle()
        pictures.show(np.array(self.arguments.place))
        self.picture("attention", scans.ui.saliencyDisplayForm)

    def _panel_picture(self, name: str, first: Any, last: Any) -> None:
        """Save the part of the panel from one widget down to another."""
        import slicer

        window = slicer.util.mainWindow()
        self.settle()
        window.resize(pictures.SIZE[0], 2 * pictures.SIZE[1])
        host.process_events(0.3)
        contents = slicer.util.findChild(window, "ModulePanel")._area.widget()
        image = contents.grab().toImage()
        top = first.mapTo(contents, first.rect.topLeft()).y() - 4
        bottom = last.mapTo(contents, last.rect.bottomLeft()).y() + 8
        image.copy(0, top, image.width(), bottom - top).save(str(self.arguments.output / f"{name}.png"))
        window.resize(*pictures.SIZE)

    def _open_library(self, folder: Path) -> None:
        from CoralBaySlicerCore.work.library import tasks as scan_library

        similar = self.panel.similar
        self.open(similar)
        scan_library.set_folder(str(folder.resolve()))
        self.panel.parameters.scope = "library"
        self.settle()
        similar.ui.libraryBox.collapsed = False
        pictures.show(pictures.center(self.labels, AORTA))

    def run(self) -> None:
        """Take the pictures for which there is a library or a probe."""
        self.features()
        for step, needed in (("outliers", "cohort"), ("reports", "reports"), ("attention", "probe")):
            if getattr(self.arguments, needed):
                getattr(self, step)()
                print(step, flush=True)


def main() -> int:
    """Take the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volume", type=Path)
    parser.add_argument("labelmap", type=Path)
    parser.add_argument("--output", type=Path, default=Path("output/tutorial"))
    parser.add_argument("--cohort", type=Path, help="a library for the picture of unusual scans")
    parser.add_argument("--reports", type=Path, help="a library with reports")
    parser.add_argument("--probe", type=Path, help="an attentive scan probe")
    parser.add_argument("--place", type=float, nargs=3, help="position that its map is shown at, RAS mm", default=(0, 0, -180))
    return pictures.take(WholeScans, parser.parse_args())


if __name__ == "__main__":
    host.leave(main())
