"""What the real C++ widgets offer to Python, read from their headers.

PythonQt shows Python only properties, slots, signals, ``Q_INVOKABLE`` methods and enumerators, so that is what is
collected. The result is kept in ``header_members.json``; a shim class that has any other public member is refused
(see ``pythonqt.shim``), hence a module cannot pass here by calling something that Slicer lacks. Refresh it with::

    python Testing/host/qt/headers.py --slicer <Slicer source> --ctk <CTK source>
"""

import argparse
import json
import re
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).with_name("header_members.json")

# Whose headers are read: the shims and their bases.
CLASSES = [
    *("ctkCollapsibleButton", "ctkCollapsibleGroupBox", "ctkPushButton", "ctkCheckablePushButton", "ctkCheckBox"),
    *("ctkSliderWidget", "ctkDoubleSlider", "ctkDoubleSpinBox", "ctkRangeWidget", "ctkDoubleRangeSlider"),
    *("ctkComboBox", "ctkPathLineEdit", "ctkDirectoryButton", "ctkColorPickerButton", "ctkMessageBox"),
    *("qMRMLWidget", "qMRMLCollapsibleButton"),
    *("qMRMLNodeComboBox", "qMRMLCheckableNodeComboBox", "qMRMLColorTableComboBox"),
    *("qMRMLSliderWidget", "qMRMLSpinBox", "qMRMLRangeWidget", "qSlicerWidget"),
    *("qMRMLSegmentsTableView", "qMRMLSegmentSelectorWidget", "qMRMLSegmentEditorWidget"),
    *("qSlicerMarkupsPlaceWidget", "qSlicerSimpleMarkupsWidget"),
    *("ctkVTKAbstractView", "ctkVTKSliceView", "ctkVTKRenderView", "qMRMLSliceView", "qMRMLThreeDView"),
    *("qMRMLAbstractViewWidget", "qMRMLSliceWidget", "qMRMLThreeDWidget"),
    *("ctkLayoutManager", "ctkLayoutFactory", "qMRMLLayoutManager", "qSlicerLayoutManager"),
    *("qSlicerCoreApplication", "qSlicerApplication", "qSlicerCoreIOManager", "qSlicerIOManager"),
    *("qSlicerModuleManager", "qSlicerAbstractModuleFactoryManager", "qSlicerModuleFactoryManager"),
    *("qSlicerAbstractCoreModule", "qSlicerAbstractModule", "qSlicerLoadableModule", "qSlicerScriptedLoadableModule"),
    *("qSlicerAbstractModuleWidget", "qSlicerScriptedLoadableModuleWidget"),
    *("qSlicerSegmentEditorAbstractEffect", "qSlicerSegmentEditorScriptedEffect", "qSlicerSegmentEditorEffectFactory"),
    *("qSlicerMainWindow", "qSlicerModuleSelectorToolBar", "qSlicerAbstractModulePanel", "qSlicerModulePanel"),
]

# The classes that lend their members to others without deriving: `method(Class* self, ...)`.
_DECORATORS = (
    "qSlicerBaseQTCorePythonQtDecorators",
    "qSlicerBaseQTGUIPythonQtDecorators",
    "qSlicerBaseQTAppPythonQtDecorators",
    "qSlicerMarkupsModuleWidgetsPythonQtDecorators",
    "ctkWidgetsPythonQtDecorators",
    "ctkVisualizationVTKWidgetsPythonQtDecorators",
)


@cache
def table() -> dict[str, dict]:
    """The members of every known class, by class name."""
    return json.loads(_TABLE.read_text(encoding="utf-8"))


def lineage(name: str) -> list[str]:
    """``name`` and its bases, as far as the table knows them."""
    found = []
    while name in table():
        found.append(name)
        name = table()[name]["base"]
    return found


def members(name: str) -> set[str]:
    """Every name that Python may use on an instance of class ``name``, Qt's own left aside."""
    names: set[str] = set()
    for ancestor in lineage(name):
        entry = table()[ancestor]
        names.update(entry["properties"], entry["methods"], entry["enums"])
        names.update(signature.split("(")[0] for signature in entry["signals"])
    return names


def signals(name: str) -> set[str]:
    """The normalised signatures of every signal of class ``name``, Qt's own left aside."""
    return {signature for ancestor in lineage(name) for signature in table()[ancestor]["signals"]}


def _without_comments(text: str) -> str:
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r"^\s*#.*$", "", text, flags=re.M)


