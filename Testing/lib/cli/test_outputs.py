"""Commands refuse outputs that they cannot or must not write before they compute anything."""

import numpy as np
import pytest
import SimpleITK as sitk

import CoralBayLib as cb
from CoralBayLib.core.errors import LibraryError
from CoralBayLib.encoders import registry
from CoralBayLib.scan_probes import ScanProbe
from CoralBayLib.scan_probes.labels import Labels


@pytest.fixture
def no_encoder(pooling_by_name, monkeypatch):
    """The test encoder, which fails the test when it is loaded."""

    def load(*_args, **_options):
        pytest.fail("the encoder was loaded before the output was checked")

    entry = registry.EncoderEntry(registry._registry["pooling"].card, load)
    monkeypatch.setitem(registry._registry, "pooling", entry)


@pytest.mark.parametrize(
    "arguments",
    [
        ("segment", "ct.nrrd", "--prompts", "prompts.json", "-o", "o.nii.gz"),
        ("segment", "ct.nrrd", "--prompts", "prompts.json", "-o", "nofolder/o.seg.nrrd"),
        ("segment", "ct.nrrd", "--prompts", "prompts.json", "--save-probe", "prompts.json"),
        ("segment", "ct.nrrd", "--prompts", "prompts.json", "--save-probe", "ct.nrrd"),
        ("segment", "ct.nrrd", "--prompts", "prompts.json", "-o", "a.seg.nrrd", "--save-probe", "a.seg.nrrd"),
        ("similar", "ct.nrrd", "--point", "24,-30,45", "--map", "ct.nrrd"),
        ("similar", "ct.nrrd", "--point", "24,-30,45", "--map", "map.txt"),
        ("similar", "ct.nrrd", "--point", "24,-30,45", "--map", "nofolder/map.nrrd"),
        ("scans", "fit", "table.csv", "--target", "x", "--task", "regression", "-o", "ct.nrrd"),
        ("demo", "-o", "ct.nrrd"),
    ],
)
def test_refused_first(run, ct, prompts, no_encoder, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("scan,patient,x\nct.nrrd,a,1\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    status, _out, error = run(*arguments, "--encoder", "pooling", "--no-cache")
    assert status == 1
    assert error.startswith("coralbay: ")
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("name", ["map.nii", "map.nii.gz"])
def test_a_format_that_cannot_store_a_sheared_scan_is_refused_first(
    run, ct, no_encoder, make_phantom, make_grid, tmp_path, monkeypatch, name
):
    """NIfTI has no place for shear; the network must not have run for nothing."""
    monkeypatch.chdir(tmp_path)
    cb.write_volume(make_phantom(make_grid("sheared")), tmp_path / "sheared.nrrd")
    vectors = np.random.default_rng(0).normal(size=(12, 8))
    ScanProbe().fit(vectors, Labels.of("classification", list("abc") * 4, range(12))).save(tmp_path / "scan.probe")
    for command in (("similar", "sheared.nrrd", "--point", "12,-30,45"), ("scans", "predict", "scan.probe", "sheared.nrrd")):
        status, _out, error = run(*command, "--map", name, "--encoder", "pooling", "--no-cache")
        assert status == 1
        assert f"{name}: the volume's axes are sheared" in error
    assert not (tmp_path / name).exists()


def test_a_sheared_scan_has_its_map_in_other_formats(run, pooling_by_name, make_phantom, make_grid, tmp_path):
    cb.write_volume(make_phantom(make_grid("sheared")), tmp_path / "sheared.nrrd")
    command = ("similar", tmp_path / "sheared.nrrd", "--point", "12,-30,45", "--map", tmp_path / "map.mha")
    assert run(*command, "--encoder", "pooling", "--no-cache")[0] == 0
    assert cb.read_volume(tmp_path / "map.mha").grid.shear_deg > 5


def test_a_table_is_not_overwritten_by_the_predictions(run, ct, no_encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "predictions.csv").write_text("scan,patient,x\nct.nrrd,a,1\n")
    command = ("scans", "fit", "predictions.csv", "--target", "x", "--task", "regression", "-o", ".")
    status, _out, error = run(*command, "--encoder", "pooling", "--no-cache")
    assert status == 1
    assert "overwrite an input" in error


def test_a_library_is_not_overwritten_by_its_export(run, ct, pooling_by_name, tmp_path):
    library = tmp_path / "library"
    assert run("library", "add", ct, "--library", library, "--encoder", "pooling", "--no-cache")[0] == 0
    before = (library / "library.json").read_bytes()
    status, _out, error = run("library", "export", library / "library.json", "--library", library)
    assert status == 1
    assert "library" in error
    assert (library / "library.json").read_bytes() == before
    assert run("library", "export", tmp_path / "scans.csv", "--library", library)[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("segment", "ct.nrrd", "--prompts", "prompts.json", "--threshold", "nan"),
        ("segment", "ct.nrrd", "--prompts", "prompts.json", "--threshold", "1"),
        ("segment", "ct.nrrd", "--prompts", "prompts.json", "-o", "a\0.seg.nrrd"),
        ("similar", "ct.nrrd", "--point", "24,-30,45", "-k", "0"),
        ("similar", "ct.nrrd", "--point", "24,-30,45", "--radius-mm", "nan"),
        ("similar", "ct.nrrd", "--point", "24,-30,45", "--radius-mm", "5000"),
        ("similar", "ct.nrrd", "--point", "24,-30,45", "--min-distance-mm", "inf"),
        ("scans", "fit", "table.csv", "--target", "x", "--task", "regression", "--folds", "1"),
        ("scans", "fit", "table.csv", "--target", "x", "--task", "regression", "--seed", "-1"),
        ("scans", "fit", "table.csv", "--target", "patient", "--task", "classification"),
    ],
)
def test_numbers_out_of_range_are_refused_first(run, ct, prompts, no_encoder, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("scan,patient,x\nct.nrrd,a,1\nct2.nrrd,b,2\nct3.nrrd,c,2\n")
    before = [path for path in tmp_path.rglob("*") if path.is_file()]
    status, _out, error = run(*arguments, "--encoder", "pooling", "--no-cache")
    assert (status, error.count("\n"), error.startswith("coralbay: ")) == (1, 1, True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == before


@pytest.mark.parametrize("option", ["--save-probe", "-o"])
def test_the_voxels_of_a_header_are_an_input_whatever_their_name(run, ct, prompts, no_encoder, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    sitk.WriteImage(sitk.ReadImage(str(ct)), "ct.mhd")
    voxels = (tmp_path / "ct.raw").rename(tmp_path / "voxels.seg.nrrd")
    header = (tmp_path / "ct.mhd").read_text().replace("ct.raw", voxels.name)
    (tmp_path / "ct.mhd").write_text(header)
    before = voxels.read_bytes()
    status, _out, error = run("segment", "ct.mhd", "--prompts", prompts, option, voxels.name, "--encoder", "pooling")
    assert status == 1
    assert "overwrite an input" in error
    assert voxels.read_bytes() == before


def test_a_folder_of_the_user_gets_no_lock(run, ct, no_encoder, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(LibraryError, match="holds no library"), cb.Library(tmp_path).storage.locked():
        pytest.fail("it was locked")
    assert sorted(tmp_path.iterdir()) == before
