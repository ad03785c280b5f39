"""Encoders of the user's own: the example from end to end, packages, and everything that can be wrong with one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import CoralBayLib as cb
from CoralBayLib.cli import main
from CoralBayLib.core.errors import EncoderError, WeightsError
from CoralBayLib.encoders import (
    encoder_cards,
    encoder_file_sha256,
    encoder_names,
    get_entry,
    load_encoder,
    load_encoder_file,
    plugins,
    registry,
    unload_encoder_file,
)
from CoralBayLib.encoders.frozen import FrozenEncoder, loader
from CoralBayLib.encoders.weights import FoundWeights

EXAMPLE = Path(__file__).parents[3] / "Resources" / "Examples" / "my_encoder.py"
CENTRE = np.array([12.0, -30.0, 45.0])
HEAD = """
from CoralBayLib.encoders import EncoderCard, register_encoder
from Testing.lib.conftest import PoolingEncoder
def register(name, encoder=PoolingEncoder):
    register_encoder(EncoderCard(name, name.title(), ""))(lambda **_: encoder())
"""


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """Encoders that a test registers are gone after it."""
    encoder_names()
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    monkeypatch.setattr(plugins, "_files", {})
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("coralbay_encoder_file"):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    """Writes an encoder file."""

    def file(text, name="mine.py"):
        (tmp_path / name).write_text(HEAD + text)
        return tmp_path / name

    return file


@pytest.fixture
def ct(tmp_path, make_grid, make_phantom):
    blobs = [(CENTRE + [-18, 0, 0], 6.0, 250.0), (CENTRE + [18, 0, 0], 6.0, 250.0)]
    path = tmp_path / "ct.nrrd"
    cb.write_volume(make_phantom(make_grid("oblique"), blobs), path)
    return path


def test_the_example_embeds_segments_and_finds(ct):
    assert load_encoder_file(EXAMPLE) == ["my-encoder"]
    encoder = load_encoder("my-encoder", device="cpu")
    volume = cb.read_volume(ct)
    pyramid = cb.embed(volume, encoder, store=cb.Store())
    assert pyramid.identity["encoder"] == "my-encoder"
    left, right = CENTRE + [-18, 0, 0], CENTRE + [18, 0, 0]
    steps = 3 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    away = CENTRE + [[0, 24, 0], [0, -24, 0], [0, 0, 24], [0, 0, -24]]
    prompts = cb.Prompts(np.concatenate([left + steps, away]), [1] * 4 + [0] * 4, {1: "ball"})
    probability = cb.Probe().fit(pyramid, prompts).predict(pyramid)
    assert probability.shape[0] == 1
    assert cb.segment(volume, pyramid, prompts).nearest_values([left])[0] == 1
    # The ball that is like the query, 36 mm away from it; the finest map has steps of 6 mm.
    regions = cb.find_regions(cb.similarity_map(pyramid, cb.Query.sphere(left, 6)), k=2, min_distance_mm=20)
    assert sorted(float(np.linalg.norm(region.ras - right)) for region in regions)[0] < 12


def test_the_example_on_the_command_line(ct, capsys):
    point = "--point=" + ",".join(map(str, CENTRE + [-18, 0, 0]))
    assert main(["similar", str(ct), "--encoder-file", str(EXAMPLE), point, "-k", "2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["regions"]) == 2


def test_several_encoders_of_a_file_are_chosen_by_name(write, ct, capsys):
    file = write("register('one'); register('two')")
    assert main(["embed", str(ct), "--encoder-file", str(file)]) == 1
    assert "registers one, two. Choose one with --encoder NAME" in capsys.readouterr().err
    assert main(["embed", str(ct), "--encoder-file", str(file), "--encoder", "two", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["encoder"] == "pooling"


def test_a_file_is_run_once_and_again_when_it_has_changed(write):
    file = write("register('one')")
    assert load_encoder_file(file) == ["one"]
    assert load_encoder_file(str(file)) == ["one"]
    write("register('other')")
    assert load_encoder_file(file) == ["other"]
    assert "one" not in encoder_names()
    assert encoder_cards()[-1].title == "Other"


def test_only_the_content_that_was_agreed_to_is_run(write):
    """It is compared with the bytes that are run: a file of the same size and time is another one."""
    file = write("register('one')")
    agreed = hashlib.sha256(file.read_bytes()).hexdigest()
    assert load_encoder_file(file, agreed) == ["one"]
    assert encoder_file_sha256(file) == agreed
    stamp = file.stat().st_mtime_ns
    write("register('two')")
    os.utime(file, ns=(stamp, stamp))
    for _ in range(2):
        with pytest.raises(EncoderError, match=r"'mine\.py' has changed since you agreed to run it"):
            load_encoder_file(file, agreed)
    assert "two" not in encoder_names()
    assert encoder_file_sha256(file) == agreed
    assert encoder_file_sha256(file.with_name("other.py")) == ""


def test_weights_that_change_while_they_are_read_are_refused(tmp_path):
    """Their SHA-256 becomes part of the key of stored features."""
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")

    class Encoder(FrozenEncoder):
        def memory_bytes(self, window, names):
            return 0

    def read(_path):
        assert _path.read_bytes() == b"one"
        path.write_bytes(b"three")
        return nn.Identity()

    load = loader(Encoder, lambda weights, consent: FoundWeights(path, "a test"), read)
    with pytest.raises(WeightsError, match=r"'weights\.bin' was changed while it was read"):
        load()
    load = loader(Encoder, lambda weights, consent: FoundWeights(path, "a test"), lambda _path: nn.Identity())
    assert load().weights_sha256 == hashlib.sha256(b"three").hexdigest()


def test_an_edited_file_is_run_anew_however_soon(write):
    """Compiled code is told from the source by size and second alone, so none is kept."""
    file = write("register('one')")
    load_encoder_file(file)
    stamp = file.stat().st_mtime_ns
    write("register('two')")
    os.utime(file, ns=(stamp, stamp))
    assert load_encoder_file(file) == ["two"]
    assert not list(file.parent.rglob("*.pyc"))


@pytest.mark.parametrize(
    "text", ["raise ValueError('no GPU')", "register('two'); 1 / 0", "def f(:", "", "register('coralbay')", "register('other')"]
)
def test_an_edited_file_that_fails_leaves_its_earlier_version_in_use(write, text):
    load_encoder_file(write("register('other')", "other.py"))
    file = write("register('one'); register('more')")
    load_encoder_file(file)
    before = {name: get_entry(name) for name in encoder_names()}
    write(text)
    for _ in range(2):
        with pytest.raises(EncoderError, match=r"'mine\.py' .*Its earlier version stays in use \(one, more\)"):
            load_encoder_file(file)
        assert {name: get_entry(name) for name in encoder_names()} == before
        assert load_encoder("one", device="cpu").name == "pooling"
    write("register('more')")
    assert load_encoder_file(file) == ["more"]
    assert encoder_names() == [name for name in before if name != "one"]


def test_the_earlier_version_is_in_use_while_a_file_runs(write):
    file = write("register('one')")
    load_encoder_file(file)
    write("from CoralBayLib.encoders import encoder_names\nassert 'one' in encoder_names()\nregister('one')")
    assert load_encoder_file(file) == ["one"]


def test_unloading_takes_what_the_file_registered_and_nothing_else(write):
    before, modules = encoder_names(), set(sys.modules)
    one, two = write("register('one'); register('more')"), write("register('two')", "two.py")
    load_encoder_file(one)
    load_encoder_file(two)
    two.unlink()
    assert unload_encoder_file(str(two)) == ["two"]
    assert unload_encoder_file(one) == ["one", "more"]
    assert unload_encoder_file(one) == []
    assert encoder_names() == before
    assert not [name for name in set(sys.modules) - modules if name.startswith("coralbay_encoder_file")]
    assert load_encoder_file(one) == ["one", "more"]


@pytest.mark.slow
def test_a_file_read_first_of_all_is_not_taken_for_the_whole_library():
    code = f"from CoralBayLib.encoders import load_encoder_file; print(load_encoder_file({str(EXAMPLE)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLE.parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['my-encoder']"


def test_two_threads_that_want_a_file_get_the_same_encoders(write):
    file = write("import time; time.sleep(0.2); register('one')")
    got = []

    def load():
        try:
            got.append(load_encoder_file(file))
        except EncoderError as error:
            got.append(error)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    # Of another thread's registering nothing is the file's.
    cb.register_encoder(cb.EncoderCard("beside", "Beside", ""))(lambda **_: None)
    for thread in threads:
        thread.join()
    assert got == [["one"], ["one"]]
    assert "beside" in encoder_names()


def test_a_file_may_hold_dataclasses(write):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    b: int\n"
    file = write("")
    file.write_text(text + HEAD + "register('one')")
    assert load_encoder_file(file) == ["one"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ValueError('no GPU')", r"'mine.py' raised ValueError in line 6: no GPU\. It adds no encoder"),
        ("register('half')\n1 / 0", "raised ZeroDivisionError in line 7"),
        ("def f(:", "raised SyntaxError in line 6"),
        ("import sys; sys.exit(3)", "raised SystemExit in line 6"),
        ("import no_such_package", "raised ModuleNotFoundError in line 6: No module named 'no_such_package'"),
        ("", "registers no encoder; expected a function decorated"),
        ("register('coralbay')", "'mine.py' could not be used: An encoder named 'coralbay' is already registered"),
        ("register_encoder('mine')(None)", r"no card mine\.json"),
    ],
)
def test_a_bad_file_is_told_and_leaves_nothing(write, text, words):
    before, modules = encoder_names(), set(sys.modules)
    with pytest.raises(EncoderError, match=words):
        load_encoder_file(write(text))
    assert encoder_names() == before
    assert not [name for name in set(sys.modules) - modules if name.startswith("coralbay_encoder_file")]


def test_a_file_that_is_missing_or_no_python(tmp_path, write):
    with pytest.raises(EncoderError, match="There is no encoder file"):
        load_encoder_file(tmp_path / "none.py")
    with pytest.raises(EncoderError, match=r"expected a name that ends with \.py"):
        load_encoder_file(write("", "mine.txt"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("del PoolingEncoder.memory_bytes", r"lacks 'memory_bytes', a method \(window, names\) that returns the bytes"),
        ("PoolingEncoder.tiling = 'whole'", "'tiling' as a Tiling"),
        ("PoolingEncoder.to = None", "'to' as a method"),
        ("PoolingEncoder.levels = ()", "'levels' as a tuple of LevelSpec"),
        ("PoolingEncoder.levels = PoolingEncoder().levels[:1] * 2", "levels with unique names"),
        ("PoolingEncoder.weights_sha256 = None", "'weights_sha256' as a text"),
        ("PoolingEncoder = dict", "(dict) lacks 'name', the name under which it is registered; 'title', a title"),
    ],
)
def test_what_is_no_encoder_is_refused_in_words(write, body, words):
    # A class of the file's own, so that nothing of it stays.
    copy = "class PoolingEncoder(PoolingEncoder): memory_bytes = PoolingEncoder.memory_bytes\n"
    if "del " in body:
        copy = "B = PoolingEncoder\nclass PoolingEncoder:\n    pass\n"
        copy += (
            "for k, v in vars(B).items():\n    if not k.startswith('__') or k == '__init__': setattr(PoolingEncoder, k, v)\n"
        )
    if "levels" in body or "tiling" in body:
        copy += (
            "base = PoolingEncoder()\nclass Same(PoolingEncoder):\n    def __init__(self): self.__dict__.update(vars(base))\n"
        )
        body = body.replace("PoolingEncoder.levels =", "base.levels =").replace("PoolingEncoder.tiling =", "base.tiling =")
        body += "\nPoolingEncoder = Same"
    load_encoder_file(write(f"{copy}{body}\nregister('broken', PoolingEncoder)"))
    with pytest.raises(EncoderError, match=words.replace("(dict)", r"\(dict\)")):
        load_encoder("broken", device="cpu")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes an installed package with an entry point; returns the names known once it is seen."""

    def install(name, text):
        site = tmp_path / "site"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(HEAD + text)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[coralbay.encoders]\n{name} = {name}\n")
        monkeypatch.syspath_prepend(site)
        monkeypatch.setattr(plugins, "_entry_points_loaded", False)

    return install


def test_an_installed_package_brings_encoders(package):
    package("cb_test_packaged", "register('packaged')")
    assert "packaged" in encoder_names()
    assert load_encoder("packaged", device="cpu").name == "pooling"


@pytest.mark.parametrize(("text", "words"), [("1 / 0", "ZeroDivisionError"), ("register('astra')", "already registered")])
def test_a_package_that_fails_is_warned_about_once_and_spoils_nothing(package, text, words):
    before = encoder_names()
    package(f"cb_test_broken_{len(words)}", text)
    with pytest.warns(UserWarning, match=rf"The encoder package 'cb_test_broken_\d+' .*{words}.*The other encoders work"):
        assert encoder_names() == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoder_names() == before
