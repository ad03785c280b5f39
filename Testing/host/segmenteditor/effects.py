"""Scripted effects of the Segment Editor and their factory, on Slicer's own logic of the Segment Editor."""

import sys
from pathlib import Path
from typing import Any, ClassVar, Optional

import slicer
from host.modules import load_source
from host.qt.pythonqt import shim
from host.qt.qtproperty import stored
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Signal


@shim
class qSlicerSegmentEditorAbstractEffect(QtCore.QObject):
    """Header: Slicer Modules/Loadable/Segmentations/EditorEffects/qSlicerSegmentEditorAbstractEffect.h."""

    ModificationModeSet, ModificationModeAdd, ModificationModeRemove, ModificationModeRemoveAll = range(4)
    NotConfirmed, ConfirmedWithoutDialog, ConfirmedWithDialog = range(3)

    def __init__(self, parent: QtCore.QObject | None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._logic: Any = None
        self._widget: Any = None
        self._active = False
        self._frame: QtWidgets.QFrame | None = None

    # -- life

    def active(self) -> bool:
        return self._active

    def activate(self) -> None:
        self.optionsFrame().setVisible(True)
        self._active = True
        self.updateGUIFromMRML()

    def deactivate(self) -> None:
        self.optionsFrame().setVisible(False)
        self._active = False

    def selectEffect(self, name: str) -> None:
        self._widget.setActiveEffectByName(name)

    def _interaction_changed(self, interaction: Any) -> None:
        if interaction.GetCurrentInteractionMode() != interaction.ViewTransform:
            self.selectEffect("")

    # -- options

    def optionsFrame(self) -> QtWidgets.QFrame:
        if self._frame is None:
            # Slicer makes it at once, and deletes it with the effect. Here that would be up to the garbage collector.
            self._frame = QtWidgets.QFrame()
            layout = QtWidgets.QFormLayout(self._frame)
            layout.setContentsMargins(4, 4, 4, 4)
            layout.setSpacing(4)
        return self._frame

    def optionsLayout(self) -> QtWidgets.QFormLayout:
        return self.optionsFrame().layout()

    def addOptionsWidget(self, widget: Any) -> None:
        self.optionsLayout().addRow(_sized(widget))

    def addLabeledOptionsWidget(self, label: str, widget: Any) -> QtWidgets.QLabel:
        shown = QtWidgets.QLabel(label)
        self.optionsLayout().addRow(shown, _sized(widget))
        return shown

    # -- parameters

    def parameterSetNode(self) -> Any:
        return self._node

    def setParameterSetNode(self, node: Any) -> None:
        self._node = node

    def scene(self) -> Any:
        return self._node.GetScene() if self._node is not None else None

    def parameter(self, name: str) -> str:
        for each in (f"{self.name}.{name}", name):
            value = self._required_node().GetAttribute(each)
            if value is not None:
                return value
        # Slicer logs this as critical and returns "".
        raise RuntimeError(f"Parameter named {name} cannot be found for effect {self.name}")

    def integerParameter(self, name: str) -> int:
        return int(self.parameter(name))

    def doubleParameter(self, name: str) -> float:
        return float(self.parameter(name))

    def setParameter(self, name: str, value: str | float) -> None:
        self.setCommonParameter(f"{self.name}.{name}", value)

    def setParameterDefault(self, name: str, value: str | float) -> None:
        if not self.parameterDefined(name):
            self.setParameter(name, value)

    def setCommonParameter(self, name: str, value: str | float) -> None:
        if type(value) not in (str, int, float):
            raise TypeError(f"setParameter takes a string or a number, not {value!r}")
        # A QString made of a double has six digits.
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        node = self._required_node()
        if (node.GetAttribute(name) or "") == text:
            return
        disabled = node.GetDisableModifiedEvent()
        node.SetDisableModifiedEvent(1)
        node.SetAttribute(name, text)
        node.SetDisableModifiedEvent(disabled)
        node.InvokeCustomModifiedEvent(node.EffectParameterModified)

    def setCommonParameterDefault(self, name: str, value: str | float) -> None:
        if not self.commonParameterDefined(name):
            self.setCommonParameter(name, value)

    def parameterDefined(self, name: str) -> bool:
        return self.commonParameterDefined(f"{self.name}.{name}")

    def commonParameterDefined(self, name: str) -> bool:
        return self._node is not None and bool(self._node.GetAttribute(name))

    def nodeReference(self, name: str) -> Any:
        if self._node is None:
            return None
        found = self._node.GetNodeReference(f"{self.name}.{name}")
        return found if found is not None else self._node.GetNodeReference(name)

    def setNodeReference(self, name: str, node: Any) -> None:
        self.setCommonNodeReference(f"{self.name}.{name}", node)

    def setCommonNodeReference(self, name: str, node: Any) -> None:
        own = self._required_node()
        if own.GetNodeReference(name) is not node:
            own.SetNodeReferenceID(name, node.GetID() if node is not None else None)
            own.InvokeCustomModifiedEvent(own.EffectParameterModified)

    def _required_node(self) -> Any:
        if self._node is None:
            raise RuntimeError(f"Invalid segment editor parameter set node set to effect {self.name}")
        return self._node

    # -- images and segments

    def referenceGeometryImage(self) -> Any:
        return self._logic.GetReferenceGeometryImage() if self._logic.UpdateReferenceGeometryImage() else None

    def sourceVolumeImageData(self) -> Any:
        return self._logic.GetAlignedSourceVolume() if self._logic.UpdateAlignedSourceVolume() else None

    def defaultModifierLabelmap(self) -> Any:
        return self._logic.GetModifierLabelmap() if self._logic.ResetModifierLabelmapToDefault() else None

    def modifySegmentByLabelmap(
        self, segmentation: Any, segment_id: str, labelmap: Any, mode: int, bypass_masking: bool = False
    ) -> None:
        logic = slicer.vtkSlicerSegmentEditorLogic
        how = (logic.ModificationModeSet, logic.ModificationModeAdd, logic.ModificationModeRemove)[mode]
        self._logic.ModifySegmentByLabelmap(segmentation, segment_id, labelmap, how, self.perSegment, bypass_masking)

    def modifySelectedSegmentByLabelmap(self, labelmap: Any, mode: int, bypass_masking: bool = False) -> None:
        node = self._required_node()
        segment_id = node.GetSelectedSegmentID() or ""
        self.modifySegmentByLabelmap(node.GetSegmentationNode(), segment_id, labelmap, mode, bypass_masking)

    def saveStateForUndo(self) -> None:
        self._widget.saveStateForUndo()

    def confirmCurrentSegmentVisible(self) -> int:
        segmentation, segment_id = self._node.GetSegmentationNode(), self._node.GetSelectedSegmentID()
        display = segmentation.GetDisplayNode() if segmentation is not None else None
        if not segment_id or display is None or display.GetSegmentVisibility(segment_id):
            return self.ConfirmedWithoutDialog
        agreed = slicer.util.confirmYesNoDisplay("The current segment is not visible. Continue?")
        return self.ConfirmedWithDialog if agreed else self.NotConfirmed

    name = stored(str, "")
    title = stored(str, "")
    perSegment = stored(bool, True)
    requireSegments = stored(bool, True)
    showEffectCursorInSliceView = stored(bool, True)
    showEffectCursorInThreeDView = stored(bool, False)


@shim
class qSlicerSegmentEditorScriptedEffect(qSlicerSegmentEditorAbstractEffect):
    """Header: Slicer Modules/Loadable/Segmentations/EditorEffects/qSlicerSegmentEditorScriptedEffect.h."""

    def __init__(self, parent: QtCore.QObject | None) -> None:
        super().__init__(parent)
        self._python: Any = None
        self._source = ""
        self.name = "UnnamedScriptedEffect"

    def self(self) -> Any:
        return self._python

    def pythonSource(self) -> str:
        return self._source

    def setPythonSource(self, source: str) -> bool:
        if "\\" in source or not source.endswith(".py"):
            raise ValueError(f"not a path of a Python file with forward slashes: {source}")
        path = Path(source)
        # Slicer takes the name of the folder as that of the module, and the name of the file as that of the class.
        module_name, class_name = path.parent.name, path.stem if path.stem.endswith("Effect") else f"{path.stem}Effect"
        module = sys.modules.get(module_name)
        if module is not None and not hasattr(module, class_name):
            raise RuntimeError(f"loading {source} would replace the module {module_name}")
        module = module or load_source(module_name, path)
        self._python = getattr(module, class_name)(self)
        self._source = source
        setattr(slicer, module_name, self._python)
        return True

    def _clone(self) -> "qSlicerSegmentEditorScriptedEffect":
        cloned = self._call("clone")
        if not isinstance(cloned, qSlicerSegmentEditorAbstractEffect) or cloned is self:
            raise TypeError(f"clone of {self.name} returned {cloned!r}")
        return cloned

    def activate(self) -> None:
        super().activate()
        self._call("activate")

    def deactivate(self) -> None:
        super().deactivate()
        self._call("deactivate")

    def cleanup(self) -> None:
        self._call("cleanup")

    def helpText(self) -> str:
        text = self._call("helpText")
        if not isinstance(text, str):
            raise TypeError("helpText is expected to return a string")
        return text

    def updateGUIFromMRML(self) -> None:
        if self._active:
            self._call("updateGUIFromMRML")

    def updateMRMLFromGUI(self) -> None:
        self._call("updateMRMLFromGUI")

    def _interaction_changed(self, interaction: Any) -> None:
        if hasattr(self._python, "interactionNodeModified"):
            self._python.interactionNodeModified(interaction)
        else:
            super()._interaction_changed(interaction)

    def _call(self, method: str, *arguments: Any) -> Any:
        """A method of the Python class; None where it has none of that name."""
        return getattr(self._python, method)(*arguments) if hasattr(self._python, method) else None


@shim
class qSlicerSegmentEditorEffectFactory(QtCore.QObject):
    """Header: Slicer Modules/Loadable/Segmentations/EditorEffects/qSlicerSegmentEditorEffectFactory.h."""

    effectRegistered = Signal(str)
    _instance: ClassVar[Optional["qSlicerSegmentEditorEffectFactory"]] = None

    def __init__(self) -> None:
        super().__init__()
        self._effects: list[Any] = []

    @staticmethod
    def instance() -> "qSlicerSegmentEditorEffectFactory":
        factory = qSlicerSegmentEditorEffectFactory
        if factory._instance is None:
            factory._instance = factory()
        return factory._instance

    def registerEffect(self, effect: Any) -> bool:
        if not effect.name:
            raise ValueError("an effect cannot be registered with an empty name")
        if any(each.name == effect.name for each in self._effects):
            return False
        self._effects.append(effect)
        self.effectRegistered.emit(effect.name)
        return True

    def registeredEffects(self) -> tuple[Any, ...]:
        return tuple(self._effects)

    def copyEffects(self, effects: list[Any]) -> list[Any]:
        known = {each.name for each in effects}
        added = [each._clone() for each in self._effects if each.name not in known]
        effects.extend(added)
        return added

    def _forget(self, folder: Path) -> bool:
        """Drop the effects whose source lies in a folder, and tell whether there was one."""
        gone = [each for each in self._effects if folder in Path(each.pythonSource()).parents]
        for effect in gone:
            effect.cleanup()
            self._effects.remove(effect)
        return bool(gone)


def _sized(widget: Any) -> Any:
    if isinstance(widget, QtWidgets.QWidget):
        policy = QtWidgets.QSizePolicy.Policy
        widget.setSizePolicy(policy.Preferred, policy.MinimumExpanding)
    return widget
