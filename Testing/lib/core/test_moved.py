"""Module paths of version 0.1.0, and packages that import their modules at first use."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from CoralBayLib.core import moved

_PATHS = """
basis cli cli_ct cli_encoders cli_library cli_scans cli_weights console contact_sheet contrast ct demo devices dicom
embedding encoders encoders.astra encoders.axes encoders.base encoders.cards encoders.checkpoints encoders.ctfm
encoders.families encoders.fmct encoders.frozen encoders.mini encoders.own encoders.registry encoders.swin
encoders.swin_attention encoders.vit encoders.voxelfm encoders.weights encoders.weights.bundle
encoders.weights.download encoders.weights.find encoders.weights.hub encoders.weights.manage encoders.weights.shelf
encoders.weights.sources errors expected geometry image_features inside io library library.adding library.basis
library.bucket library.checks library.clusters library.database library.exporting library.folder library.index
library.lease library.making library.on_ray library.place library.plan library.rows library.search library.stats
library.tables library.writing matching nearness packing paths preprocessing probe progress prompt_files prompts
pyramid regions resources sample scans scans.charts scans.embeddings scans.evaluation scans.model scans.report
scans.saliency scans.scores scans.splits scans.stability scans.table segmentation segmentation_io shared_basis
similarity simulate store tensor_files transfer uncertainty whereabouts
"""
PATHS = _PATHS.split()
"""All modules of version 0.1.0."""


@pytest.fixture
def forget():
    """Removes a module from those imported, so that it is imported again; by its full name."""

    def remove(name: str) -> None:
        sys.modules.pop(name, None)
        parent, _, child = name.rpartition(".")
        vars(sys.modules.get(parent, sys)).pop(child, None)

    return remove


@pytest.mark.parametrize("path", PATHS)
def test_every_old_path_leads_to_modules_that_exist(path):
    assert all(find_spec(f"CoralBayLib.{new}") for new in moved._MOVED.get(path, (path,)))


def test_no_old_path_hides_a_module():
    assert not moved._MOVED.keys() - set(PATHS)
    files = Path(moved.__file__).parents[1]
    for old in moved._MOVED:
        base = files.joinpath(*old.split("."))
        assert not base.with_suffix(".py").exists() and not (base / "__init__.py").exists()


@pytest.mark.parametrize(
    ("old", "new"), [("errors", "core.errors"), ("encoders.axes", "encoders.networks.orientation"), ("scans", "scan_probes")]
)
def test_an_old_path_gives_the_module_itself_and_warns_the_importer(old, new, forget):
    forget(f"CoralBayLib.{old}")
    message = f"CoralBayLib.{old} is called CoralBayLib.{new} now"
    with pytest.warns(DeprecationWarning, match=message.replace(".", r"\.")) as warned:
        exec(f"import CoralBayLib.{old}", {"__name__": __name__})
    assert len(warned) == 1 and warned[0].filename == "<string>"
    assert sys.modules[f"CoralBayLib.{old}"] is importlib.import_module(f"CoralBayLib.{new}")


def test_modules_of_a_moved_package_are_not_loaded_twice(forget):
    for name in ("CoralBayLib.scans.table", "CoralBayLib.scans"):
        forget(name)
    with pytest.warns(DeprecationWarning, match=r"CoralBayLib\.scan_probes"):
        from CoralBayLib.scans.table import Labels
    from CoralBayLib.scan_probes.labels import Labels as Current

    assert Labels is Current
    assert importlib.import_module("CoralBayLib.scan_probes").__name__ == "CoralBayLib.scan_probes"


def test_names_of_a_module_that_was_split_are_looked_up_in_its_parts(monkeypatch):
    finder = moved.MovedModules({"halves": ("core.errors", "core.progress")})
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    try:
        with pytest.warns(DeprecationWarning, match="halves is called CoralBayLib.core.errors and CoralBayLib.core.progress"):
            halves = importlib.import_module("CoralBayLib.halves")
    finally:
        sys.modules.pop("CoralBayLib.halves", None)
        vars(sys.modules["CoralBayLib"]).pop("halves", None)
    assert halves.VolumeError is importlib.import_module("CoralBayLib.core.errors").VolumeError
    assert halves.CancelToken is importlib.import_module("CoralBayLib.core.progress").CancelToken
    with pytest.raises(AttributeError, match=r"'CoralBayLib\.halves' has no attribute 'nothing'"):
        _ = halves.nothing


def test_unknown_modules_are_still_unknown():
    with pytest.raises(ModuleNotFoundError, match=r"CoralBayLib\.nothing"):
        importlib.import_module("CoralBayLib.nothing")


def test_the_finder_is_registered_once():
    before = list(sys.meta_path)
    moved.register()
    assert sys.meta_path == before
    assert sum(isinstance(finder, moved.MovedModules) for finder in before) == 1


@pytest.mark.slow
@pytest.mark.parametrize("package", ["similarity", "scan_probes"])
def test_a_package_offers_its_names_and_does_not_import_torch(package):
    code = (
        "import sys, importlib\n"
        f"package = importlib.import_module('CoralBayLib.{package}')\n"
        "assert 'torch' not in sys.modules\n"
        "for name in package.__all__:\n"
        "    assert callable(getattr(package, name)), name\n"
        f"from CoralBayLib.{package} import *\n"
    )
    subprocess.run([sys.executable, "-W", "error::DeprecationWarning:CoralBayLib", "-c", code], check=True)


def test_similarity_offers_what_the_module_of_that_name_did():
    from CoralBayLib.similarity import Query, Region, find_regions, search, similarity_map

    assert (Query, Region, find_regions, similarity_map) == (
        search.Query,
        search.Region,
        search.find_regions,
        search.similarity_map,
    )


def test_demo_offers_what_the_module_of_that_name_did():
    from CoralBayLib.demo import Demo, Findings
    from CoralBayLib.demo import run as demo_run

    assert (Demo, Findings) == (demo_run.Demo, demo_run.Findings)
