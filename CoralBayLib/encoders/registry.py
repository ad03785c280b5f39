"""The encoders that plugins registered, by name. Encoders that come with CoralBay are in `builtin`; `catalog` joins both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from CoralBayLib.core.errors import EncoderError

from .cards import EncoderCard, shipped_card, shipped_names

if TYPE_CHECKING:
    from .base import Encoder
    from .weights.sources import Weights

Load = Callable[..., "Encoder"]
"""A function `load(weights, device, consent, *, setting) -> Encoder`; see `register_encoder`."""


@dataclass(frozen=True)
class EncoderEntry:
    """An encoder that can be loaded.

    Attributes:
        card: description of the encoder.
        load: `load(weights, device, consent, *, setting) -> Encoder`.
        weights: where its weights are published, or None when only `load` knows.
    """

    card: EncoderCard
    load: Load
    weights: Weights | None = None


class _ThreadLocalRegistry(threading.local):
    """The registrations of one thread inside `staged_registration`; `staged` is None outside."""

    staged: dict[str, EncoderEntry] | None = None
    replaced: Collection[str] = ()


_registry: dict[str, EncoderEntry] = {}
_thread = _ThreadLocalRegistry()
_commit_lock = threading.RLock()


def register_encoder(card: EncoderCard, *, weights: Weights | None = None) -> Callable[[Load], Load]:
    """Decorator that registers a function which loads an encoder.

    The function has the signature `load(weights, device, consent, *, setting) -> Encoder`: the path of a weights file or
    None, the torch device, whether a download is allowed (see `load_encoder`), and the inference mode or None. A working
    example is `Resources/Examples/my_encoder.py`.

    Args:
        card: description of the encoder; its name must not be in use.
        weights: where the weights are published. Without it they cannot be listed, downloaded, exported or deleted.

    Raises:
        EncoderError: the name is in use, or `card` is not a card.
    """

    def decorate(load: Load) -> Load:
        # A name in place of a card is only valid for encoders that come with CoralBay, and those are taken.
        own = shipped_card(card) if isinstance(card, str) else card
        entries = _registry if _thread.staged is None else _thread.staged
        taken = {*shipped_names(), *entries, *(_registry.keys() - set(_thread.replaced))}
        if own.name in taken:
            raise _taken(own.name)
        entries[own.name] = EncoderEntry(own, load, weights)
        return load

    return decorate


@contextmanager
def staged_registration(replaced: Collection[str] = ()) -> Iterator[dict[str, EncoderEntry]]:
    """Stage the registrations that this thread makes in the block, and commit them atomically when it succeeds.

    Args:
        replaced: names of encoders that the new ones replace. The registry stays as it was when the block raises or
            registers nothing.

    Yields:
        The staged entries by name.

    Raises:
        EncoderError: another thread has registered one of the names in the meantime.
    """
    staged: dict[str, EncoderEntry] = {}
    outer = _thread.staged, _thread.replaced
    _thread.staged, _thread.replaced = staged, replaced
    try:
        yield staged
    finally:
        _thread.staged, _thread.replaced = outer
    if staged:
        with _commit_lock:
            for name in staged:
                if name in _registry and name not in replaced:
                    raise _taken(name)
            _registry.update(staged)
            for name in replaced:
                if name not in staged:
                    unregister(name)


def unregister(name: str) -> None:
    """Remove an encoder from the registry; does nothing when it is not there."""
    _registry.pop(name, None)


def entries() -> dict[str, EncoderEntry]:
    """A copy of all entries by name, in the order of registration."""
    return dict(_registry)


def _taken(name: str) -> EncoderError:
    return EncoderError(f"An encoder named '{name}' is already registered; choose another name.")
