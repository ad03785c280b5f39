"""Which modules load without torch: those that the Slicer module needs before PyTorch is installed."""

from __future__ import annotations

import subprocess
import sys

MODULES = (
    "core.deprecation",
    "core.devices",
    "core.errors",
    "core.formatting",
    "core.paths",
    "core.progress",
    "core.requirements",
    "core.resources",
    "core.schemas",
    "core.tensor_files",
    "features.deflated",
    "features.identity",
    "features.store_folder",
    "fewshot.options",
    "fewshot.prompt_io",
    "fewshot.prompts",
    "imaging.cropping",
    "imaging.dicom",
    "imaging.discovery",
    "imaging.facts",
    "imaging.formats",
    "imaging.grid",
    "imaging.hounsfield",
    "imaging.inspection",
    "imaging.palette",
    "imaging.scan_folders",
    "imaging.segmentation_io",
    "imaging.volume_io",
    "remote.embedder",
    "remote.token",
    "serving.run",
    "serving.settings",
)


def test_these_modules_do_not_load_torch():
    code = "import importlib, sys\n"
    for name in MODULES:
        code += f"importlib.import_module('CoralBayLib.{name}')\nassert 'torch' not in sys.modules, 'by {name}'\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
