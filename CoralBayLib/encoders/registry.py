"""The encoders that are known, by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from CoralBayLib.core.errors import EncoderError

from .cards import EncoderCard, shipped_card

if TYPE_CHECKING:
    from .base import Encoder
    from .weights import Weights

Load = Callable[..., "Encoder"]


@dataclass(frozen=True)
class Registered:
    """An encoder that can be loaded.

    Attributes:
        card: what a person reads about it.
        load: `load(weights, device, consent, *, setting) -> Encoder`.
        weights: where its weights are published, or None when `load` alone knows.
    """

    card: EncoderCard
    load: Load
    weights: Weights | None = None


class _Apart(threading.local):
    """What a thread registers inside `gathering`; None outside."""

    entries: dict[str, Registered] | None = None
    replaced: Collection[str] = ()


_registry: dict[str, Registered] = {}
_apart = _Apart()
_completing = threading.RLock()
_is_complete = False


def register_encoder(card: str | EncoderCard, *, weights: Weights | None = None) -> Callable[[Load], Load]:
    """Decorator that registers a function `load(weights, device, consent, *, setting) -> Encoder`.

    Args:
        card: of an encoder that comes with CoralBay the name alone, its card is a file then; otherwise a card.
        weights: where the weights are published, so that they can be listed, fetched, exported and deleted.

    Raises:
        EncoderError: the name is taken, or there is no usable card of that name.
    """

    def decorate(load: Load) -> Load:
        own = shipped_card(card) if isinstance(card, str) else card
        _import_families()
        entries = _registry if _apart.entries is None else _apart.entries
        if own.name in entries or own.name in _registry.keys() - set(_apart.replaced):
            raise _taken(own.name)
        entries[own.name] = Registered(own, load, weights)
        return load

    return decorate


@contextmanager
def gathering(replaced: Collection[str] = ()) -> Iterator[dict[str, Registered]]:
    """Keep what this thread registers in the block apart, by name; at its end it takes the place of the encoders named
    in `replaced`. Nothing changes when the block raises or registers nothing.

    Raises:
        EncoderError: a name has been taken by another thread meanwhile.
    """
    # Otherwise CoralBay's own encoders would be gathered with the block's.
    _complete()
    entries: dict[str, Registered] = {}
    outer = _apart.entries, _apart.replaced
    _apart.entries, _apart.replaced = entries, replaced
    try:
        yield entries
    finally:
        _apart.entries, _apart.replaced = outer
    if entries:
        with _completing:
            for name in entries:
                if name in _registry and name not in replaced:
                    raise _taken(name)
            _registry.update(entries)
            for name in replaced:
                if name not in entries:
                    unregister(name)


def unregister(name: str) -> None:
    """Forget an encoder, if it is known."""
    _registry.pop(name, None)


def known_names() -> list[str]:
    """The names registered so far."""
    return list(_registry)


def encoder_names() -> list[str]:
    """The names of all encoders: CoralBay's own, then others in the order they were registered."""
    _complete()
    return known_names()


def encoder_cards() -> list[EncoderCard]:
    """The cards of all encoders, in the same order."""
    return [registered(name).card for name in encoder_names()]


def registered(name: str) -> Registered:
    """One encoder.

    Raises:
        EncoderError: there is no encoder of that name.
    """
    _complete()
    if name not in _registry:
        raise EncoderError(
            f"There is no encoder '{name}'. Known encoders: {', '.join(sorted(_registry))}. One of your own comes from a "
            "Python file (load_encoder_file) or an installed package."
        )
    return _registry[name]


def _taken(name: str) -> EncoderError:
    return EncoderError(f"An encoder named '{name}' is already registered; choose another name.")


def _complete() -> None:
    """Let CoralBay's own encoders and those of installed packages register themselves, once."""
    global _is_complete
    with _completing:
        _import_families()
        if not _is_complete:
            _is_complete = True
            from .plugins import load_entry_points

            load_entry_points()


def _import_families() -> None:
    """CoralBay's own encoders take their names first. They import torch, which is why this waits until it is needed."""
    import_module(".builtin", __package__)
