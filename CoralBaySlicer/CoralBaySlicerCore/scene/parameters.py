"""The module's parameters, which are saved with the scene.

Settings of the computer (weights file, device) are kept in the application's settings instead.
"""

import logging
import math
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import slicer
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


def choose_encoder(parameters: "CoralBaySlicerParameters", name: str) -> None:
    """Choose another encoder, with its default inference mode."""
    with slicer.util.NodeModify(parameters.parameterNode):
        parameters.setting = ""
        parameters.encoder = name


@parameterNodeWrapper
class CoralBaySlicerParameters:
    """The parameters of the module. Their names are saved in scenes.

    Attributes:
        volume: the current scan.
        encoder, setting: the name of the encoder and its inference mode ("" for the default).
        assumeHU: whether the values are taken as HU without a check.
        threshold: minimum probability of a structure's voxels, percent.
        overlayOpacity: of the probability or uncertainty map and of filled structures, percent.
        overlay: the map of the preview: "probability", "uncertainty" or "off".
        together, outlines: whether all structures of the preview are shown, and whether as outlines.
        livePreview: whether the preview is updated after every prompt.
        connected: whether only connected components with a prompt are kept.
        solid: whether the output segments are shown in 3D.
        painted: segmentation whose segments are used as prompts.
        output: segmentation that Apply writes to.
        locked: segmentation whose visible segments must not be touched.
        lockOthers: whether segments of the output that are not structures of this scan must not be touched either.
        queryKind: "point", "segment", "roi" or, in a library only, "whole".
        querySegmentation, querySegment, queryRoi: the query, unless it is a point.
        regionCount: maximum number of regions.
        regionDistance: minimum distance between them, mm.
        similarityThreshold: minimum similarity of the map and of a region's voxels, percent.
        similarityOpacity: of the similarity map, percent.
        everywhere: whether to search all loaded volumes.
        scope: where to search: "scan" or "library".
        othersOnly: whether the scan of the query is excluded from the results of a library search.
        showIn3D: whether the similarity map is shown in 3D.
        clusters: number of clusters.
        colourOpacity: of the feature map, percent.
        scansTable: table with one row per scan.
        scanColumn, patientColumn, targetColumn, timeColumn: the names of its columns.
        everyScanAnother: whether every scan is of a different patient, so that no patient column is needed.
        scansTask: what is predicted: "classify", "regress" or "survive".
        positiveClass: the positive one of two classes; "" for the one that is likely meant.
        attentiveProbe: whether the probe weighs locations instead of averaging them.
        speaksThreshold, speaksOpacity: of the saliency map, percent.
    """

    if TYPE_CHECKING:
        # The decorator adds these.
        parameterNode: slicer.vtkMRMLScriptedModuleNode

        def __init__(self, node: slicer.vtkMRMLScriptedModuleNode) -> None: ...

        def connectGui(self, gui: Any) -> int:
            """Connect widgets with the parameters that their properties name; returns a tag for `disconnectGui`."""

        def disconnectGui(self, tag: int) -> None:
            """Disconnect widgets."""

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
    locked: slicer.vtkMRMLSegmentationNode
    lockOthers: bool = False
    queryKind: str = "point"
    querySegmentation: slicer.vtkMRMLSegmentationNode
    querySegment: str = ""
    queryRoi: slicer.vtkMRMLMarkupsROINode
    regionCount: Annotated[int, WithinRange(1, 200)] = 10
    regionDistance: Annotated[float, WithinRange(0, 200)] = 20
    similarityThreshold: Annotated[float, WithinRange(0, 100)] = 50
    similarityOpacity: Annotated[float, WithinRange(0, 100)] = 60
    everywhere: bool = False
    regionsTable: slicer.vtkMRMLTableNode
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
    positiveClass: str = ""
    attentiveProbe: bool = False
    speaksThreshold: Annotated[float, WithinRange(1, 100)] = 30
    speaksOpacity: Annotated[float, WithinRange(0, 100)] = 60


CHOICES = {
    "overlay": ("probability", "uncertainty", "off"),
    "queryKind": ("point", "segment", "roi", "whole"),
    "scope": ("scan", "library"),
    "scansTask": ("classify", "regress", "survive"),
}
"""All values of these parameters."""


def reset_damaged(node: slicer.vtkMRMLScriptedModuleNode) -> list[str]:
    """Give parameters whose saved values cannot be used their defaults, as after a scene file was damaged or edited.

    Args:
        node: the module's parameter node, before it is wrapped.

    Returns:
        The names of these parameters.
    """
    kinds = get_type_hints(CoralBaySlicerParameters, include_extras=True)
    damaged = [name for name, kind in kinds.items() if not _is_usable(node, name, kind)]
    for name in damaged:
        # The wrapper sets a missing parameter to its default.
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)
    if damaged:
        text = _("The scene's values of these parameters of CoralBay cannot be used, so the defaults are used: {names}")
        logging.warning(text.format(names=", ".join(damaged)))
    return damaged


def _is_usable(node: slicer.vtkMRMLScriptedModuleNode, name: str, kind: Any) -> bool:
    """Whether a parameter can be read as its type and is in its range; also when it is not there."""
    plain, *limits = get_args(kind) or (kind,)
    if issubclass(plain, slicer.vtkMRMLNode):
        referred = node.GetNodeReference(name)
        return referred is None or isinstance(referred, plain)
    if not node.HasParameter(name):
        return True
    text = node.GetParameter(name)
    if plain is bool:
        return text in ("True", "False")
    if plain is str:
        return name not in CHOICES or text in CHOICES[name]
    try:
        value = plain(text)
        for limit in limits:
            limit.validate(value)
    except (ValueError, OverflowError):
        return False
    return math.isfinite(value)
