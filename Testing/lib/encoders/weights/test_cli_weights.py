"""`coralbay weights`: the same verbs on the command line."""

from __future__ import annotations

import io
import json
import sys

import pytest

from CoralBayLib.cli import main
from CoralBayLib.encoders import EncoderCard, builtin, registry
from Testing.lib.encoders.local_hub import CONTENT, SHA256, SOURCE


@pytest.fixture(autouse=True)
def one_encoder(monkeypatch):
    """Only `coralbay`, whose weights are on the local hub."""
    known = {"coralbay": registry.EncoderEntry(EncoderCard("coralbay", "CoralBay", ""), lambda **_: None, SOURCE)}
    monkeypatch.setattr(builtin, "cards", list)
    monkeypatch.setattr(registry, "_registry", known)


@pytest.fixture
def run(capsys):
    """Runs a command; returns status, stdout, stderr."""

    def command(*arguments):
        status = main(["weights", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return command


class Terminal:
    """A person who types an answer."""

    def __init__(self, answer):
        self.answer = answer

    def isatty(self):
        return True

    def readline(self):
        return self.answer


def test_download_list_export_delete_import(run, hub, tmp_path):
    status, out, _ = run("list")
    assert status == 0
    assert "not on this computer" in out
    status, out, _ = run("download", "coralbay", "--yes", "--json")
    assert (status, json.loads(out)["place"]) == (0, "folder")
    status, out, _ = run("list")
    assert "CoralBay's folder, 1.0 MB" in out
    assert SHA256 in out
    assert "hub some/model@aaaaaaaaaaaa" in out and "license:    MIT" in out
    bundle = tmp_path / "w.zip"
    status, out, err = run("export", bundle, "coralbay")
    assert f"Written: {bundle}, with the weights of coralbay." in out
    assert "Observe the licenses" in err
    status, out, _ = run("delete", "coralbay", "--json")
    assert json.loads(out)["freed_bytes"] > len(CONTENT)
    status, out, _ = run("delete", "coralbay")
    assert "nothing of 'coralbay' to delete" in out
    status, out, err = run("import", bundle)
    assert (status, f"SHA-256 {SHA256}, license MIT" in out) == (0, True)
    assert "The weights of coralbay were verified only against the SHA-256 in the bundle" in err
    status, _, err = run("import", bundle, "astra")
    assert (status, "has no weights of 'astra'; it has those of coralbay" in err) == (1, True)
    status, out, _ = run("list", "--json")
    (state,) = json.loads(out)["weights"]
    assert (state["place"], state["sha256"], state["nbytes"]) == ("folder", SHA256, len(CONTENT))


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("\n", 1), ("no\n", 1)])
def test_a_download_is_asked_about_on_the_terminal(run, hub, monkeypatch, answer, status):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    came, _, err = run("download", "coralbay")
    assert came == status
    assert f"from: {hub.address}/some/model" in err
    assert "license: MIT" in err
    assert (len(hub.asked) > 0) == (status == 0)


def test_without_a_terminal_consent_must_be_given(run, hub, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    status, _, err = run("download", "coralbay")
    assert status == 1
    assert "Add --yes" in err
    assert hub.asked == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["download", "nope"], "no encoder 'nope'"),
        (["delete", "nope"], "no encoder 'nope'"),
        (["export", "x.zip"], "no weights on this computer"),
        (["import", "nowhere.zip"], "no file 'nowhere.zip'"),
    ],
)
def test_errors_in_words_without_advice_for_other_commands(run, arguments, words):
    status, _, err = run(*arguments)
    assert status == 1
    assert words in err
    assert "--download" not in err
