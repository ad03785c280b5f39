"""Base class of the panels: the .ui file, the parameters, starting tasks and showing errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import ctk
import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.encoders.cards import shipped_card
from CoralBayLib.encoders.weights import FALLBACK
from CoralBaySlicerCore.scene.parameters import CoralBaySlicerParameters, choose_encoder
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from CoralBaySlicerCore.work.remedies import show_error
from CoralBaySlicerCore.work.worker import Task

from .activity import Activity

_Result = TypeVar("_Result")

_UI = Path(__file__).resolve().parents[2] / "Resources" / "UI"


class Panel:
    """One step of the module's panel.

    A subclass gives its `name` and its .ui file, connects its widgets in `setup`, and shows its state in `refresh`. To add
    a panel, write its file and its .ui file and list it in `module_panel.PANELS`.

    Args:
        logic: of the module.
        activity: shows running tasks.
    """

    name = ""
    ui_file = ""

    def __init__(self, logic: CoralBaySlicerLogic, activity: Activity) -> None:
        self.logic = logic
        self.activity = activity
        self._parameters: CoralBaySlicerParameters | None = None
        self._gui_tag: int | None = None
        self._deferred: list[Callable[[], object]] = []
        self.root = slicer.util.loadUI(str(_UI / self.ui_file))
        self.ui = slicer.util.childWidgetVariables(self.root)
        self.root.setMRMLScene(slicer.mrmlScene)
        self.setup()

    def setup(self) -> None:
        """Connect the widgets. Called once."""

    def refresh(self) -> None:
        """Show the current state. Called whenever parameters or features have changed."""

    def shortcuts(self) -> dict[str, Callable[[], object]]:
        """Actions by key sequence, active while the module is shown."""
        return {}

    def view_shortcuts(self) -> dict[str, Callable[[], object]]:
        """Actions by key sequence, active while the module is shown and a view has the keyboard focus."""
        return {}

    def enter(self) -> None:
        """Called when the user enters the module: run deferred actions."""
        later, self._deferred = self._deferred, []
        for action in later:
            action()

    def exit(self) -> None:
        """Called when the user leaves the module."""

    def forget(self) -> None:
        """Called when the scene closes: drop all state of the scene."""
        self._deferred = []

    def close(self) -> None:
        """Called when the module is unloaded."""

    def set_parameters(self, parameters: CoralBaySlicerParameters | None) -> None:
        """Connect to the parameters of the scene; None to disconnect."""
        if self._parameters is not None and self._gui_tag is not None:
            self._parameters.disconnectGui(self._gui_tag)
        self._parameters, self._gui_tag = parameters, None
        if parameters is not None:
            self._gui_tag = parameters.connectGui(self.ui)

    @property
    def header(self) -> ctk.ctkCollapsibleButton:
        """The button that collapses the step."""
        name = self.ui_file.removesuffix(".ui")
        return getattr(self.ui, f"{name[0].lower()}{name[1:]}Button")

    @property
    def is_shown(self) -> bool:
        """Whether the module is shown, so that the panel is connected to the parameters of the scene."""
        return self._parameters is not None

    @property
    def parameters(self) -> CoralBaySlicerParameters:
        """The parameters of the scene.

        Raises:
            RuntimeError: another module is shown.
        """
        if self._parameters is None:
            raise RuntimeError(_("CoralBay is not the module that is shown."))
        return self._parameters

    @property
    def volume(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The current scan, or None."""
        return self._parameters.volume if self._parameters is not None else None

    def when_visible(self, action: Callable[[], object]) -> None:
        """Run an action on the views now or, while another module is shown, when the user comes back."""
        if self.is_shown:
            action()
        else:
            self._deferred.append(action)

    def run(
        self,
        failure: str,
        start: Callable[[], Task | None],
        done: Callable[[Any], None] | None = None,
        allow_fallback: bool = False,
        on_error: Callable[[Exception], bool] | None = None,
    ) -> None:
        """Start a task, show its progress, and show an error message if it fails.

        The user may have left the module when the task ends; there are no parameters then. So `done` uses parameters
        that were read before the start, and `when_visible`.

        Args:
            failure: first line of the error message.
            start: creates and starts the task; may raise.
            done: called with the result.
            allow_fallback: whether to offer a restart with the encoder that needs no download, if weights are missing.
            on_error: called with the error, also with `Cancelled`; returns whether it was handled.
        """

        def handled(error: Exception) -> bool:
            if on_error is not None and on_error(error):
                return True
            return allow_fallback and self._fall_back(failure, error, lambda: self.run(failure, start, done, on_error=on_error))

        try:
            task = start()
        except Exception as error:  # shown to the user
            show_error(failure, error)
            return
        if task is not None:
            self.activity.follow(task, failure, done, handled, self.ui.progressSlot)

    def attempt(self, failure: str, action: Callable[[], _Result]) -> _Result | None:
        """Run a short action. Returns its result, or shows an error message and returns None."""
        try:
            return action()
        except Exception as error:  # shown to the user
            show_error(failure, error)
            return None

    def _fall_back(self, failure: str, error: Exception, again: Callable[[], None]) -> bool:
        """Offer to continue with the encoder that needs no download; returns whether the user was asked."""
        if not isinstance(error, WeightsError) or not self.is_shown or self.parameters.encoder == FALLBACK:
            return False
        here = shipped_card(FALLBACK).title
        question = _(
            "The weights of the chosen encoder are not on this computer, or cannot be used.\n\nContinue with {here}, which is "
            "included in CoralBay and needs no download? To use the chosen encoder instead, press Cancel, then allow the "
            "download, or choose a weights file or import weights under Advanced in step 1."
        ).format(here=here)
        title = _("CoralBay: continue with {here}").format(here=here)
        if slicer.util.confirmOkCancelDisplay(f"{failure}\n\n{question}", title, detailedText=str(error)):
            choose_encoder(self.parameters, FALLBACK)
            again()
        return True


def chosen_path(answer: str | tuple[str, str] | None) -> str:
    """The path chosen in a file dialog: PythonQt returns a string, other bindings a pair of path and filter."""
    return str(answer[0] if isinstance(answer, tuple) else answer or "")
