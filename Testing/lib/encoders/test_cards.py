"""Encoder cards: every one that comes along is whole and true to the code; a bad one is refused in words."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from CoralBayLib.cli import main
from CoralBayLib.core import resources
from CoralBayLib.core.errors import EncoderError
from CoralBayLib.encoders import encoder_cards, get_entry, shipped_card
from CoralBayLib.encoders.astra import AstraEncoder, AstraNetwork
from CoralBayLib.encoders.cards import read_card
from CoralBayLib.encoders.colipri import ColipriEncoder, ColipriNetwork
from CoralBayLib.encoders.coralbay import CoralBayEncoder, CoralBayNetwork
from CoralBayLib.encoders.coralbay_mini import CoralBayMiniEncoder
from CoralBayLib.encoders.ct_fm import CTFMEncoder, CTFMNetwork
from CoralBayLib.encoders.fm_ct import FMCTEncoder, FMCTNetwork
from CoralBayLib.encoders.language import TextEncoder
from CoralBayLib.encoders.voco import VoCoEncoder
from CoralBayLib.encoders.voxelfm import VoxelFMEncoder, VoxelFMNetwork
from CoralBayLib.encoders.weights import WeightsSource

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "Resources" / "Encoders").glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_card_is_whole(path):
    card = read_card(path)
    assert card.name == path.stem
    assert len(card.summary) < 200
    assert all(low < high for low, high in card.input.windows_hu)
    assert card.input.orientation in {"RAS", "SPL"}
    assert card.source.startswith("https://")


def test_there_is_a_card_for_each_encoder():
    assert {"coralbay", "coralbay-mini", "astra", "ct-fm", "voxelfm", "fm-ct", "colipri", "voco"} == {
        path.stem for path in FILES
    }
    # Tests before this one may have registered further encoders.
    cards = {card.name: card for card in encoder_cards()}
    for path in FILES:
        assert cards[path.stem] == shipped_card(path.stem)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_licences_are_the_same_wherever_they_are_told(path, capsys):
    card = read_card(path)
    weights = get_entry(card.name).weights
    assert weights.licence == card.weights_licence
    (row,) = [
        line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{card.name}` |")
    ]
    code, _, of_weights = row.strip("| ").split(" | ")[-1].partition("; ")
    assert code.startswith(card.code_licence) and of_weights.startswith(card.weights_licence)
    assert main(["encoders"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{card.name} ")]
    assert re.search(rf" {re.escape(card.code_licence)} +{re.escape(card.weights_licence)}$", line)
    if "NC" in card.code_licence:
        assert "non-commercial" in row and "non-commercial" in card.limits and "non-commercial" in card.restrictions
    permissive = {"MIT", "Apache-2.0"}
    assert bool(card.restrictions) == (not {card.code_licence, card.weights_licence} <= permissive)
    assert main(["encoders", card.name]) == 0
    assert card.restrictions in " ".join(capsys.readouterr().out.split())
    if isinstance(weights, WeightsSource) and not weights.downloadable:
        assert "a local file only" in row


def test_the_default_encoder_is_free_for_every_use():
    assert encoder_cards()[0].name == "coralbay"
    assert encoder_cards()[0].restrictions == ""


NETWORKS = {
    AstraEncoder: AstraNetwork,
    CoralBayEncoder: lambda: CoralBayNetwork(48),
    CoralBayMiniEncoder: lambda: CoralBayNetwork(24),
    CTFMEncoder: CTFMNetwork,
    VoxelFMEncoder: VoxelFMNetwork,
    FMCTEncoder: FMCTNetwork,
    ColipriEncoder: ColipriNetwork,
    VoCoEncoder: lambda: CoralBayNetwork(48),
}


@pytest.mark.parametrize("made", NETWORKS, ids=lambda made: made.name)
def test_cards_tell_what_the_code_does(made):
    # MONAI's Swin reads numbers while it is built, which only a real device has.
    device = "cpu" if issubclass(made, CoralBayEncoder) else "meta"
    with torch.device(device):
        network = NETWORKS[made]()
    encoder, card = made(network, "", "", device=device), shipped_card(made.name)
    assert card.title == encoder.title
    assert card.parameters == sum(parameter.numel() for parameter in network.parameters())
    if card.input.spacing_mm is not None:
        assert card.input.spacing_mm == encoder.input.spacing_mm
    assert encoder.input.window_hu == tuple(card.input.windows_hu[-1])
    assert [(level.stride, level.channels) for level in card.levels] == [
        (level.stride, level.channels) for level in encoder.levels
    ]
    assert tuple(setting.name for setting in card.settings) == encoder.settings
    if encoder.scan_token is None:
        assert card.embedding_size == sum(level.channels for level in encoder.levels if level.pooled)
    else:
        assert card.embedding_size == getattr(network, "projected", network.channels)
    assert bool(card.text_encoder) == isinstance(encoder, TextEncoder)


@pytest.fixture
def card(tmp_path):
    """Writes a good card with some fields changed; returns its path."""

    def write(**changes):
        content = json.loads((ROOT / "Resources/Encoders/astra.json").read_text(encoding="utf-8")) | {"name": "mine"} | changes
        path = tmp_path / "mine.json"
        path.write_text(json.dumps({name: value for name, value in content.items() if value != "drop it"}))
        return path

    return write


def test_a_changed_copy_is_good(card):
    assert read_card(card(parameters=None)).parameters is None


def test_a_card_of_an_earlier_version_is_good(card):
    """People have cards of their own encoders, written before scans could be searched by words."""
    assert read_card(card(text_encoder="drop it")).text_encoder == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"citation": "drop it", "limits": "drop it"}, "lacks citation, limits"),
        ({"licence": "MIT"}, "has the unknown licence"),
        ({"name": "other"}, "names 'other'; expected 'mine'"),
        ({"title": " "}, "'title' to be a text, got ' '"),
        ({"parameters": 1.5}, "'parameters' to be a positive whole number or null, got 1.5"),
        ({"embedding_size": True}, "'embedding_size' to be a positive whole number"),
        ({"levels": []}, "'levels' to be a list"),
        ({"levels": [{"stride": [1, 1], "channels": 3}]}, "levels: expected 'stride' to be three numbers"),
        ({"input": {"orientation": "RAS"}}, "input lacks spacing_mm, windows_hu, note"),
        ({"settings": [{"name": "whole"}]}, "settings lacks title"),
        ({"settings": []}, "'settings' to be a list"),
        ({"position": 0}, "'position' to be a positive whole number"),
        ({"input": ["RAS"]}, "'input' to be an object"),
    ],
)
def test_a_bad_card_is_refused_in_words(card, changes, words):
    with pytest.raises(EncoderError, match=re.escape(words)):
        read_card(card(**changes))


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff", "[" * 100_000, '{"a":' * 100_000])
def test_what_is_no_card_is_refused(tmp_path, content):
    path = tmp_path / "mine.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(EncoderError, match=r"mine\.json"):
        read_card(path)


def test_resources_are_found_inside_an_installed_package(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "CoralBayLib")
    assert resources.resources_dir() == tmp_path / "Resources"
    (tmp_path / "CoralBayLib" / "Resources").mkdir(parents=True)
    assert resources.resources_dir() == tmp_path / "CoralBayLib" / "Resources"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_wheel_holds_every_package_and_the_resources():
    import tomllib

    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent for path in (ROOT / "CoralBayLib").rglob("*.py") if "Resources" not in path.parts}
    named = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(setup["packages"]) == named | {"CoralBayLib.Resources"}
    patterns = setup["package-data"]["CoralBayLib.Resources"]
    packaged = {path for pattern in patterns for path in (ROOT / "Resources").glob(pattern)}
    assert set(FILES) <= packaged
