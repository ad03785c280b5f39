"""What a server says of the encoders that it does not offer."""

from __future__ import annotations

import CoralBayLib.encoders
from CoralBayLib.serving.run import make_offer
from CoralBayLib.serving.settings import ServerSettings


def test_an_encoder_without_weights_is_left_out_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.delenv("VOCO_WEIGHTS", raising=False)
    monkeypatch.setenv("CORALBAY_CACHE", str(tmp_path))
    monkeypatch.setattr(CoralBayLib.encoders, "encoder_names", lambda: ["voco", "coralbay-mini"])
    said = []
    offer = make_offer(ServerSettings(cache=tmp_path, device="cpu"), "0", left_out=said.append)
    assert {each["name"] for each in offer["encoders"]} == {"coralbay-mini"}
    assert said == ["voco is not offered: its weights are not on this computer."]
