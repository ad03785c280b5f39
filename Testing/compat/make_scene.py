"""Made `scene.mrb` and the markups files in `data` with the module of CoralBay 0.1.0, in the test host; for the record.

As with `make.py`, whose files it starts from, they are never made again. It was run as

    python -m Testing.compat.make_scene
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import host

from .results import BRIGHT, CENTRE, DATA, NAMES, about_segmentation

MODULE = Path(__file__).parents[2] / "CoralBaySlicer" / "CoralBaySlicer.py"
PLAIN = {
    "encoder": "ct-fm",
    "setting": "pretraining",
    "assumeHU": True,
    "threshold": 35.0,
    "overlayOpacity": 42.0,
    "overlay": "uncertainty",
    "together": False,
    "outlines": False,
    "livePreview": False,
    "connected": False,
    "solid": True,
    "queryKind": "segment",
    "querySegment": "Bright spot",
    "regionCount": 7,
    "regionDistance": 12.5,
    "similarityThreshold": 65.0,
    "similarityOpacity": 33.0,
    "everywhere": True,
    "scope": "library",
    "othersOnly": False,
    "showIn3D": True,
    "clusters": 13,
    "colourOpacity": 55.0,
    "scanColumn": "path",
    "patientColumn": "who",
    "targetColumn": "finding",
    "timeColumn": "days",
    "everyScanAnother": True,
    "scansTask": "survive",
    "speaksThreshold": 44.0,
    "speaksOpacity": 77.0,
}
"""A value that is not the default for each parameter that is no node."""


def make_nodes(logic: Any, volume: Any) -> dict[str, Any]:
    """A node for each parameter that is one."""
    import slicer
    import vtk

    logic.getParameterNode().encoder = "coralbay-mini"
    spot, other = CENTRE + BRIGHT["a"], CENTRE - BRIGHT["a"]
    output = logic.segment(volume, {NAMES[1]: [spot], NAMES[3]: [other], "Background": [CENTRE]})
    output.SetName("CT segmentation")
    painted = logic.segment(volume, {NAMES[1]: [spot], "Background": [other]}, threshold=0.9)
    painted.SetName("Strokes")
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Study")
    for column in ("path", "who", "finding", "days"):
        array = vtk.vtkStringArray()
        array.SetName(column)
        for row in range(3):
            array.InsertNextValue(f"{column} {row}")
        table.AddColumn(array)
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Query box")
    roi.SetCenter(*spot)
    roi.SetSize(6, 8, 10)
    nodes = {"volume": volume, "output": output, "painted": painted, "querySegmentation": output}
    return nodes | {"queryRoi": roi, "scansTable": table}


def make_structures(volume: Any) -> list[Any]:
    """Two structures, of which one has a colour of the user's, and the background, with points."""
    from CoralBaySlicerCore import structures

    for name in NAMES.values():
        structures.add(volume, name)
    made = structures.of(volume)
    made[1].node.GetDisplayNode().SetSelectedColor(0.25, 0.5, 0.75)
    spot, other = CENTRE + BRIGHT["a"], CENTRE - BRIGHT["a"]
    for structure, places in zip(made, ([spot, spot + 2], [other, other - 1.5, other + 0.25], [CENTRE]), strict=True):
        for place in places:
            structures.place(volume, structure, place)
    return made


def main() -> None:
    """Make all."""
    import slicer

    widget = host.load_module(MODULE)
    volume = slicer.util.loadVolume(str(DATA / "ct" / "a.nrrd"))
    volume.SetName("CT")
    nodes = make_nodes(widget.logic, volume)
    made = make_structures(volume)
    parameters = widget.logic.getParameterNode()
    with slicer.util.NodeModify(parameters.parameterNode):
        for name, value in (PLAIN | nodes).items():
            setattr(parameters, name, value)
    missing = set(type(parameters).allParameters) - set(PLAIN) - set(nodes)
    assert not missing, missing
    for structure in made:
        assert slicer.util.saveNode(structure.node, str(DATA / f"structure_{structure.label}.mrk.json"))
        slicer.mrmlScene.RemoveNode(structure.node.GetStorageNode())
    texts = {
        "plain": PLAIN,
        "nodes": {name: [node.GetClassName(), node.GetName()] for name, node in nodes.items()},
        "structures": [[s.label, s.name, list(s.colour), s.world_points().tolist()] for s in made],
        "segments": {name: about_segmentation(nodes[name], volume) for name in ("output", "painted")},
        "roi": [list(nodes["queryRoi"].GetCenter()), list(nodes["queryRoi"].GetSize())],
    }
    (DATA / "scene.json").write_text(json.dumps(texts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert slicer.util.saveScene(str(DATA / "scene.mrb"))


if __name__ == "__main__":
    host.start()
    with tempfile.TemporaryDirectory() as cache:
        os.environ.update(CORALBAY_CACHE=cache, HF_HUB_OFFLINE="1")
        main()
        host.process_events(0.2)
        print(*host.unhandled, *host.dialogs.texts(), sep="\n")
        host.close()
    host.leave(0)
