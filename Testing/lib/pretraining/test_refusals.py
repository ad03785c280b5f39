"""What cannot be trained is said in plain words, before anything is computed."""

from __future__ import annotations

import errno
import sys
from dataclasses import replace

import numpy as np
import pytest

from CoralBayLib.cli import main
from CoralBayLib.core.errors import TrainingError

from .conftest import SMALL


def run(capsys, *words):
    status = main(["pretrain", *map(str, words)])
    return status, capsys.readouterr().err


@pytest.fixture
def _lightning():
    pytest.importorskip("lightning", reason="lightning is not installed; the developer's packages have it")


@pytest.mark.usefixtures("_lightning")
@pytest.mark.parametrize("content", ["nothing", "no scan", "no folder"])
def test_a_folder_without_ct(tmp_path, capsys, content):
    folder = tmp_path / "folder"
    if content != "no folder":
        folder.mkdir()
    if content == "no scan":
        (folder / "notes.txt").write_text("no scan")
        (folder / "damaged.nrrd").write_text("no scan either")
    status, err = run(capsys, folder, "-o", tmp_path / "mine.safetensors", *SMALL)
    assert status == 1
    words = {
        "nothing": "There is no CT in",
        "no scan": "None of the 1 scans can be used",
        "no folder": "no such file or folder",
    }
    assert words[content] in err
    assert not (tmp_path / "mine.safetensors").exists() and not (tmp_path / "mine.pretrain").exists()


def test_a_missing_package_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    status, err = run(capsys, tmp_path, "-o", tmp_path / "mine.safetensors")
    assert status == 1
    assert "pip install 'lightning" in err


@pytest.mark.usefixtures("_lightning")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-o", "coralbay.safetensors"), "encoder 'coralbay'"),
        (("-o", "coralbay.safetensors", "--overwrite"), "encoder 'coralbay'"),
        (("-o", "mine.pt"), ".safetensors"),
        (("-o", "mine.safetensors", "--batch", 3, "--devices", 2), "shared equally"),
        (("-o", "mine.safetensors", "--feature-size", 12), "--init random"),
        (("-o", "mine.safetensors", "--resume"), "no training"),
        (("-o", "mine.safetensors", "--init", "random", "--weights", "w.safetensors"), "--weights is for"),
        (("-o", "mine.safetensors", "--stop-minutes", -1), "0 or more minutes"),
        (("-o", "mine.safetensors", "--global-size", 50), "multiple of 8"),
    ],
)
def test_options_that_do_not_fit(tmp_path, capsys, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    status, err = run(capsys, tmp_path, *words)
    assert status == 1
    assert told in err


def test_a_library_stands_for_the_scans_that_were_added_to_it(tmp_path, monkeypatch):
    from CoralBayLib import library
    from CoralBayLib.cli.training.pretrain import _scans_of

    record = library.ScanRecord("0" * 64, "", "/archive/b.nrrd", "", (1,), (1.0,), (1.0,), 1, "coralbay-mini", "", "whole")
    monkeypatch.setattr(library.Library, "scans", lambda self: [record, replace(record, path="/archive/a.nrrd"), record])
    assert _scans_of(str(tmp_path)) == [str(tmp_path)]
    (tmp_path / "library.json").write_text('{"format": 1}')
    assert _scans_of(str(tmp_path)) == ["/archive/a.nrrd", "/archive/b.nrrd"]
    monkeypatch.setattr(library.Library, "scans", lambda self: [])
    with pytest.raises(TrainingError, match="holds no scans"):
        _scans_of(str(tmp_path))


@pytest.mark.usefixtures("_lightning")
def test_missing_weights_are_named_before_scans_are_prepared(scans, tmp_path, capsys, monkeypatch):
    for name in ("CORALBAY_CACHE", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.delenv("CORALBAY_WEIGHTS", raising=False)
    status, err = run(capsys, scans, "-o", tmp_path / "mine.safetensors", "--init", "coralbay")
    assert status == 1
    assert "No weights" in err and "--init coralbay-mini" in err and "--encoder" not in err
    assert "Prepar" not in err and not (tmp_path / "mine.pretrain").exists()


@pytest.mark.usefixtures("_lightning")
def test_a_full_disk_ends_the_preparation(scans, tmp_path, capsys, monkeypatch):
    """Each scan that could not be written was left out, and the training went on with the few others."""

    def save(file, array, **_):
        if array.nbytes > 200_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return np.lib.format.write_array(file, array, allow_pickle=False)

    monkeypatch.setattr(np, "save", save)
    status, err = run(capsys, scans, "-o", tmp_path / "mine.safetensors", *SMALL, "--steps", 1)
    assert status == 1
    assert "No space left" in err and "kept for the next time" in err and "Left out: " not in err
    assert not (tmp_path / "mine.pretrain" / "training.json").exists()


@pytest.mark.usefixtures("_lightning")
def test_a_refusal_leaves_a_training_as_it_was(scans, tmp_path, capsys):
    (tmp_path / "mine.pretrain" / "scans").mkdir(parents=True)
    (tmp_path / "mine.pretrain" / "training.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    status, err = run(capsys, tmp_path / "empty", "-o", tmp_path / "mine.safetensors", *SMALL, "--overwrite")
    assert status == 1 and "There is no CT" in err
    assert (tmp_path / "mine.pretrain" / "training.json").exists()


@pytest.mark.usefixtures("_lightning")
def test_without_a_folder(tmp_path, capsys):
    status, err = run(capsys, "-o", tmp_path / "mine.safetensors")
    assert status == 1
    assert "Name a folder" in err
