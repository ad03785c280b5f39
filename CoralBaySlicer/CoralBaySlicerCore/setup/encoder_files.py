"""The encoder files that the user has agreed to run, kept in the application's settings.

A file is a program with all rights of the user, so the user is asked before it runs for the first time, and again when its
content has changed. Its encoders then stay in the menu; the file is run again when one of them is first used.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from CoralBayLib.encoders.cards import EncoderCard

from . import settings

_KEY = "CoralBaySlicer/EncoderFiles"


@dataclass(frozen=True)
class EncoderFile:
    """One encoder that a file registers.

    Attributes:
        path: the file.
        sha256: of its content when the user agreed.
        name, title, summary: from the encoder's card.
    """

    path: str
    sha256: str
    name: str
    title: str
    summary: str

    @property
    def card(self) -> EncoderCard:
        """The card for the menu; says so when the file is missing."""
        missing = self.missing()
        title = _("{title} (file missing)").format(title=self.title) if missing else self.title
        return EncoderCard(self.name, title, missing or self.summary)

    def missing(self) -> str:
        """A message that says what to do when the file does not exist; "" when it exists."""
        if Path(self.path).is_file():
            return ""
        return _(
            "The file of the encoder '{title}' is missing: {path}. Put it back, or remove the encoder from the menu with "
            "Advanced > Remove encoder from menu."
        ).format(title=self.title, path=self.path)


def remembered() -> list[EncoderFile]:
    """The encoders of all files that the user agreed to run."""
    try:
        return [EncoderFile(**each) for each in json.loads(settings.read(_KEY) or "[]")]
    except (ValueError, TypeError):
        return []


def file_of(encoder: str) -> EncoderFile | None:
    """The file from which an encoder comes, or None."""
    return next((each for each in remembered() if each.name == encoder), None)


def remember(found: list[EncoderFile]) -> None:
    """Save the encoders of a file; they replace the earlier encoders of the same file."""
    paths = {each.path for each in found}
    _write([each for each in remembered() if each.path not in paths] + found)


def forget(path: str) -> list[str]:
    """Remove a file from the settings; returns the names of its encoders."""
    known = remembered()
    _write([each for each in known if each.path != path])
    return [each.name for each in known if each.path == path]


def ask_to_run(path: str) -> bool:
    """Ask the user whether a file may be run."""
    return bool(
        slicer.util.confirmOkCancelDisplay(
            _(
                "Run '{name}'?\n\n{path}\n\nAn encoder file is a program: it can read, change and send any data that you can. "
                "Continue only if you trust its source. It will be run again whenever its encoder is used, as long as its "
                "content stays the same."
            ).format(name=Path(path).name, path=path),
            _("CoralBay: add encoder from file"),
        )
    )


def read(path: str) -> list[EncoderFile]:
    """Run a file and return the encoders that it registers; on the worker, and only after the user has agreed.

    Raises:
        EncoderError: the file cannot be used.
    """
    from CoralBayLib.encoders import encoder_card, encoder_file_sha256, load_encoder_file

    names = load_encoder_file(path)
    cards = [encoder_card(name) for name in names]
    sha256 = encoder_file_sha256(path)
    return [EncoderFile(str(path), sha256, card.name, card.title, card.summary) for card in cards]


def load(file: EncoderFile) -> None:
    """Run a file that the user agreed to run, unless it has been run already; on the worker.

    Raises:
        EncoderError: the file is missing, has changed since the user agreed, or cannot be used.
    """
    from CoralBayLib.core.errors import EncoderError
    from CoralBayLib.encoders import load_encoder_file

    if missing := file.missing():
        raise EncoderError(missing)
    load_encoder_file(file.path, file.sha256)


def unload(path: str) -> None:
    """Unregister the encoders of a file from the library; on the worker."""
    from CoralBayLib.encoders import unload_encoder_file

    unload_encoder_file(path)


def _write(files: list[EncoderFile]) -> None:
    settings.write(_KEY, json.dumps([asdict(each) for each in files]))
