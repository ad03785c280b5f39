"""The module's state, kept in the scene: a saved scene reopens with it.

What belongs to the machine rather than to the scene (weights file, device) is kept in the application's settings.
"""

from typing import Annotated

import slicer
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


def choose_encoder(parameters: "CoralBaySlicerParameters", name: str) -> None:
    """Turn to another encoder; the setting was that of the one before."""
    with slicer.util.NodeModify(parameters.parameterNode):
        parameters.setting = ""
        parameters.encoder = name


@parameterNodeWrapper
class CoralBaySlicerParameters:
    """All choices that are saved with a scene.

    Attributes:
        volume: the scan at work.
        encoder, setting: which network, and how it is run ("" for its default).
        assumeHU: the user vouches for the values being HU.
        threshold: probability, percent, from which a voxel belongs to a structure.
        overlayOpacity: of the probability and the uncertainty, percent.
        overlay: "probability", "uncertainty" or "off".
        together, outlines: whether all structures of the preview are shown, and as outlines rather than filled.
        livePreview: whether the preview follows every prompt.
        connected: whether only pieces that a prompt touches are kept.
        solid: whether the segments are shown in 3D.
        painted: segments that serve as prompts.
        output: where Apply writes.
        queryKind: "point", "segment", "roi" or, in a library only, "whole".
        querySegmentation, querySegment, queryRoi: the query, when it is no point.
        regionCount: most regions to list.
        regionDistance: least distance between them, mm.
        similarityThreshold: percent from which the map is shown and a region reaches.
        similarityOpacity: of its overlay, percent.
        everywhere: whether to search all loaded volumes.
        scope: where like regions are looked for: "scan" or "library".
        othersOnly: whether the scan that the query is from is left out of what the library's search finds.
        showIn3D: whether the similarity is rendered in 3D.
        clusters: how many.
        colourOpacity: of the colors of the features, percent.
        scansTable: with a row for each scan that is learnt from.
        scanColumn, patientColumn, targetColumn, timeColumn: which of its columns mean what.
        everyScanAnother: there is no column of patients, since every scan is of another one.
        scansTask: what is learnt: "classify", "regress" or "survive".
        speaksThreshold, speaksOpacity: of the map of what speaks for it, percent.
    """

    volume: slicer.vtkMRMLScalarVolumeNode
    encoder: str = "coralbay"
    setting: str = ""
    assumeHU: bool = False
    threshold: Annotated[float, WithinRange(1, 99)] = 50
    overlayOpacity: Annotated[float, WithinRange(0, 100)] = 50
    overlay: str = "probability"
    together: bool = True
    outlines: bool = True
    livePreview: bool = True
    connected: bool = True
    solid: bool = False
    painted: slicer.vtkMRMLSegmentationNode
    output: slicer.vtkMRMLSegmentationNode
    queryKind: str = "point"
    querySegmentation: slicer.vtkMRMLSegmentationNode
    querySegment: str = ""
    queryRoi: slicer.vtkMRMLMarkupsROINode
    regionCount: Annotated[int, WithinRange(1, 200)] = 10
    regionDistance: Annotated[float, WithinRange(0, 200)] = 20
    similarityThreshold: Annotated[float, WithinRange(0, 100)] = 50
    similarityOpacity: Annotated[float, WithinRange(0, 100)] = 60
    everywhere: bool = False
    scope: str = "scan"
    othersOnly: bool = True
    showIn3D: bool = False
    clusters: Annotated[int, WithinRange(2, 64)] = 8
    colourOpacity: Annotated[float, WithinRange(0, 100)] = 70
    scansTable: slicer.vtkMRMLTableNode
    scanColumn: str = ""
    patientColumn: str = ""
    targetColumn: str = ""
    timeColumn: str = ""
    everyScanAnother: bool = False
    scansTask: str = "classify"
    speaksThreshold: Annotated[float, WithinRange(1, 100)] = 30
    speaksOpacity: Annotated[float, WithinRange(0, 100)] = 60
