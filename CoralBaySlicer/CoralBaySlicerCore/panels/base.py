"""What the panels share: their .ui file, the parameters, and how they start work and show errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.encoders.cards import shipped_card
from CoralBayLib.encoders.weights import FALLBACK
from CoralBaySlicerCore.scene.parameters import CoralBaySlicerParameters, choose_encoder
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from CoralBaySlicerCore.work.worker import Task, show_error

from .activity import Activity

_UI = Path(__file__).resolve().parents[2] / "Resources" / "UI"


class Panel:
    """A workflow's part of the module's panel.

    A subclass gives its `name` and its .ui file, connects its widgets in `setup`, and shows its state in `refresh`. To add
    a panel, write its file and its .ui file and list it in `module_panel.PANELS`.

    Args:
        logic: the verbs.
        activity: where running work is shown.
    """

    name = ""
    ui_file = ""

    def __init__(self, logic: CoralBaySlicerLogic, activity: Activity) -> None:
        self.logic = logic
        self.activity = activity
        self.parameters: CoralBaySlicerParameters | None = None
        self._gui_tag: int | None = None
        self._later: list[Callable[[], Any]] = []
        self.root = slicer.util.loadUI(str(_UI / self.ui_file))
        self.ui = slicer.util.childWidgetVariables(self.root)
        self.root.setMRMLScene(slicer.mrmlScene)
        self.setup()

    def setup(self) -> None:
        """Connect the widgets; called once."""

    def refresh(self) -> None:
        """Show the state as it is; called whenever parameters or features changed."""

    def shortcuts(self) -> dict[str, Callable[[], Any]]:
        """What keys do while the module is shown, by key sequence."""
        return {}

    def enter(self) -> None:
        """The user has come to the module: what had to wait for that is done."""
        later, self._later = self._later, []
        for action in later:
            action()

    def exit(self) -> None:
        """The user is about to leave the module."""

    def forget(self) -> None:
        """The scene closes."""
        self._later = []

    def close(self) -> None:
        """The module goes."""

    def set_parameters(self, parameters: CoralBaySlicerParameters | None) -> None:
        """Connect to the parameters of the scene; None while it has none."""
        if self.parameters is not None and self._gui_tag is not None:
            self.parameters.disconnectGui(self._gui_tag)
        self.parameters, self._gui_tag = parameters, None
        if parameters is not None:
            self._gui_tag = parameters.connectGui(self.ui)

    @property
    def volume(self) -> Any:
        """The scan at work, or None."""
        return self.parameters.volume if self.parameters is not None else None

    def when_visible(self, action: Callable[[], Any]) -> None:
        """Do something to the views now, or once the user has come back: another module has them meanwhile."""
        if self.parameters is not None:
            action()
        else:
            self._later.append(action)

    def run(
        self,
        failure: str,
        start: Callable[[], Task | None],
        done: Callable[[Any], None] | None = None,
        allow_fallback: bool = False,
        on_error: Callable[[Exception], bool] | None = None,
    ) -> None:
        """Start a task, show its progress, and its error in words.

        The user may have left the module by the time it is done, and there are no parameters then: `done` uses those
        that were taken beforehand, and `when_visible`.

        Args:
            failure: the first line of the message, should it fail.
            start: makes and starts the task; may raise.
            done: called with the result.
            allow_fallback: whether it may be started anew with another encoder, should this one's weights not be had.
            on_error: called with the error, `Cancelled` included; whether all has been said about it.
        """

        def told(error: Exception) -> bool:
            if on_error is not None and on_error(error):
                return True
            return allow_fallback and self._fall_back(failure, error, lambda: self.run(failure, start, done, on_error=on_error))

        try:
            task = start()
        except Exception as error:  # shown to the user in words
            show_error(failure, error)
            return
        if task is not None:
            self.activity.follow(task, failure, done, told)

    def attempt(self, failure: str, action: Callable[[], Any]) -> Any:
        """Do something short; show its error in words. Returns its result, or None when it failed."""
        try:
            return action()
        except Exception as error:  # shown to the user in words
            show_error(failure, error)
            return None

    def _fall_back(self, failure: str, error: Exception, again: Callable[[], None]) -> bool:
        """Offer to go on with the encoder that needs no download; whether the user was asked."""
        if not isinstance(error, WeightsError) or self.parameters is None or self.parameters.encoder == FALLBACK:
            return False
        here = shipped_card(FALLBACK).title
        question = _(
            "The weights of the chosen encoder are not on this computer, or cannot be used.\n\nGo on with {here}, which "
            "comes with CoralBay and needs no download? To use the chosen one, allow the download, or choose a weights "
            "file or import weights under Advanced in step 1."
        ).format(here=here)
        title = _("CoralBay: go on with {here}").format(here=here)
        if slicer.util.confirmOkCancelDisplay(f"{failure}\n\n{question}", title, detailedText=str(error)):
            choose_encoder(self.parameters, FALLBACK)
            again()
        return True


def chosen_path(answer: Any) -> str:
    """The path a file dialog gave: PythonQt gives a string, other bindings a pair with the filter."""
    return str(answer[0] if isinstance(answer, tuple) else answer or "")
