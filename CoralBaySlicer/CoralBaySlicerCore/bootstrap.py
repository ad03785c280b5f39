"""Makes CoralBayLib importable: installed beside the module, or in the source checkout one folder up."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def make_importable() -> None:
    """Put the folder that holds CoralBayLib on the search path, unless it is found already; imports nothing."""
    if importlib.util.find_spec("CoralBayLib") is not None:
        return
    module_folder = Path(__file__).resolve().parents[1]
    for folder in (module_folder, module_folder.parent):
        if (folder / "CoralBayLib" / "__init__.py").is_file():
            # Last, so that nothing else in a source checkout can hide a package of Slicer's.
            sys.path.append(str(folder))
            return
    raise ImportError("CoralBayLib was not found beside the module CoralBaySlicer. Install the extension again.")
