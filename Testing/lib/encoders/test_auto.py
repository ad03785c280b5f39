"""`--encoder auto` on a machine without CoralBay's weights, with the network that comes with this project."""

from __future__ import annotations

import json
import socket

import pytest

import CoralBayLib as cb
from CoralBayLib.cli import main
from Testing.lib.conftest import phantom, phantom_grid

pytestmark = pytest.mark.slow

pytest.importorskip("monai")


@pytest.fixture
def ct(tmp_path):
    cb.write_volume(phantom(phantom_grid()), tmp_path / "ct.nrrd")
    return tmp_path / "ct.nrrd"


@pytest.fixture
def no_hub(monkeypatch):
    """A hub that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")


@pytest.mark.parametrize("download", [[], ["--download"]])
def test_without_a_network_it_is_coralbay_mini_and_said_once(ct, no_hub, capsys, download):
    assert main(["embed", str(ct), "--no-cache", "--device", "cpu", *download]) == 0
    out, err = capsys.readouterr()
    assert "coralbay-mini: " in out
    assert err.count("CoralBay-mini is used") == 1
    assert ("no usable answer" if download else "no consent to a download was given") in err
    # An option that was given is no advice.
    assert ("--download" in err) == (not download)
    assert main(["embed", str(ct), "--no-cache", "--device", "cpu", "--json", *download]) == 0
    assert json.loads(capsys.readouterr().out)["encoder"] == "coralbay-mini"


def test_a_file_that_a_variable_names_is_not_replaced_by_another_network(ct, no_hub, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CORALBAY_WEIGHTS", str(tmp_path / "none.safetensors"))
    assert main(["embed", str(ct), "--no-cache"]) == 1
    err = capsys.readouterr().err
    assert "CORALBAY_WEIGHTS names" in err and "CoralBay-mini" not in err


def test_no_text_for_users_takes_astra_for_what_is_used_without_a_network(ct, no_hub, capsys):
    assert main(["embed", str(ct), "--encoder", "coralbay"]) == 1
    err = capsys.readouterr().err
    assert "'coralbay-mini', whose weights come with CoralBay" in err and "--encoder coralbay-mini" in err
    for card in cb.encoder_cards():
        assert "reach the hub" not in card.summary and "without the Hugging Face hub" not in card.good_for
