"""Files that CoralBay writes, and tables and lists of words: prompts, probes, entries of the store, bases, reports."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import CoralBayLib as cb
from CoralBayLib.encoders.language.vocabulary import Vocabulary
from CoralBayLib.features import shared_basis
from CoralBayLib.fewshot.prompt_io import read_prompts
from CoralBayLib.library.basis import LibraryBasis
from CoralBayLib.library.records import ScanRecord, ScanRows
from CoralBayLib.library.reports import add_reports, read_reports, remove_reports
from CoralBayLib.library.storage.folder import Folder
from CoralBayLib.library.transactions import commit
from CoralBayLib.scan_probes import AttentiveProbe, ScanProbe, ScanTokens
from CoralBayLib.scan_probes.labels import Labels
from CoralBayLib.scan_probes.tables.table import read_table
from CoralBayLib.similarity.feature_maps import FeatureProjection, color_basis, color_map
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid

from .edits import (
    edited_cells,
    edited_field,
    edited_json,
    edited_tensor,
    lines_edit,
    tensor_without_checksum,
    without_checksum,
)
from .kinds import Build, DroppedError, Input

_OURS = (edited_field, edited_field, without_checksum, edited_tensor, tensor_without_checksum)


@cache
def pyramid() -> cb.FeaturePyramid:
    """Features of a phantom."""
    return cb.embed(phantom(phantom_grid("axial"), [([12, -30, 45], 8.0, 500.0)]), PoolingEncoder((4, 8)))


def _prompts() -> cb.Prompts:
    center = pyramid().grid.center_ras
    points = np.array([center, center + [0, 0, 30], center + [5.5, 0, 0], center - [0, 20, 0]])
    return cb.Prompts(points, [1, 0, 2, 0], {1: "ball", 2: "Läsion"})


def _use_prompts(path: Path) -> Input:
    def use() -> list[Any]:
        found = read_prompts(path)
        return [found.points_ras, found.labels, sorted(found.names.items())]

    edits = (lines_edit(b"", "="), edited_cells) if path.suffix == ".fcsv" else (edited_json,)
    return Input([path], use, {None: edits})


def own_prompts(folder: Path) -> Input:
    """Prompts as CoralBay saves them."""
    _prompts().save(folder / "prompts.json")
    return _use_prompts(folder / "prompts.json")


def markups(folder: Path) -> Input:
    """Prompts as Slicer saves them."""
    path = folder / "liver.mrk.json"
    points = [
        {"id": str(n + 1), "label": f"{name}-{n + 1}", "position": [n, 2.5, -30.0], "positionStatus": "defined"}
        for n, name in enumerate(["liver", "liver", "background"])
    ]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": points}
    document = {"@schema": "https://raw.githubusercontent.com/slicer/markups-schema-v1.0.3.json#", "markups": [markup]}
    path.write_text(json.dumps(document, indent=1))
    return _use_prompts(path)


def fiducials(folder: Path) -> Input:
    """Prompts in Slicer's older format."""
    path = folder / "spleen.fcsv"
    path.write_text(
        "# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label\n"
        "1,10.5,-20,30,0,0,0,1,1,1,0,spleen-1,,\n2,11,-21,30,0,0,0,1,1,1,0,background-2,,\n"
    )
    return _use_prompts(path)


def store_entry(folder: Path) -> Input:
    """An entry of the store; a damaged one is dropped."""
    store = cb.Store(folder / "store")
    store.put(pyramid())

    def use() -> list[Any]:
        found = store.get(pyramid().key)
        if found is None:
            raise DroppedError("The entry is damaged.")
        levels = [[level.grid.ijk_to_ras, level.features.float().numpy()] for level in found.levels]
        return [found.basis.projection.numpy(), levels]

    return Input([store.entries()[0].path], use, {None: _OURS}, lambda _path: 0, (".lock",), may_change=True)


def probe(folder: Path) -> Input:
    """A few-shot probe."""
    path = folder / "liver.probe"
    cb.Probe().fit(pyramid(), _prompts()).save(path)

    def use() -> list[Any]:
        found = cb.Probe.load(path)
        assert found.memory is None or found.memory.positions.shape[1] == 3
        logits = found.logits(pyramid())
        assert logits.isfinite().all()
        return [found.weights_.numpy(), logits.numpy()]

    return Input([path], use, {None: _OURS}, lambda _path: 0)


def scan_probe(folder: Path) -> Input:
    """A probe on whole scans."""
    path, vectors = folder / "scan.probe", np.random.default_rng(0).normal(size=(12, 8))
    ScanProbe().fit(vectors, Labels.of("classification", list("abc") * 4, range(12))).save(path)
    return Input([path], lambda: ScanProbe.load(path).predict(vectors).tolist(), {None: _OURS}, lambda _path: 0)


def attentive_probe(folder: Path) -> Input:
    """An attentive probe on whole scans."""
    path, random = folder / "attentive.probe", np.random.default_rng(0)
    levels = (("fine", 6), ("coarse", 9))
    scans = [tuple(random.normal(size=(12, channels)).astype(np.float16) for _, channels in levels) for _ in range(12)]
    tokens = ScanTokens(levels, tuple(scans))
    AttentiveProbe().fit(tokens, Labels.of("classification", list("ab") * 6, range(12))).save(path)
    return Input([path], lambda: AttentiveProbe.load(path).predict(tokens).tolist(), {None: _OURS}, lambda _path: 0)


