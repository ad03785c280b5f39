"""The cache folder of users without a home, and temporary files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from CoralBayLib.core import paths
from CoralBayLib.core.errors import StoreError
from CoralBayLib.core.paths import TEMPORARY, atomic_write, cache_dir, expand, remove_leftovers, temporary_tag


@pytest.fixture
def nameless(monkeypatch, tmp_path):
    """A user without a home folder."""
    for name in ("CORALBAY_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", staticmethod(home))
    monkeypatch.setattr(paths.tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_cache_of_a_user_without_a_home(nameless):
    folder = cache_dir()
    assert folder.parent == nameless
    assert folder.stat().st_mode & 0o077 == 0
    assert cache_dir() == folder


def test_a_cache_folder_that_is_a_link_of_somebody_is_not_used(nameless):
    folder = cache_dir()
    folder.rmdir()
    (nameless / "other").mkdir()
    folder.symlink_to(nameless / "other")
    with pytest.raises(StoreError, match="CORALBAY_CACHE"):
        cache_dir()


def test_expand():
    assert expand("~no_such_user_here/a") == Path("~no_such_user_here/a")
    assert expand("~/a") == Path.home() / "a"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no list of users")
def test_an_encoder_is_loaded_without_an_entry_in_the_list_of_users(tmp_path):
    program = """
import pwd
def getpwuid(uid):
    raise KeyError(uid)
pwd.getpwuid = getpwuid
import CoralBayLib as cb
cb.Store()
cb.load_encoder("coralbay-mini")
"""
    nameless = {"HOME", "USER", "LOGNAME", "USERNAME", "LNAME", "XDG_CACHE_HOME", "CORALBAY_CACHE"}
    environment = {name: value for name, value in os.environ.items() if name not in nameless}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    process = subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_of_ended_processes_are_removed(tmp_path):
    tag = temporary_tag()
    computer, own, _random = tag.split("-")
    dead = tmp_path / f"{TEMPORARY}{computer}-{dead_process()}-abc.nrrd"
    kept = [tmp_path / name for name in (f"{TEMPORARY}{tag}", f"{TEMPORARY}{computer}-{os.getppid()}-a", ".other", "a.nrrd")]
    elsewhere = tmp_path / f"{TEMPORARY}00000000-{dead_process()}-abc.nrrd"
    for path in (dead, *kept, elsewhere):
        path.write_bytes(b"x")
    assert int(own) == os.getpid()
    assert remove_leftovers(tmp_path) == 1
    assert sorted(tmp_path.iterdir()) == sorted([*kept, elsewhere])
    os.utime(elsewhere, (0, 0))
    with atomic_write(tmp_path / "b.json") as temporary:
        assert temporary.name.startswith(TEMPORARY)
        assert temporary.suffix == ".json"
        temporary.write_text("{}")
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "b.json"])


def test_names_that_are_too_long(tmp_path):
    for path in (tmp_path / ("a" * 300), tmp_path / ("a" * 300) / "b", tmp_path / ("a." + "b" * 300)):
        with pytest.raises(StoreError), atomic_write(path) as temporary:
            temporary.write_text("")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not use HOME")
def test_an_empty_home_is_not_the_root_of_the_file_system(monkeypatch, tmp_path):
    for name in ("CORALBAY_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(paths.tempfile, "gettempdir", lambda: str(tmp_path))
    assert cache_dir().parent == tmp_path
