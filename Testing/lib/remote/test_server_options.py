"""`--server` and `coralbay serve` on the command line."""

from __future__ import annotations

import json
import os

import pytest

from CoralBayLib.cli.main import main
from CoralBayLib.imaging.volume_io import write_volume
from CoralBayLib.serving.settings import digest_of
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid
from Testing.lib.serving.harness import TOKEN
from Testing.lib.serving.threaded import threaded_server

pytest.importorskip("uvicorn", reason="the developer's package ray[serve] is not installed")


@pytest.fixture
def served(tmp_path):
    with threaded_server(tmp_path / "served", PoolingEncoder((4, 8), (2.5, 2.5, 2.5)), token_digest=digest_of(TOKEN)) as it:
        yield it


@pytest.fixture
def ct(tmp_path):
    write_volume(phantom(phantom_grid()), tmp_path / "ct.nrrd")
    return str(tmp_path / "ct.nrrd")


def test_a_scan_is_embedded_there_and_found_here(served, ct, tmp_path, capsys, monkeypatch):
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    assert main(["embed", ct, "--server", served.url, "--token-file", str(token), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["key"], first["from_store"]) == (served.replica.begun[0], False)
    monkeypatch.setenv("CORALBAY_SERVER_TOKEN", TOKEN)
    assert main(["embed", ct, "--server", served.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["from_store"] is True
    assert main(["similar", ct, "--server", served.url, "--point", "12,-30,45"]) == 0
    assert "because the server does not offer CoralBay" in capsys.readouterr().err
    assert len(served.replica.begun) == 1


def test_a_missing_token_is_said_with_the_option(served, ct, capsys):
    assert main(["embed", ct, "--server", served.url]) == 1
    told = capsys.readouterr().err
    assert "wants a token" in told and "--token-file FILE" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["embed", "CT", "--server", "http://127.0.0.1:1", "--weights", "x"], "Leave --encoder-file and --weights out"),
        (["library", "add", "CT", "--server", "http://127.0.0.1:1", "--ray", "local"], "Leave --ray or --server out"),
        (["embed", "CT", "--server", "http://gpu.example.org"], "readable on the way"),
        (["serve", "--host", "0.0.0.0"], "A token is needed"),
        (["serve", "--weights", "x"], "name that one with --encoder"),
        (["serve", "--token-file", "missing"], "The token cannot be read"),
        (["serve", "--certificate", "x"], "TLS needs both files"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words, ct, capsys, monkeypatch):
    monkeypatch.delenv("CORALBAY_SERVER_TOKEN", raising=False)
    assert main([ct if word == "CT" else word for word in arguments]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_token_that_others_can_read_is_told_of(tmp_path, capsys):
    token = tmp_path / "token"
    token.write_text(TOKEN)
    told = {}
    for mode in (0o644, 0o600):
        token.chmod(mode)
        assert main(["serve", "--token-file", str(token), "--certificate", "x"]) == 1
        told[mode] = f"chmod 600 {token}" in capsys.readouterr().err
    assert told == {0o644: True, 0o600: False}
