"""CoralBay for 3D Slicer: few-shot segmentation and search for similar regions on CT foundation models.

This file contains metadata and connects the module with Slicer; the implementation is in CoralBaySlicerCore.
"""

import sys
from pathlib import Path
from typing import Any

import slicer
from CoralBaySlicerCore.panels.module_panel import ModulePanel
from CoralBaySlicerCore.selftest import CoralBaySlicerTest
from CoralBaySlicerCore.setup import encoder_cards
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget

_EFFECT = "SegmentEditorCoralBayLib"
"""The folder of the effect, which Slicer uses as the name of its Python module."""
_DOCS = "https://github.com/coralbay/SlicerCoralBay/blob/main/docs"

__all__ = ["CoralBaySlicer", "CoralBaySlicerLogic", "CoralBaySlicerTest", "CoralBaySlicerWidget"]


class CoralBaySlicer(ScriptedLoadableModule):
    """Metadata of the module for Slicer."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("CoralBay")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        # Loaded before this module, and unloaded after it.
        parent.dependencies = ["Colors", "Markups", "Segmentations", "VolumeRendering", "Volumes"]
        parent.contributors = ["CoralBay contributors"]
        parent.helpText = _(
            "Segment structures in CT from a few clicks or strokes, and find similar regions, with features of "
            "pretrained networks that are computed once for a scan. Encoders: {encoders}. For research use; not a medical "
            'device. <a href="{docs}/tutorial.md">Tutorial</a>, <a href="{docs}/user-guide.md">user guide</a>.'
        ).format(encoders=encoder_cards.titles(), docs=_DOCS)
        parent.acknowledgementText = _(
            "Encoders, with their papers and the licenses of their weights: {sources}. If you use the module, please cite "
            "the paper of the encoder."
        ).format(sources=encoder_cards.sources())
        slicer.app.connect("startupCompleted()", _register_sample_data)
        slicer.app.connect("startupCompleted()", _register_effect)


class CoralBaySlicerWidget(ScriptedLoadableModuleWidget):
    """Forwards Slicer's calls to the panel."""

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = CoralBaySlicerLogic()
        self.panel = ModulePanel(self.logic, self.parent)
        self.layout.addWidget(self.panel.root)
        if self.parent.isEntered:
            # Reloaded while it is shown: Slicer does not call `enter` again.
            self.panel.enter()

    def cleanup(self) -> None:
        """Stop all tasks and remove all observers."""
        try:
            self.panel.close()
        finally:
            self.logic.close()

    def enter(self) -> None:
        """The user selected the module."""
        self.panel.enter()

    def exit(self) -> None:
        """The user selected another module."""
        self.panel.exit()

    def onReload(self) -> None:
        """Reload the module with all of its files.

        Segment Editors that are made later have the new effect. Those that exist keep the old one: press the Segment
        Editor's own Reload.
        """
        # Slicer loads the source of an effect only if Python has no module of its name.
        for name in [name for name in sys.modules if name.split(".")[0] in ("CoralBaySlicerCore", _EFFECT)]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


def _register_sample_data() -> None:
    from CoralBaySlicerCore.work.sample_data import register

    register()


def _register_effect() -> None:
    """Add the effect CoralBay to the Segment Editor."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    effect.setPythonSource((Path(__file__).parent / _EFFECT / "SegmentEditorEffect.py").as_posix())
    effect.self().register()
