"""Results of an evaluation in a file of JSON lines, one for each probe and test patient, so that it can be continued."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from CoralBayLib.core import schemas
from CoralBayLib.core.errors import StoreError
from CoralBayLib.core.paths import atomic_write, error_message

from .agreement import Agreement


@dataclass(frozen=True)
class Result:
    """What one probe reached in one patient.

    Attributes:
        key: hash of everything that it depends on: encoder, scans, labels, structures and method.
        encoder: its name.
        shots: number of labeled patients.
        draw: number of the draw, from 1.
        train: names of the patients that the probe was learned from.
        patient: name of the patient that it was tested on.
        scores: by structure; only structures that were looked for in this patient and labeled in one of `train`.
        seconds: how long the segmentation took, without learning.
    """

    key: str
    encoder: str
    shots: int
    draw: int
    train: tuple[str, ...]
    patient: str
    scores: dict[str, Agreement]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self) | {"train": list(self.train)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Result:
        """A result from what `to_dict` gave.

        Raises:
            ValueError: a score is out of range; values that `to_dict` never gives raise other exceptions, too.
        """
        scores = {}
        for name, given in values["scores"].items():
            score = Agreement(**given)
            limits = ((score.dice, 1.0), (score.mean_mm, math.inf), (score.p95_mm, math.inf))
            if not all(value is None or (schemas.number(value) and 0 <= value <= most) for value, most in limits):
                raise ValueError(f"no score: {given}")
            if type(score.found) is not bool or type(score.present) is not bool:
                raise ValueError(f"no score: {given}")
            scores[str(name)] = score
        train = tuple(map(str, values["train"]))
        texts = [str(values[name]) for name in ("key", "encoder", "patient")]
        return cls(
            texts[0], texts[1], int(values["shots"]), int(values["draw"]), train, texts[2], scores, float(values["seconds"])
        )


class ResultFile:
    """A file of results that grows. Lines that are damaged, such as the last one after a loss of power, are left out.

    Args:
        path: of the file, which need not exist.

    Raises:
        StoreError: the file cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._known: dict[str, Result] = {}
        damaged = False
        for result in self._read():
            if result is None:
                damaged = True
            else:
                self._known[result.key] = result
        if damaged:
            with atomic_write(self.path) as temporary:
                temporary.write_text("".join(map(_line, self._known.values())), encoding="utf-8")

    def get(self, key: str) -> Result | None:
        """The result of a key, if it is known."""
        return self._known.get(key)

    def add(self, result: Result) -> None:
        """Append a result; it is in the file when this returns.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(result))
                file.flush()
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error_message(error)}. Earlier results are kept.") from error
        self._known[result.key] = result

    def _read(self) -> Iterator[Result | None]:
        """The results; None for each line that is none."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error_message(error)}.") from error
        for line in text.splitlines():
            try:
                yield Result.from_dict(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                yield None
        if text and not text.endswith("\n"):
            yield None  # a further line would be written behind the last one


def _line(result: Result) -> str:
    return json.dumps(result.to_dict(), ensure_ascii=False) + "\n"
