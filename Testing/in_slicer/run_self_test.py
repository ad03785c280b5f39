"""Open the module's panel and run its self test inside Slicer, then end Slicer with the result.

    Slicer --testing --no-splash --additional-module-paths CoralBaySlicer \
      --python-script Testing/in_slicer/run_self_test.py --result result.txt

The result file begins with "passed" or "failed". It is there because the exit status alone does not tell a test that
passed from a script that Slicer never ran. Slicer needs its main window; on Linux without a screen, use xvfb-run.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
import traceback
import unittest
from collections.abc import Sequence
from pathlib import Path

import slicer

MODULE = "CoralBaySlicer"


def main(arguments: Sequence[str]) -> None:
    """Run everything, write the result file, and end Slicer with status 0 or 1."""
    parser = argparse.ArgumentParser(description="Run the self test of the module CoralBay inside Slicer.")
    parser.add_argument("--result", type=Path, required=True, metavar="FILE", help="where the result is written")
    parser.add_argument(
        "--without-packages",
        action="store_true",
        help="PyTorch cannot be installed in this Slicer: only load the module and open its panel",
    )
    options, _slicers_own = parser.parse_known_args(arguments)
    try:
        report, status = f"passed\n{run(not options.without_packages)}", 0
    except Exception:  # whatever it is, the result file must name it and Slicer must end
        report, status = f"failed\n{traceback.format_exc()}", 1
    print(report, flush=True)
    options.result.write_text(report, encoding="utf-8")
    slicer.util.exit(status)


def run(with_packages: bool = True) -> str:
    """Open the panel and run the self test.

    Args:
        with_packages: whether PyTorch and the other packages must be installed; the self test is left out otherwise.

    Returns:
        What was run.

    Raises:
        AssertionError: the module, its panel, a package or the self test failed.
    """
    if not hasattr(slicer.modules, MODULE.lower()):
        raise AssertionError(f"Slicer did not load the module {MODULE}; see its log.")
    slicer.util.selectModule(MODULE)
    slicer.app.processEvents()
    panel = getattr(slicer.modules, f"{MODULE}Widget").panel
    if panel.parameters is None:
        raise AssertionError("The panel was opened, but is not connected to the scene.")
    if not with_packages:
        return "The module was loaded and its panel opened. The self test was left out."
    from CoralBaySlicerCore.setup import packages

    missing = packages.missing()
    if missing:
        raise AssertionError(f"The self test needs packages that are not installed: {', '.join(missing)}")
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(importlib.import_module(MODULE).CoralBaySlicerTest)
    log = io.StringIO()
    result = unittest.TextTestRunner(log, verbosity=2).run(suite)
    if not result.wasSuccessful() or result.testsRun == 0 or result.skipped:
        raise AssertionError(f"The self test did not pass:\n{log.getvalue()}")
    show_overlay()
    return log.getvalue()


def show_overlay() -> None:
    """Leave a map in the views: when Slicer ends, the module has to hide it while other modules are gone already.

    With `--testing`, Slicer ends with a failure if that raises an error.
    """
    import numpy as np
    from CoralBaySlicerCore.scene.volumes import ijk_to_ras
    from CoralBaySlicerCore.selftest import make_phantom

    slicer.util.selectModule(MODULE)
    volume, _center = make_phantom()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    overlays = getattr(slicer.modules, f"{MODULE}Widget").logic.overlays
    percent = np.full(slicer.util.arrayFromVolume(volume).shape, 60, np.uint8)
    overlays.update("probability", percent, ijk_to_ras(volume), volume)
    overlays.show_map("probability", 0.5)


if __name__ == "__main__":
    main(sys.argv[1:])
