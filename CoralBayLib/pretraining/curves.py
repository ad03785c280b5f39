"""The curves of a training: a CSV file, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from CoralBayLib.core.paths import atomic_write

COLUMNS = ("step", "loss", "entropy", "spread", "used", "lr", "weight_decay", "momentum", "temperature", "gradient")
"""Columns of the CSV file."""


class Curves:
    """Writes one row for each step. Rows after the step from which a training goes on are removed first.

    Args:
        path: of the CSV file.
        done: number of steps that are done.
        tensorboard: folder for TensorBoard; nothing is written there when it is not installed.
    """

    def __init__(self, path: Path, done: int, tensorboard: Path) -> None:
        _keep(path, done)
        # A row is written at once, so that curves can be watched.
        self._file = path.open("a", buffering=1, newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._board = SummaryWriter(str(tensorboard), purge_step=done + 1)

    def add(self, values: dict[str, float]) -> None:
        """Write the values of one step, by column."""
        self._rows.writerow([int(values["step"]), *(f"{values[name]:.6g}" for name in COLUMNS[1:])])
        if self._board is not None:
            for name in COLUMNS[1:]:
                self._board.add_scalar(name, values[name], int(values["step"]))

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _keep(path: Path, done: int) -> None:
    """Keep the rows of the first `done` steps; an interrupted last row is dropped."""
    rows: list[list[str]] = []
    if path.is_file():
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.reader(file):
                if len(row) == len(COLUMNS) and row[0].isdigit() and int(row[0]) <= done:
                    rows.append(row)
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
