"""A library holds what it was given, tells nothing of the patient, and finds what is like a query."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import Cancelled, EncoderError, LibraryError, QueryError, Remedy
from CoralBayLib.library import Library
from CoralBayLib.library.basis import load_basis
from CoralBayLib.library.tables import Tables
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid
from Testing.lib.imaging.test_dicom import SECRET, UID
from Testing.lib.imaging.test_dicom import write as write_dicom

from .conftest import CENTRE, make_scan, spot

pytestmark = pytest.mark.slow

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")


def regions_of(library, name="pooling"):
    """All rows of the table of regions."""
    return Tables(library.storage, name).regions.read()


def test_what_is_told_of_a_scan(filled, scans):
    record = filled.scans()[0]
    volume = cb.read_volume(scans / "a.nrrd")
    assert record.path == str(scans / "a.nrrd")
    assert record.size_ijk == volume.grid.size
    assert np.allclose(record.spacing_mm, volume.grid.spacing_mm)
    assert np.allclose(np.reshape(record.ijk_to_ras, (4, 4)), volume.grid.ijk_to_ras)
    assert (record.encoder, record.weights_sha256, record.setting) == ("pooling", "0" * 64, "whole")
    assert record.series_uid is None
    assert record.exists


def test_regions_are_whitened_unit_vectors_of_tissue(library, encoder):
    """A table lies under the patient: neither it nor the air is searched."""
    volume = phantom(phantom_grid(extent_mm=120.0), [(spot("a"), 7.0, 400.0)])
    volume.array[:, :3, :] = 200
    library.add(volume, encoder)
    rows = regions_of(library)
    ras = np.array(rows["ras"].to_pylist())
    vectors = np.array(rows["vector"].to_pylist(), dtype=np.float32)
    assert len(ras) == library.scans()[0].regions > 30
    assert np.linalg.norm(ras - CENTRE, axis=1).max() < 43
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    pyramid = cb.embed(volume, encoder)
    basis = load_basis(library.storage, "pooling")
    expected = basis.view(pyramid).sample_whitened(ras).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(vectors - expected).max() < 2e-3


def test_a_spot_is_found_in_the_other_scans(filled, scans, encoder):
    pyramid = cb.embed(cb.read_volume(scans / "a.nrrd"), encoder)
    hits = filled.search_regions(pyramid, cb.Query.sphere(spot("a"), 4.0), k=2, exclude_query_scan=True)
    assert [hit.rank for hit in hits] == [1, 2]
    assert {hit.path for hit in hits} == {str(scans / "b.nrrd"), str(scans / "c.nrrd")}
    for hit in hits:
        name = hit.path[-6]
        assert np.linalg.norm(hit.ras - spot(name)) < 16
        assert not hit.is_query_scan


def test_the_querys_own_scan_is_marked(filled, scans, encoder):
    pyramid = cb.embed(cb.read_volume(scans / "b.nrrd"), encoder)
    hits = filled.search_regions(pyramid, cb.Query.sphere(spot("b"), 4.0), k=20)
    assert hits[0].is_query_scan
    assert hits[0].path == str(scans / "b.nrrd")
    assert {hit.is_query_scan for hit in hits if hit.path != str(scans / "b.nrrd")} == {False}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_regions_of_a_scan_keep_their_distance(filled, scans, encoder):
    pyramid = cb.embed(cb.read_volume(scans / "b.nrrd"), encoder)
    hits = filled.search_regions(pyramid, cb.Query.point(spot("b")), k=40, min_distance_mm=35.0)
    by_scan = {}
    for hit in hits:
        near = by_scan.setdefault(hit.scan, [])
        assert all(np.linalg.norm(np.subtract(hit.ras, other)) >= 35 for other in near)
        near.append(hit.ras)
    assert len(by_scan) == 3
    assert 3 < len(hits) < 40


def test_search_in_some_scans(filled, scans, encoder):
    pyramid = cb.embed(cb.read_volume(scans / "a.nrrd"), encoder)
    names = {record.path[-6]: record.scan for record in filled.scans()}
    query = cb.Query.point(spot("a"))
    found = filled.search_regions(pyramid, query, include=[names["b"][:8]])
    assert {hit.scan for hit in found} == {names["b"]}
    found = filled.search_regions(pyramid, query, k=999, min_distance_mm=0, exclude=[str(scans / "b.nrrd")])
    assert {hit.scan for hit in found} == {names["a"], names["c"]}
    assert len(found) == sum(record.regions for record in filled.scans() if record.scan != names["b"])
    with pytest.raises(LibraryError, match="found 0 scans"):
        filled.search_regions(pyramid, query, include=["no-such-scan"])
    with pytest.raises(QueryError, match="outside the volume"):
        filled.search_regions(pyramid, cb.Query.point([900, 0, 0]))


def test_scans_like_a_scan(filled, scans, encoder):
    pyramid = cb.embed(cb.read_volume(scans / "c.nrrd"), encoder)
    hits = filled.search_scans(pyramid)
    assert hits[0].is_query_scan
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert len(hits) == 3
    assert str(scans / "c.nrrd") not in {hit.path for hit in filled.search_scans(pyramid, exclude_query_scan=True)}


def test_a_query_may_come_from_a_scan_that_is_not_there(filled, encoder):
    hits = filled.search_regions(cb.embed(make_scan("b", "axial"), encoder), cb.Query.sphere(spot("b"), 4.0), k=3)
    assert not any(hit.is_query_scan for hit in hits)
    assert len(hits) == 3


def test_what_is_there_is_not_embedded_again(filled, scans, encoder):
    calls = encoder.calls
    assert [outcome.state for outcome in filled.add(scans, encoder)] == ["known"] * 3
    shutil.copy(scans / "a.nrrd", scans / "copy of a.nrrd")
    outcomes = {outcome.path: outcome for outcome in filled.add(scans, encoder)}
    assert "a.nrrd" in outcomes[str(scans / "copy of a.nrrd")].detail
    assert {outcome.state for outcome in outcomes.values()} == {"known"}
    assert encoder.calls == calls
    assert len(filled.scans()) == 3


def test_a_file_that_was_written_anew_replaces_what_it_held(filled, scans, encoder):
    before = {record.path: record.scan for record in filled.scans()}
    path = str(scans / "b.nrrd")
    cb.write_volume(make_scan("a", "axial"), path)
    states = {outcome.path: outcome for outcome in filled.add(scans, encoder)}
    assert states[path].state == "added"
    assert "in place of" in states[path].detail
    after = {record.path: record.scan for record in filled.scans()}
    assert len(filled.scans()) == 3
    assert {p for p in after if after[p] != before[p]} == {path}
    assert filled.verify() == []


def test_a_moved_scan_is_still_found_and_its_new_place_noted(filled, scans, encoder):
    pyramid = cb.embed(cb.read_volume(scans / "a.nrrd"), encoder)
    (scans / "b.nrrd").rename(scans / "it's moved.nrrd")
    hits = {hit.path: hit.file_exists for hit in filled.search_scans(pyramid)}
    assert hits[str(scans / "b.nrrd")] is False
    assert [(f.kind, f.harmful) for f in filled.verify()] == [("gone", False)]
    calls = encoder.calls
    assert [o.state for o in filled.add(scans, encoder)].count("moved") == 1
    assert encoder.calls == calls
    assert {hit.path: hit.file_exists for hit in filled.search_scans(pyramid)}[str(scans / "it's moved.nrrd")] is True
    assert filled.verify() == []


def test_bad_files_are_listed_with_the_reason(library, scans, encoder):
    (scans / "broken.nrrd").write_text("NRRD0004\nnonsense")
    cb.write_volume(
        cb.Volume(np.arange(8**3).reshape(8, 8, 8) % 2, cb.Grid((8, 8, 8), np.diag([4, 4, 4, 1]))), scans / "mask.nrrd"
    )
    outcomes = {outcome.path: outcome for outcome in library.add(scans, encoder)}
    assert outcomes[str(scans / "broken.nrrd")].state == "left out"
    assert outcomes[str(scans / "broken.nrrd")].detail
    assert "Hounsfield" in outcomes[str(scans / "mask.nrrd")].detail
    assert len(library.scans()) == 3


def test_nothing_of_the_patient_goes_in(library, tmp_path, encoder):
    volume = make_scan("a", "axial")
    slices = tmp_path / "slices"
    write_dicom(slices, volume.array, origin=(-57, -15, 0), step=(0, 0, 2))
    library.add(slices, encoder)
    record = library.scans()[0]
    assert record.series_uid is None
    for path in library.storage.root.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert SECRET.encode() not in data
        assert UID.encode() not in data
    assert set(regions_of(library).column_names) == {"scan", "ras", "vector"}
    library.remove(record.path)
    library.add(slices, encoder, with_uids=True)
    assert library.scans()[0].series_uid == f"{UID}.1"


def test_the_basis_stays(filled, encoder):
    before = regions_of(filled)
    path = filled.storage.root / "pooling.basis.safetensors"
    written = path.read_bytes()
    filled.add(make_scan("a", "anisotropic"), encoder, name="a volume")
    assert path.read_bytes() == written
    assert regions_of(filled).slice(0, before.num_rows).equals(before)
    assert "a volume" in {record.path for record in filled.scans()}
    assert load_basis(filled.storage, "pooling").scans == 3


class OtherWeights(PoolingEncoder):
    weights_sha256 = "1" * 64


class OtherName(PoolingEncoder):
    name = "pooling two/ä"


def test_other_weights_and_settings_are_refused(filled, scans):
    volume = make_scan("a", "axial")
    others = (OtherWeights((4, 8)), "weights"), (PoolingEncoder((4, 8), window=(32, 32, 32)), "inference mode")
    for encoder, what in others:
        with pytest.raises(EncoderError, match=what):
            filled.add(volume, encoder)
        assert encoder.calls == 0
        with pytest.raises(EncoderError, match=what):
            filled.search_regions(cb.embed(volume, encoder), cb.Query.point(CENTRE))
        with pytest.raises(EncoderError, match=what):
            filled.search_scans(cb.embed(volume, encoder))
    with pytest.raises(EncoderError, match="levels"):
        filled.search_scans(cb.embed(volume, PoolingEncoder((2, 4, 8, 16))))


def test_several_encoders_in_one_library(filled, scans):
    other = OtherName((4, 8))
    pyramid = cb.embed(cb.read_volume(scans / "a.nrrd"), other)
    with pytest.raises(LibraryError, match="pooling"):
        filled.search_scans(pyramid)
    filled.add(scans, other)
    assert [(each.encoder, each.scans) for each in filled.stats()] == [("pooling", 3), ("pooling two/ä", 3)]
    assert len(filled.search_scans(pyramid)) == 3
    removed = filled.remove(str(scans / "a.nrrd"))
    assert {record.encoder for record in removed} == {"pooling", "pooling two/ä"}
    assert [each.scans for each in filled.stats()] == [2, 2]


def test_removed_scans_are_gone(filled, scans, encoder):
    before = filled.stats()[0]
    record = filled.scans()[1]
    filled.remove(record.scan[:10])
    after = filled.stats()[0]
    assert after.scans == 2
    assert after.regions == before.regions - record.regions
    assert record.scan not in set(regions_of(filled)["scan"].to_pylist())
    assert filled.verify() == []
    with pytest.raises(LibraryError, match="found 0 scans"):
        filled.remove(record.path)
    assert [o.state for o in filled.add(scans, encoder)].count("added") == 1
    assert filled.stats()[0].regions == before.regions


def test_export(filled, tmp_path, scans):
    assert filled.export(tmp_path / "list.csv") == 3
    with (tmp_path / "list.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(scans / f"{name}.nrrd") for name in "abc"]
    matrix = np.array(rows[0]["ijk_to_ras"].split(), float).reshape(4, 4)
    assert np.allclose(matrix, cb.read_volume(scans / "a.nrrd").grid.ijk_to_ras)
    # Other programs read these names.
    columns = "scan embedding path stamp size_ijk spacing_mm ijk_to_ras regions encoder weights_sha256 setting added series_uid"
    assert " ".join(rows[0]) == f"{columns} there"
    filled.export(tmp_path / "list.json")
    assert [row["scan"] for row in json.loads((tmp_path / "list.json").read_text(encoding="utf-8"))["scans"]] == [
        r["scan"] for r in rows
    ]
    with pytest.raises(LibraryError, match=r"\.csv or \.json"):
        filled.export(tmp_path / "list.xlsx")


def test_old_names_keep_working_with_a_warning(filled, scans, encoder):
    pyramid = cb.embed(cb.read_volume(scans / "b.nrrd"), encoder)
    with pytest.warns(DeprecationWarning, match="exclude_query_scan"):
        hits = filled.search_regions(pyramid, cb.Query.point(spot("b")), k=2, others=True, without=[])
    with pytest.warns(DeprecationWarning, match="is_query_scan"):
        assert (hits[0].there, hits[0].own) == (True, False)
    record = filled.scans()[0]
    with pytest.warns(DeprecationWarning, match="fingerprint"):
        assert (record.stamp, record.there) == (record.fingerprint, True)
    with pytest.warns(DeprecationWarning, match="storage"):
        assert filled.folder is filled.storage
    with pytest.warns(DeprecationWarning, match="iter_add"):
        assert {outcome.state for outcome in filled.adding(scans, encoder)} == {"known"}
    clustering = filled.cluster(3, "pooling")
    with pytest.warns(DeprecationWarning, match="centers"):
        assert clustering.centres is clustering.centers
    with pytest.warns(DeprecationWarning, match="default_location"):
        assert cb.library.default_place() == cb.library.default_location()


def test_an_encoder_that_the_library_lacks(filled, tmp_path):
    filled.require_encoder("pooling")
    with pytest.raises(LibraryError, match="features of pooling, but none of 'other'") as caught:
        filled.require_encoder("other")
    assert caught.value.remedy is Remedy.CHOOSE_ENCODER
    with pytest.raises(LibraryError, match="no library of scans") as caught:
        Library(tmp_path / "none").require_encoder("pooling")
    assert (caught.value.remedy, caught.value.details) == (Remedy.CREATE_LIBRARY, {"path": str(tmp_path / "none")})


def test_progress_and_cancel(library, scans, encoder):
    told = []
    cancel = cb.CancelToken()

    def progress(fraction, message):
        told.append((fraction, message))
        if message.startswith("Scan 2 of 2"):
            cancel.cancel()

    library.add(scans / "a.nrrd", encoder, progress)
    with pytest.raises(Cancelled):
        library.add(scans, encoder, progress, cancel)
    assert [message for _, message in told][-1].startswith("Scan 2 of 2")
    assert [record.path[-6] for record in library.scans()] == ["a", "b"]
    assert library.verify() == []
    library.add(scans, encoder)
    assert len(library.scans()) == 3


def test_progress_goes_from_nothing_to_all_and_tells_the_time_left(library, scans, encoder):
    told = []
    library.add(scans, encoder, lambda fraction, message: told.append((fraction, message)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    assert "s left" in told[-2][1]


def test_a_library_of_another_format_is_refused_with_words(filled, encoder):
    mark = filled.storage.root / "library.json"
    for version, words in ((99, "Update CoralBay"), (0, "a new folder")):
        mark.write_text(json.dumps({"format": version}))
        for use in (filled.stats, filled.verify, lambda: filled.add(make_scan("a"), encoder)):
            with pytest.raises(LibraryError, match=words):
                use()
    for content in ("{", "[" * 100_000, '{"format": Infinity}', '{"format": "1"}', '{"format": true}', "[]", "null"):
        mark.write_text(content)
        with pytest.raises(LibraryError, match="Put it back"):
            filled.stats()


def test_what_is_no_library_is_refused(tmp_path, scans, encoder):
    with pytest.raises(LibraryError, match="no library of scans"):
        Library(tmp_path / "nowhere").stats()
    calls = encoder.calls
    with pytest.raises(LibraryError, match="not empty"):
        Library(scans).add(scans, encoder)
    assert encoder.calls == calls


def test_without_lancedb_all_else_works_and_the_package_is_named(tmp_path):
    code = (
        "import sys; sys.modules['lancedb'] = None; sys.modules['pyarrow'] = None\n"
        "import CoralBayLib as cb\n"
        "from CoralBayLib import cli\n"
        f"assert cli.main(['library', 'stats', '--library', {str(tmp_path)!r}]) == 1\n"
        "assert cli.main(['encoders']) == 0\n"
        "from Testing.lib.library.conftest import PoolingEncoder, make_scan\n"
        "try:\n"
        f"    cb.Library({str(tmp_path / 'new')!r}).add(make_scan('a'), PoolingEncoder((2, 4, 8)))\n"
        "except cb.CoralBayError as error:\n"
        "    assert error.remedy.name == 'INSTALL_PACKAGE' and error.details == {'package': 'lancedb>=0.40,<0.50'}\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
