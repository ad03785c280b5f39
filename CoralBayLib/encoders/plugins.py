"""Encoders of the user's own: from a Python file or an installed package.

A package names a module of its own as an entry point of the group `coralbay.encoders`; importing it registers encoders.
A working example is `Resources/Examples/my_encoder.py`.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from CoralBayLib.core.errors import EncoderError
from CoralBayLib.core.paths import error_message

from . import registry

GROUP = "coralbay.encoders"

_WORDS = {
    "name": "the name it is registered under",
    "title": "a title for people",
    "input": "an InputSpec: voxel spacing, HU window, what sides must be multiples of",
    "levels": "a tuple of LevelSpec, one for each feature map",
    "scan_token": "None, or the name of the vector that its forward_features gives for the whole scan",
    "tiling": "a Tiling: the windows it is run on, or the whole volume",
    "weights_sha256": "a text that tells its weights from others, so that stored features are found again",
    "weights_source": "where its weights come from, in words",
    "device": "the torch device it runs on",
    "network": "the torch module that is run",
    "forward_features": "a method (x, names) that returns a feature map for each name",
    "memory_bytes": "a method (window, names) that returns the bytes it needs",
    "to": "a method (device) that moves it to a device",
}


@dataclass(frozen=True)
class _Loaded:
    """A file that was run: its content then, what it registered, and its module."""

    sha256: str = ""
    names: tuple[str, ...] = ()
    module: str = ""


_files: dict[Path, _Loaded] = {}
_loading = threading.RLock()


def load_encoder_file(path: str | Path) -> list[str]:
    """Run a Python file that registers one or more encoders. The file can do whatever its user can: run only what you
    trust.

    A file that was loaded before is run again only if it has changed; its encoders then replace its earlier ones. When
    the changed file fails, the earlier ones stay.

    Returns:
        The names of the encoders it registered.

    Raises:
        EncoderError: there is no such file, it raises, registers nothing, or takes a name that is taken.
    """
    path = Path(path).expanduser().resolve()
    with _loading:
        try:
            source = path.read_bytes()
        except FileNotFoundError as error:
            what_to_do = "Name a Python file that calls register_encoder."
            raise EncoderError(f"There is no encoder file '{path}'. {what_to_do}") from error
        except OSError as error:
            raise EncoderError(f"The encoder file '{path.name}' cannot be read: {error_message(error)}.") from error
        if path.suffix.lower() != ".py":
            raise EncoderError(f"'{path.name}' is no Python file; expected a name that ends with .py.")
        sha256 = hashlib.sha256(source).hexdigest()
        before = _files.get(path, _Loaded())
        if before.sha256 != sha256:
            _files[path] = _run(path, source, sha256, before)
            sys.modules.pop(before.module, None)
        return list(_files[path].names)


def unload_encoder_file(path: str | Path) -> list[str]:
    """Forget the encoders that a file registered; the file itself, which need not be there any more, is left alone.

    Encoders that were loaded go on working.

    Returns:
        The names of the encoders that were forgotten; none when the file was not loaded.
    """
    with _loading:
        loaded = _files.pop(Path(path).expanduser().resolve(), _Loaded())
        for name in loaded.names:
            registry.unregister(name)
        sys.modules.pop(loaded.module, None)
        return list(loaded.names)


def load_entry_points() -> None:
    """Import what installed packages name in the group `coralbay.encoders`; one that fails is warned about."""
    for point in metadata.entry_points(group=GROUP):
        try:
            with _registering(f"The encoder package '{point.name}' ({point.value})"):
                point.load()
        except EncoderError as error:
            warnings.warn(f"{error} The other encoders work.", stacklevel=2)


def check_encoder(encoder: Any, name: str) -> None:
    """See whether an object has all that an `Encoder` must have.

    Raises:
        EncoderError: something is missing or of another kind; says what each is for.
    """
    from .base import Encoder, InputSpec, LevelSpec, Tiling

    wanted = [*Encoder.__annotations__, *(each for each in vars(Encoder) if not each.startswith("_"))]
    wrong = [f"'{each}', {_WORDS.get(each, 'see CoralBayLib.encoders.base')}" for each in wanted if not hasattr(encoder, each)]
    methods = [each for each in ("forward_features", "memory_bytes", "to") if hasattr(encoder, each)]
    wrong += [f"'{each}' as {_WORDS[each]}" for each in methods if not callable(getattr(encoder, each))]
    for each, kind in (("input", InputSpec), ("tiling", Tiling), ("weights_sha256", str)):
        if hasattr(encoder, each) and not isinstance(getattr(encoder, each), kind):
            wrong.append(f"'{each}' as {_WORDS[each]}")
    levels = getattr(encoder, "levels", None)
    if levels is not None:
        if not isinstance(levels, tuple) or not levels or not all(isinstance(level, LevelSpec) for level in levels):
            wrong.append(f"'levels' as {_WORDS['levels']}")
        elif len({level.name for level in levels}) != len(levels):
            wrong.append("levels with names of their own")
    if wrong:
        raise EncoderError(
            f"The encoder '{name}' ({type(encoder).__name__}) lacks {'; '.join(wrong)}. "
            "See CoralBayLib.encoders.base.Encoder, and Resources/Examples/my_encoder.py for one that works."
        )


def _run(path: Path, source: bytes, sha256: str, before: _Loaded) -> _Loaded:
    """Run a file, whose encoders replace those of an earlier version."""
    name = f"coralbay_encoder_file_{hashlib.sha256(bytes(path) + source).hexdigest()}"
    module = ModuleType(name)
    module.__file__ = str(path)
    # Dataclasses and pickles of the file look their module up here.
    sys.modules[name] = module
    try:
        with _registering(f"The encoder file '{path.name}'", path, before.names) as names:
            # Not by an import: compiled code beside the file may be that of an earlier version, and is not ours to leave.
            exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102 - what the user asked for
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return _Loaded(sha256, tuple(names), name)


@contextmanager
def _registering(what: str, path: Path | None = None, replaced: Sequence[str] = ()) -> Iterator[list[str]]:
    """Watch code that registers encoders: yields a list that holds their names at the end. When it fails, everything
    stays as it was."""
    kept = f"Its earlier version stays in use ({', '.join(replaced)})." if replaced else "No encoder of it is known."
    names: list[str] = []
    try:
        with registry.gathering(replaced) as entries:
            yield names
        names += entries
    except EncoderError as error:
        raise EncoderError(f"{what} could not be used: {error} {kept}") from error
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else (lines or [None])[-1]
        where = f" in line {line}" if line else ""
        raise EncoderError(f"{what} raised {type(error).__name__}{where}: {error}. {kept}") from error
    if not names:
        raise EncoderError(f"{what} registers no encoder; expected a function decorated with @register_encoder(card). {kept}")