def projection(folder: Path) -> Input:
    """Colors of features."""
    path = folder / "colors"
    color_basis(pyramid()).save(path)
    use = lambda: np.asarray(color_map(pyramid(), FeatureProjection.load(path)))  # noqa: E731
    return Input([path], use, {None: _OURS}, lambda _path: 0)


def common_basis(folder: Path) -> Input:
    """A basis that several scans share; a damaged one is left alone."""
    path, basis = folder / "shared", pyramid().basis
    shared_basis.write_basis(path, shared_basis.SharedBasis(basis.projection, basis.offset), pyramid().signature, ["a"])

    def use() -> list[Any]:
        shared_basis._read.cache_clear()
        found = shared_basis._read(path, pyramid().signature)
        if found is None:
            raise DroppedError("The basis is damaged.")
        return [found.projection.numpy(), found.offset.numpy()]

    return Input([path], use, {None: _OURS}, lambda _path: 0)


def library_basis(folder: Path) -> Input:
    """The basis of a library."""
    found, levels = pyramid(), tuple(level.name for level in pyramid().levels)
    path, basis = folder / "library", found.basis
    path.write_bytes(LibraryBasis(basis.projection, basis.offset, found.identity, found.signature, levels, 3).to_bytes())

    def use() -> list[Any]:
        read = LibraryBasis.from_bytes(path.read_bytes())
        return [read.projection.numpy(), read.offset.numpy(), read.signature, read.levels]

    return Input([path], use, {None: _OURS}, lambda _path: 0)


def table(task: str) -> Build:
    """A table of scans with a variable of a task."""

    def build(folder: Path) -> Input:
        path = folder / "table.csv"
        value = {"classification": "ab", "regression": ["1.5", "-3"], "survival": "10"}[task]
        rows = [f"scans/{n}.nrrd,P{n // 2},{value[n % 2]},{n + 1}" for n in range(8)]
        path.write_text("\n".join(["scan,patient,grade,time", *rows]) + "\n")

        def use() -> list[Any]:
            found = read_table(path, "grade", task)
            labels = found.labels
            scans = [str(scan).replace(str(folder), ".") for scan in found.scans]
            return [scans, labels.values, labels.patients, labels.times, [str(each) for each in found.left_out]]

        return Input([path], use, {None: (edited_cells,)})

    return build


def _records(folder: Path) -> list[ScanRecord]:
    """Records of scans that no file is needed for."""
    paths = [str(folder / "scans" / f"{name}.nrrd") for name in "abc"]
    matrix = tuple(np.eye(4).ravel().tolist())
    return [
        ScanRecord(str(n) * 64, "", path, "", (4, 4, 4), (1.0, 1.0, 1.0), matrix, 0, "pooling", "", "")
        for n, path in enumerate(paths)
    ]


def _reports_table(folder: Path) -> Path:
    path = folder / "reports.csv"
    texts = ("No effusion. Node of 5 mm.", "Läsion of 8 mm\tleft", "Normal.")
    rows = [f"scans/{name}.nrrd,{text}" for name, text in zip("abc", texts, strict=True)]
    path.write_text("\n".join(["scan,report", *rows]) + "\n", encoding="utf-8")
    return path


def _library(folder: Path) -> Folder:
    """A library of these scans, with one region each."""
    storage = Folder(folder / "library")
    with storage.locked():
        storage.create()
    vector = np.eye(1, 8)
    for record in _records(folder):
        commit(storage, ScanRows(record, vector[0].astype(np.float32), np.zeros((1, 3), np.float32), vector.astype(np.float16)))
    return storage


def reports(folder: Path) -> Input:
    """The reports of a library."""
    storage = _library(folder)
    add_reports(storage, _reports_table(folder), _records(folder))
    path = folder / "library" / "reports.json"
    return Input([path], lambda: sorted(read_reports(storage).items()), {None: (edited_json,)}, lambda _path: 0)


def reports_table(folder: Path) -> Input:
    """A table of reports."""
    path, storage = _reports_table(folder), _library(folder)

    def use() -> list[Any]:
        try:
            count, unknown = add_reports(storage, path, _records(folder))
            return [count, unknown, sorted(read_reports(storage).items())]
        finally:
            remove_reports(storage)

    return Input([path], use, {None: (edited_cells,)})


def vocabulary(folder: Path) -> Input:
    """The words that a text is split into."""
    path = folder / "vocab.txt"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pleural", "effusion", "lung", "nodule", "##s", "no", ".", "é", "肺"]
    path.write_text("\n".join(words) + "\n", encoding="utf-8")

    def use() -> list[Any]:
        found = Vocabulary(path, len(words), 16)
        return [found.split(text) for text in ("Pleural effusion.", "no lung nodules", "lung é 肺 x")]

    return Input([path], use, {None: (lines_edit(b"", "##"),)})


WRITTEN: dict[str, Build] = {
    "Prompts, ours (.json)": own_prompts,
    "Prompts of Slicer (.mrk.json)": markups,
    "Prompts of Slicer (.fcsv)": fiducials,
    "Store entry": store_entry,
    "Probe": probe,
    "Scan probe": scan_probe,
    "Attentive scan probe": attentive_probe,
    "Colors of features": projection,
    "Shared basis": common_basis,
    "Library basis": library_basis,
    "Reports of a library": reports,
    "Reports, a table (.csv)": reports_table,
    "Vocabulary (vocab.txt)": vocabulary,
    "Table (.csv), classes": table("classification"),
    "Table (.csv), numbers": table("regression"),
    "Table (.csv), survival": table("survival"),
}
