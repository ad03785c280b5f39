"""The classes of Slicer, Qt and VTK that the module's annotations name exist. mypy knows none of them."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

CORE = Path(__file__).parents[2] / "CoralBaySlicer" / "CoralBaySlicerCore"
UNTYPED = ("slicer", "qt", "ctk", "vtk")
NOT_IN_HOST = {"ctk.ctkDICOMDatabase"}
"""The host has no DICOM database."""


def annotations(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
            yield node.returns


def named_classes() -> set[tuple[str, str]]:
    """Package and class of each `package.class` in an annotation."""
    return {
        (part.value.id, part.attr)
        for file in CORE.rglob("*.py")
        for annotation in annotations(ast.parse(file.read_text(encoding="utf-8")))
        for part in ast.walk(annotation)
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in UNTYPED
    }


def test_annotations_name_classes():
    named = named_classes()
    assert ("slicer", "vtkMRMLScalarVolumeNode") in named
    unknown = {f"{package}.{name}" for package, name in named if not hasattr(importlib.import_module(package), name)}
    assert unknown == NOT_IN_HOST
