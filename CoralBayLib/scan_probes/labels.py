"""The truth for some scans: classes, numbers or survival, with the patients that the scans are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CoralBayLib.core.deprecation import warn_renamed
from CoralBayLib.core.errors import ScansError

SAVED_TASKS = {"classification": "classify", "regression": "regress", "survival": "survive"}
"""For each task its name in files and saved scenes, which is also its deprecated name in the API."""
TASKS = tuple(SAVED_TASKS)


def current_task(name: str) -> str:
    """A task by its name in files or in the API.

    Raises:
        ScansError: the task is unknown.
    """
    for task, saved in SAVED_TASKS.items():
        if name in (task, saved):
            return task
    raise ScansError(f"There is no task '{name}'. Choose one of {', '.join(TASKS)}.")


def require_task(name: str) -> str:
    """A task by its name in the API; warns of a deprecated name."""
    task = current_task(name)
    if task != name:
        warn_renamed(f"The task '{name}'", f"'{task}'", stacklevel=3)
    return task


@dataclass(frozen=True, eq=False)
class Labels:
    """The truth for some scans.

    Attributes:
        task: one of `TASKS`.
        values: (N,) classification: the class names; regression: numbers; survival: whether the event was observed.
        patients: (N,) names; a split keeps all scans of a patient in one part.
        times: (N,) survival: time to the event, or to censoring when it was not observed; otherwise zeros.
        positive: the positive one of two classes, which metrics, curves and maps are of; "" for the last by name.

    Raises:
        ScansError: the task is unknown.
    """

    task: str
    values: NDArray
    patients: NDArray[np.str_]
    times: NDArray[np.float64]
    positive: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", require_task(self.task))

    @classmethod
    def of(cls, task: str, values: Sequence[Any], patients: Sequence[Any], times: Sequence[float] = ()) -> Labels:
        """Labels from sequences of any kind.

        Args:
            task: one of `TASKS`.
            values: (N,), converted to the type that the task needs.
            patients: (N,) names.
            times: (N,) for survival; otherwise they may be left out.

        Raises:
            ScansError: the task is unknown.
        """
        task = require_task(task)
        kind = {"classification": str, "regression": float, "survival": bool}[task]
        known_times = np.asarray(times, float) if len(times) else np.zeros(len(values))
        labels, names = np.array([kind(value) for value in values]), np.array([str(name) for name in patients])
        return cls(task, labels, names, known_times)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: NDArray) -> Labels:
        """The labels of some rows, given by number or by a mask."""
        return Labels(self.task, self.values[rows], self.patients[rows], self.times[rows], self.positive)

    def with_positive(self, name: str) -> Labels:
        """The same labels with another positive class; "" for the last by name.

        Raises:
            ScansError: there is no such class.
        """
        if name and (self.task != "classification" or name not in self.values):
            known = ", ".join(sorted({str(value) for value in self.values})) if self.task == "classification" else "none"
            raise ScansError(f"There is no class '{name}'. Classes: {known}.")
        return replace(self, positive=name)
