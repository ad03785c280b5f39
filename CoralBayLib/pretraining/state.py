"""The folder with the state of a training, beside its weights: settings, prepared scans, check-point, curves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import Remedy, TrainingError
from CoralBayLib.core.paths import atomic_write

from .settings import Settings

SUFFIX = ".pretrain"
"""What follows the name of the weights, without its suffix, in the name of the folder."""


@dataclass(frozen=True)
class Plan:
    """What a training does: decided at its beginning, and kept.

    Attributes:
        settings: what determines the result, with `scans`.
        scans: keys of the prepared scans.
        left_out: number of scans that could not be used.
    """

    settings: Settings
    scans: tuple[str, ...]
    left_out: int = 0


class StateFolder:
    """The files of a training.

    Args:
        output: the weights file that the training writes.
    """

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(output.stem + SUFFIX)
        self.scans = self.path / "scans"
        self.checkpoint = self.path / "state.ckpt"
        self.curves = self.path / "curves.csv"
        self.tensorboard = self.path / "tensorboard"
        self._plan = self.path / "training.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and keep other trainings out of it.

        Raises:
            TrainingError: another training uses it, or it cannot be made.
        """
        from filelock import FileLock, Timeout

        try:
            self.scans.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / "lock", timeout=0)
            lock.acquire()
        except Timeout as error:
            raise TrainingError(
                f"Another training is running in {self.path}. Wait for it, or choose another output."
            ) from error
        except OSError as error:
            raise TrainingError(f"The folder {self.path} cannot be used ({error.strerror}). Choose another output.") from error
        try:
            yield
        finally:
            lock.release()
            if not self.has_plan and not self.checkpoint.exists() and not any(self.scans.glob("*")):
                shutil.rmtree(self.path, ignore_errors=True)  # nothing began

    @property
    def has_plan(self) -> bool:
        """Whether a training has begun here."""
        return self._plan.is_file()

    def require_fresh(self) -> None:
        """Refuse to begin a training on the state of another one, whose plan was deleted or moved away.

        Raises:
            TrainingError: there is a check-point.
        """
        if self.checkpoint.exists():
            raise TrainingError(
                f"{self.checkpoint} belongs to a training whose {self._plan.name} is missing, so it is not known how to go on. "
                "Put that file back, or choose another output.",
                remedy=Remedy.OVERWRITE,
            )

    def write_plan(self, plan: Plan) -> None:
        """Keep the plan."""
        content = {"settings": plan.settings.as_dict(), "scans": list(plan.scans), "left_out": plan.left_out}
        with atomic_write(self._plan) as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def read_plan(self) -> Plan:
        """The plan of the training that has begun here.

        Raises:
            TrainingError: it is damaged.
        """
        try:
            content = json.loads(self._plan.read_text(encoding="utf-8"))
            settings, scans = content["settings"], tuple(str(key) for key in content["scans"])
            return Plan(Settings.from_dict(settings), scans, int(content["left_out"]))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, TrainingError):
                raise
            raise TrainingError(f"{self._plan} is damaged. The training cannot go on.", remedy=Remedy.OVERWRITE) from error

    def plan_to_continue(self, settings: Settings) -> Plan:
        """The plan, if the training began with these settings.

        Raises:
            TrainingError: it began with others, which are named, or the plan is damaged.
        """
        plan = self.read_plan()
        before, now = plan.settings.as_dict(), settings.as_dict()
        differing = [f"{name} {_text(before[name])} (now {_text(now[name])})" for name in now if before[name] != now[name]]
        if differing:
            raise TrainingError(
                f"The training in {self.path} began with other settings: {', '.join(differing)}. Use the same settings to go "
                "on.",
                remedy=Remedy.OVERWRITE,
            )
        return plan

    def clear(self) -> None:
        """Delete the state, except scans that are prepared already."""
        for path in (self._plan, self.checkpoint, self.curves):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.tensorboard, ignore_errors=True)

    def require_scans(self, keys: Sequence[str]) -> None:
        """Refuse to go on without the prepared scans.

        Raises:
            TrainingError: some are missing.
        """
        missing = [key for key in keys if not (self.scans / f"{key}.npy").is_file()]
        if missing:
            raise TrainingError(
                f"{len(missing)} of {len(keys)} prepared scans are missing in {self.scans}, so the training cannot go on. Put "
                "the files back if you moved them.",
                remedy=Remedy.OVERWRITE,
            )


def damaged_state(checkpoint: Path) -> TrainingError:
    """The error for a state that cannot be read."""
    return TrainingError(f"The state in {checkpoint} is damaged. The training cannot go on.", remedy=Remedy.OVERWRITE)


def _text(value: Any) -> str:
    if value is None:
        return "default"
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)
