"""Weights that are never downloaded: a file of the user's, given or named in the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError
from .weights import Consent, FoundWeights


@dataclass(frozen=True)
class LocalWeights:
    """A weights file that the user has to get.

    Attributes:
        encoder: name of the encoder.
        filename: looked for where a folder is given.
        env: environment variable that may name a file or folder.
        how: a sentence that tells how to get it.
    """

    encoder: str
    filename: str
    env: str
    how: str

    def find(self, path: str | Path | None = None, consent: Consent = None) -> FoundWeights:
        """The file given as `path` or named in the environment; `consent` is of no use here.

        Raises:
            WeightsError: none is named, or what is named is not there.
        """
        given = path if path is not None else os.environ.get(self.env)
        if not given:
            raise WeightsError(
                f"No weights for '{self.encoder}': none were given and {self.env} is not set. {self.how} Then pass the file "
                f"as weights= or name it in {self.env}."
            )
        file = Path(given).expanduser()
        if file.is_dir():
            file = file / self.filename
        if not file.is_file():
            by = "weights=" if path is not None else self.env
            raise WeightsError(f"{by} names '{given}', but there is no file '{file.name}'. {self.how}")
        return FoundWeights(file, f"local file {file.name}" + ("" if path is not None else f" by {self.env}"))
