"""Encoder cards: the description of an encoder that a person reads before choosing it. Imports no torch.

The card of an encoder that comes with CoralBay is `Resources/Encoders/<name>.json`, the only place for these facts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import EncoderError
from CoralBayLib.core.resources import resources_dir

Number = int | float


@dataclass(frozen=True)
class CardInput:
    """The input of an encoder.

    Attributes:
        orientation: of the tensor's axes, such as "RAS".
        spacing_mm: voxel spacing along these axes, or None when it depends on the scan; see `note`.
        windows_hu: (low, high) in HU of each input channel.
        note: further preparation of the scan.
    """

    orientation: str
    spacing_mm: tuple[float, float, float] | None
    windows_hu: tuple[tuple[float, float], ...]
    note: str = ""


@dataclass(frozen=True)
class CardLevel:
    """One feature map.

    Attributes:
        stride: input voxels between neighboring features, along the axes of the input.
        channels: number of channels.
    """

    stride: tuple[int, int, int]
    channels: int


@dataclass(frozen=True)
class CardSetting:
    """One inference mode of an encoder.

    Attributes:
        name: value of `load_encoder(setting=)`; saved in scenes and probes.
        title: text for menus.
    """

    name: str
    title: str


@dataclass(frozen=True)
class EncoderCard:
    """The description of an encoder that a person reads before choosing it.

    Attributes:
        name: the name by which it is chosen.
        title: text for menus.
        summary: one sentence.
        good_for: what it was made for or has been shown to do.
        paper: identifier, such as "arXiv 2606.03888".
        citation: text for a reference list.
        code_licence, weights_licence: SPDX identifiers where they exist.
        text_encoder: the network that embeds texts, and which texts, when scans can be searched by words; empty when not.
        restrictions: what else than the free licenses of other encoders limits its use, such as "non-commercial use only";
            menus show it beside the title. Empty when there is nothing.
        source: address of the weights.
        parameters: number of parameters of the network that is run, or None when not known.
        input: its input.
        levels: its feature maps.
        embedding_size: length of the vector for a whole scan.
        weights_bytes: size of the published weights file, or None when not known.
        limits: known limitations.
        settings: its inference modes; the first is the default.
        position: position in menus among the encoders that come with CoralBay, from 1; the first is the default encoder.
    """

    name: str
    title: str
    summary: str
    good_for: str = ""
    paper: str = ""
    citation: str = ""
    code_licence: str = ""
    weights_licence: str = ""
    source: str = ""
    parameters: int | None = None
    input: CardInput | None = None
    levels: tuple[CardLevel, ...] = ()
    embedding_size: int | None = None
    weights_bytes: int | None = None
    limits: str = ""
    settings: tuple[CardSetting, ...] = ()
    position: int | None = None
    restrictions: str = ""
    text_encoder: str = ""

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


def shipped_names() -> list[str]:
    """The names of the encoders that come with CoralBay, in alphabetical order; reads no card."""
    return sorted(path.stem for path in _folder().glob("*.json"))


def shipped_cards() -> list[EncoderCard]:
    """The cards of the encoders that come with CoralBay, in the order of menus.

    Raises:
        EncoderError: a card is damaged.
    """
    return sorted(map(shipped_card, shipped_names()), key=lambda card: card.position or 0)


def shipped_card(name: str) -> EncoderCard:
    """The card of an encoder that comes with CoralBay.

    Raises:
        EncoderError: there is no such card, or it is damaged.
    """
    path = _folder() / f"{name}.json"
    if not path.is_file():
        raise EncoderError(
            f"There is no card {path.name} in {path.parent}. Register the encoder with an EncoderCard in place of its name."
        )
    return read_card(path)


def read_card(path: Path) -> EncoderCard:
    """Read a card from JSON: one object with every field of `EncoderCard`, except those that earlier cards lack.

    Raises:
        EncoderError: the file cannot be read, a field is missing, unknown or of another type, or the name differs from
            the name of the file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"The encoder card {path.name} cannot be read as JSON: {error}.") from error
    if isinstance(content, dict):
        content = _ADDED_LATER | content
    data = _checked(content, _CARD, path.name)
    if data["name"] != path.stem:
        raise EncoderError(f"The encoder card {path.name} names '{data['name']}'; expected '{path.stem}', as the file.")
    data["input"] = CardInput(**_checked(data["input"], _INPUT, f"{path.name}, input"))
    for field, expected, kind in (("levels", _LEVEL, CardLevel), ("settings", _SETTING, CardSetting)):
        data[field] = tuple(kind(**_checked(each, expected, f"{path.name}, {field}")) for each in data[field])
    return EncoderCard(**data)


def _folder() -> Path:
    return resources_dir() / "Encoders"


def _numbers(count: int) -> Any:
    return lambda value: (
        isinstance(value, list) and len(value) == count and all(isinstance(n, Number) and n is not True for n in value)
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_TEXT = ("a text", lambda value: isinstance(value, str) and bool(value.strip()))
_TEXT_OR_EMPTY = ("a text", lambda value: isinstance(value, str))
_COUNT = ("a positive whole number", _is_count)
_COUNT_OR_NULL = ("a positive whole number or null", lambda value: value is None or _is_count(value))
_LIST = ("a list", lambda value: isinstance(value, list) and bool(value))

_CARD = {
    **{field.name: _TEXT for field in fields(EncoderCard)},
    "parameters": _COUNT_OR_NULL,
    "input": ("an object", lambda value: isinstance(value, dict)),
    "levels": _LIST,
    "embedding_size": _COUNT,
    "weights_bytes": _COUNT_OR_NULL,
    "settings": _LIST,
    "position": _COUNT,
    "restrictions": _TEXT_OR_EMPTY,
    "text_encoder": _TEXT_OR_EMPTY,
}
_ADDED_LATER = {"text_encoder": ""}
"""Fields that cards of earlier versions lack, and what these mean: people have cards of their own encoders."""
_INPUT = {
    "orientation": _TEXT,
    "spacing_mm": ("three numbers or null", lambda value: value is None or _numbers(3)(value)),
    "windows_hu": ("a list of [low, high]", lambda value: _LIST[1](value) and all(_numbers(2)(pair) for pair in value)),
    "note": _TEXT_OR_EMPTY,
}
_LEVEL = {"stride": ("three numbers", _numbers(3)), "channels": _COUNT}
_SETTING = {"name": _TEXT, "title": _TEXT}


def _checked(content: Any, expected: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields of a JSON object, with lists as tuples."""
    if not isinstance(content, dict):
        raise EncoderError(f"The encoder card {where}: expected an object, got {type(content).__name__}.")
    missing = [name for name in expected if name not in content]
    unknown = [name for name in content if name not in expected]
    if missing or unknown:
        parts = [f"{what} {', '.join(names)}" for what, names in (("lacks", missing), ("has the unknown", unknown)) if names]
        raise EncoderError(f"The encoder card {where} {' and '.join(parts)}. Its fields: {', '.join(expected)}.")
    for name, (kind, fits) in expected.items():
        if not fits(content[name]):
            raise EncoderError(f"The encoder card {where}: expected '{name}' to be {kind}, got {content[name]!r}.")
    return {name: _frozen(content[name]) for name in expected}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
