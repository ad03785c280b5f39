"""Encoders of users: from a Python file or an installed package.

A package declares a module as an entry point of the group `coralbay.encoders`; importing that module registers its
encoders. `Resources/Examples/my_encoder.py` is a working example.
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
from .base import Encoder, EncoderProperties, InputSpec, LevelSpec, Tiling

GROUP = "coralbay.encoders"

_MEMBERS = {
    "name": "the name under which it is registered",
    "title": "a title for menus",
    "input": "an InputSpec: voxel spacing, HU window, and of what the sides must be multiples",
    "levels": "a tuple of LevelSpec, one for each feature map",
    "scan_token": "None, or the name of the vector that forward_features gives for the whole scan",
    "tiling": "a Tiling: the windows on which it is run, or the whole volume",
    "weights_sha256": "a text that identifies its weights, so that stored features are found again",
    "weights_source": "a text that says where its weights come from",
    "device": "the torch device on which it runs",
    "network": "the torch module",
    "forward_features": "a method (x, names) that returns a feature map for each name",
    "memory_bytes": "a method (window, names) that returns the bytes it needs",
    "to": "a method (device) that moves it to a device",
}


@dataclass(frozen=True)
class _LoadedFile:
    """A file that was run: the SHA-256 of its content, the names it registered, and the name of its module."""

    sha256: str = ""
    names: tuple[str, ...] = ()
    module: str = ""


_files: dict[Path, _LoadedFile] = {}
_files_lock = threading.RLock()
_entry_points_lock = threading.RLock()
_entry_points_loaded = False


def load_encoder_file(path: str | Path, sha256: str | None = None) -> list[str]:
    """Run a Python file that registers one or more encoders.

    The file is a program with all rights of its user: run only files that you trust. A file that was loaded before is run
    again only if its content has changed; its encoders then replace the earlier ones. If the changed file fails, the
    earlier ones stay.

    Args:
        path: the file.
        sha256: of the content that the user agreed to run; None runs any. The file is read once, so that the content that
            is compared is the one that is run.

    Returns:
        The names of the encoders that it registered.

    Raises:
        EncoderError: the file does not exist, has another content, raises, registers nothing, or uses a name that is in
            use.
    """
    # First, so that the names of installed packages are in use already.
    load_entry_points()
    path = Path(path).expanduser().resolve()
    with _files_lock:
        try:
            source = path.read_bytes()
        except FileNotFoundError as error:
            what_to_do = "Name a Python file that calls register_encoder."
            raise EncoderError(f"There is no encoder file '{path}'. {what_to_do}") from error
        except OSError as error:
            raise EncoderError(f"The encoder file '{path.name}' cannot be read: {error_message(error)}.") from error
        if path.suffix.lower() != ".py":
            raise EncoderError(f"'{path.name}' is not a Python file; expected a name that ends with .py.")
        content = hashlib.sha256(source).hexdigest()
        if sha256 not in (None, content):
            raise EncoderError(
                f"The encoder file '{path.name}' has changed since you agreed to run it. Add it again to use it."
            )
        before = _files.get(path, _LoadedFile())
        if before.sha256 != content:
            _files[path] = _run(path, source, content, before)
            sys.modules.pop(before.module, None)
        return list(_files[path].names)


def encoder_file_sha256(path: str | Path) -> str:
    """The SHA-256 of the content of a file as it was run, whatever the file holds by now; "" when it was not run."""
    with _files_lock:
        return _files.get(Path(path).expanduser().resolve(), _LoadedFile()).sha256


def unload_encoder_file(path: str | Path) -> list[str]:
    """Unregister the encoders of a file. The file is not touched and need not exist any more.

    Encoders that are loaded continue to work.

    Args:
        path: the file.

    Returns:
        The names of the encoders that were unregistered; empty when the file was not loaded.
    """
    with _files_lock:
        loaded = _files.pop(Path(path).expanduser().resolve(), _LoadedFile())
        for name in loaded.names:
            registry.unregister(name)
        sys.modules.pop(loaded.module, None)
        return list(loaded.names)


def load_entry_points() -> None:
    """Import the modules that installed packages declare in the group `coralbay.encoders`, once in this process.

    A module that fails causes a warning; the others are used.
    """
    global _entry_points_loaded
    with _entry_points_lock:
        if _entry_points_loaded:
            return
        # Set first, since a module may ask for the known encoders while it is imported.
        _entry_points_loaded = True
        for point in metadata.entry_points(group=GROUP):
            try:
                with _registering(f"The encoder package '{point.name}' ({point.value})"):
                    point.load()
            except EncoderError as error:
                warnings.warn(f"{error} The other encoders work.", stacklevel=2)


def check_encoder(encoder: Any, name: str) -> None:
    """Check that an object has all members of `Encoder`.

    Args:
        encoder: the object.
        name: the name under which it is registered, for the error message.

    Raises:
        EncoderError: members are missing or of another type; the message explains each of them.
    """
    classes = (EncoderProperties, Encoder)
    members = [each for own in classes for each in own.__annotations__]
    members += [each for own in classes for each in vars(own) if not each.startswith("_")]
    wrong = [
        f"'{each}', {_MEMBERS.get(each, 'see CoralBayLib.encoders.base')}" for each in members if not hasattr(encoder, each)
    ]
    methods = [each for each in ("forward_features", "memory_bytes", "to") if hasattr(encoder, each)]
    wrong += [f"'{each}' as {_MEMBERS[each]}" for each in methods if not callable(getattr(encoder, each))]
    for each, kind in (("input", InputSpec), ("tiling", Tiling), ("weights_sha256", str)):
        if hasattr(encoder, each) and not isinstance(getattr(encoder, each), kind):
            wrong.append(f"'{each}' as {_MEMBERS[each]}")
    levels = getattr(encoder, "levels", None)
    if levels is not None:
        if not isinstance(levels, tuple) or not levels or not all(isinstance(level, LevelSpec) for level in levels):
            wrong.append(f"'levels' as {_MEMBERS['levels']}")
        elif len({level.name for level in levels}) != len(levels):
            wrong.append("levels with unique names")
    if wrong:
        raise EncoderError(
            f"The encoder '{name}' ({type(encoder).__name__}) lacks {'; '.join(wrong)}. "
            "See CoralBayLib.encoders.base.Encoder, and the working example Resources/Examples/my_encoder.py."
        )


def _run(path: Path, source: bytes, sha256: str, before: _LoadedFile) -> _LoadedFile:
    """Run a file; its encoders replace those of the earlier version `before`."""
    name = f"coralbay_encoder_file_{hashlib.sha256(bytes(path) + source).hexdigest()}"
    module = ModuleType(name)
    module.__file__ = str(path)
    # Dataclasses and pickles of the file look up their module here.
    sys.modules[name] = module
    try:
        with _registering(f"The encoder file '{path.name}'", path, before.names) as names:
            # Not imported: Python could use bytecode of an earlier version beside the file, and would write new bytecode.
            exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102 - the user asked for it
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return _LoadedFile(sha256, tuple(names), name)


@contextmanager
def _registering(what: str, path: Path | None = None, replaced: Sequence[str] = ()) -> Iterator[list[str]]:
    """Collect the names that the block registers, in a list that is complete at the end of the block.

    When the block fails, the registry stays as it was, and the error names the line.
    """
    consequence = f"Its earlier version stays in use ({', '.join(replaced)})." if replaced else "It adds no encoder."
    names: list[str] = []
    try:
        with registry.staged_registration(replaced) as staged:
            yield names
        names += staged
    except EncoderError as error:
        raise EncoderError(f"{what} could not be used: {error} {consequence}") from error
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else (lines or [None])[-1]
        where = f" in line {line}" if line else ""
        raise EncoderError(f"{what} raised {type(error).__name__}{where}: {error}. {consequence}") from error
    if not names:
        raise EncoderError(
            f"{what} registers no encoder; expected a function decorated with @register_encoder(card). {consequence}"
        )