def _normalised(parameters: str) -> list[str]:
    """The signatures that moc makes of a parameter list: one more for each trailing default."""
    parts = [part.strip() for part in re.split(r",(?![^<]*>)", parameters) if part.strip()]
    types, defaults = [], 0
    for part in parts:
        declared, _, default = part.partition("=")
        defaults += bool(default)
        declared = declared.strip()
        if re.search(r"[\w>]\s*[&*\s]\s*\w+$", declared) and not re.fullmatch(r"(unsigned|const)\s+\w+", declared):
            declared = re.sub(r"\w+$", "", declared).strip()
        types.append(re.sub(r"\s*([*&<>,])\s*", r"\1", re.sub(r"^const\s+(.*?)\s*&$", r"\1", declared)).strip())
    return [",".join(types[: len(types) - n]) for n in range(defaults + 1)]


def _parse(body: str) -> dict[str, list[str]]:
    properties = re.findall(r"Q_PROPERTY\(\s*[\w:<>,*&\s]+?[\s*&>](\w+)\s+(?:READ|MEMBER)", body)
    methods, signals_, enums = set(), set(), set()
    for access, section in re.findall(
        r"\b((?:public|protected|private)(?:\s+(?:slots|Q_SLOTS))?|signals|Q_SIGNALS)\s*:(?!:)"
        r"(.*?)(?=\b(?:(?:public|protected|private)(?:\s+(?:slots|Q_SLOTS))?|signals|Q_SIGNALS)\s*:(?!:)|\Z)",
        body,
        flags=re.S,
    ):
        if access.startswith("public"):
            for block in re.findall(r"\benum\b[^{;]*\{(.*?)\}", section, flags=re.S):
                enums.update(re.findall(r"(?:^|,)\s*(\w+)", block))
            invokable = re.findall(r"Q_INVOKABLE\s+[^;{(]*?(\w+)\s*\(", section)
            methods.update(invokable)
        if re.match(r"public\s+(slots|Q_SLOTS)", access):
            declarations = re.sub(r"\{[^{}]*\}", ";", section)
            methods.update(re.findall(r"(\w+)\s*\([^;]*?\)\s*(?:const)?\s*(?:override)?\s*(?:=\s*0)?\s*;", declarations))
        if access in ("signals", "Q_SIGNALS"):
            for name, parameters in re.findall(r"\bvoid\s+(\w+)\s*\(([^;]*?)\)\s*;", section):
                signals_.update(f"{name}({variant})" for variant in _normalised(parameters))
    return {
        "properties": sorted(set(properties)),
        "methods": sorted(methods),
        "signals": sorted(signals_),
        "enums": sorted(enums),
    }


def extract(roots: list[Path]) -> dict[str, dict]:
    """Read the headers of ``CLASSES`` below ``roots``."""
    paths = {path.stem: path for root in roots for path in sorted(root.rglob("*.h"))}
    found: dict[str, dict] = {}
    for name in CLASSES:
        text = _without_comments(paths[name].read_text(errors="replace"))
        declaration = re.search(rf"^class\s+(?:\w+\s+)?{name}\b[^;{{]*?(?::([^{{;]*))?\{{(.*?)^\}};", text, re.S | re.M)
        if declaration is None:
            raise RuntimeError(f"no class {name} in {paths[name]}")
        bases = re.findall(r"public\s+(?:virtual\s+)?(\w+)", declaration[1] or "")
        found[name] = {"base": bases[0] if bases else "", **_parse(declaration[2])}
    for name in _DECORATORS:
        text = _without_comments(paths[name].read_text(errors="replace"))
        for method, owner in re.findall(r"(\w+)\s*\(\s*(\w+)\s*\*\s*\w*\s*[,)]", text):
            if owner in found and not method.startswith("static_"):
                found[owner]["methods"] = sorted({*found[owner]["methods"], method})
        for owner, method in re.findall(r"static_([A-Za-z]+)_(\w+)\s*\(", text):
            if owner in found:
                found[owner]["methods"] = sorted({*found[owner]["methods"], method})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Refresh header_members.json from the sources of Slicer and CTK")
    parser.add_argument("--slicer", type=Path, required=True)
    parser.add_argument("--ctk", type=Path, required=True)
    arguments = parser.parse_args()
    found = extract([arguments.ctk / "Libs", *(arguments.slicer / part for part in ("Base", "Libs", "Modules"))])
    lines = ",\n".join(f'"{name}": {json.dumps(entry)}' for name, entry in sorted(found.items()))
    _TABLE.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
