"""A person who goes through a cohort with the panel; also as a process of its own, which a test kills.

python -m Testing.module.cohort.session FOLDER SETTINGS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "Testing")]

import host  # noqa: E402
from host import mouse  # noqa: E402

from Testing.lib.cohort.stand_in import StandIn, make_scan  # noqa: E402

MODULE = ROOT / "CoralBaySlicer" / "CoralBaySlicer.py"


def settle(widget: Any, timeout: float = 60) -> None:
    """Wait until nothing is computed any more."""
    workers = (widget.logic.worker, widget.logic.reader)
    timers = (widget.panel._refresh_timer, widget.panel.segment.few_shot._timer)
    host.process_events()
    host.wait_for(lambda: not any(w.busy for w in workers) and not any(t.active for t in timers), timeout)


def draw_truth(widget: Any) -> str:
    """Give the open scan the segments that it truly has, as with the Segment Editor; returns its name."""
    import slicer
    from CoralBaySlicerCore.work.cohort import nodes

    panel = widget.panel.cohort
    segmentation = nodes.current(panel.contents.folder)
    name, volume = nodes.scan_of(segmentation), nodes.volume_of(segmentation)
    truth = make_scan(int(name.removeprefix("scan")))[1].array
    for label, structure in panel.contents.labels.items():
        segment = segmentation.GetSegmentation().GetSegmentIdBySegmentName(structure)
        slicer.util.updateSegmentBinaryLabelmapFromArray((truth == label).astype(np.uint8), segmentation, segment, volume)
    return name


def go_through(widget: Any) -> list[str]:
    """Next, draw, accept, until no scan is left; returns the names of the scans."""
    ui, done = widget.panel.cohort.ui, []
    while True:
        mouse.press(ui.nextScanButton)
        settle(widget)
        if not ui.acceptButton.enabled or any("no other scan left" in text for text in host.dialogs.texts("info")):
            return done
        name = draw_truth(widget)
        print(f"opened {name}", flush=True)
        mouse.press(ui.acceptButton)
        settle(widget)
        done.append(name)
        print(f"accepted {name}", flush=True)


def main() -> None:
    """Work on the cohort of a folder until killed."""
    host.start()
    widget = host.load_module(MODULE)
    from CoralBaySlicerCore.work.cohort import tasks

    tasks.learner_of = lambda *_: StandIn()
    tasks.set_folder(sys.argv[1])
    panel = widget.panel.cohort
    panel.ui.cohortPanelButton.collapsed = False
    panel.refresh()
    # The features of the other steps are not what is tested.
    widget.logic.embedTask = lambda _volume: None
    settle(widget)
    host.process_events(0.1)
    go_through(widget)


if __name__ == "__main__":
    main()
    host.leave(0)
