"""Dialogs and installs, recorded rather than shown or done.

A test says beforehand what the user answers, in order; where nothing is said, messages are accepted and choosing a
file is an error, since nobody is there to choose.
"""

import importlib.util
import inspect
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import slicer.util
from PySide6 import QtWidgets


@dataclass
class Dialog:
    """One dialog that a user would have seen."""

    kind: str
    text: str
    title: str = ""
    details: str = ""
    answer: Any = None


@dataclass
class Dialogs:
    """What was shown, what will be answered, and what pip was asked to do.

    Example::

        app.dialogs.answer(False)           # the next question is declined
        button.click()
        assert "Install" in app.dialogs.shown[-1].text
    """

    shown: list[Dialog] = field(default_factory=list)
    pip: list[tuple[str, Any, dict[str, Any]]] = field(default_factory=list)
    _answers: deque = field(default_factory=deque)

    def answer(self, *answers: Any) -> None:
        """Queue answers: a bool for a question, a path or text for a chooser, a button for a message box."""
        self._answers.extend(answers)

    def clear(self) -> None:
        self.shown.clear()
        self.pip.clear()
        self._answers.clear()

    def texts(self, kind: str = "") -> list[str]:
        """The texts shown, of one kind or of all."""
        return [dialog.text for dialog in self.shown if kind in ("", dialog.kind)]

    def _record(self, kind: str, text: str, title: str, details: str, default: Any) -> Any:
        if self._answers:
            default = self._answers.popleft()
        self.shown.append(Dialog(kind, text, title or "", details or "", default))
        return default

    def _choose(self, kind: str, title: str) -> Any:
        if not self._answers:
            raise AssertionError(f"{kind} '{title}' was opened and the test has no answer for it")
        return self._record(kind, title, title, "", None)

    def install(self) -> None:
        """Put the recorder in the place of slicer.util's and Qt's modal dialogs, and of pip."""
        for name, kind, level, default in (
            ("infoDisplay", "info", logging.INFO, None),
            ("warningDisplay", "warning", logging.WARNING, None),
            ("errorDisplay", "error", logging.ERROR, None),
            ("messageBox", "message", logging.INFO, QtWidgets.QMessageBox.StandardButton.Ok),
            ("confirmOkCancelDisplay", "confirm", logging.INFO, True),
            ("confirmYesNoDisplay", "confirm", logging.INFO, True),
            ("confirmRetryCloseDisplay", "confirm", logging.ERROR, False),
        ):
            setattr(slicer.util, name, self._display(kind, level, default))
        slicer.util.delayDisplay = self._delay
        # Slicer 5.11 and later have slicer.packaging; here only Slicer's real files do.
        packaging = importlib.import_module("slicer.packaging") if importlib.util.find_spec("slicer.packaging") else None
        for name in ("pip_install", "pip_uninstall"):
            recorder = self._pip(name, getattr(packaging, name, _pip_of_slicer_5_10))
            setattr(slicer.util, name, recorder)
            if packaging is not None:
                setattr(packaging, name, recorder)
        self._install_qt()

    def _display(self, kind: str, level: int, default: Any) -> Any:
        def display(text: str, windowTitle: str | None = None, parent: Any = None, **options: Any) -> Any:
            logging.log(level, text)
            return self._record(kind, text, windowTitle, options.get("detailedText", ""), default)

        return display

    def _delay(self, message: str, autoCloseMsec: int = 1000, parent: Any = None, **options: Any) -> None:
        logging.info(message)
        self._record("delay", message, "", "", None)
        slicer.app.processEvents()

    def _pip(self, name: str, real: Any) -> Any:
        signature = inspect.signature(real)

        def run(*arguments: Any, **options: Any) -> None:
            given = signature.bind(*arguments, **options).arguments
            self.pip.append((name, given.pop("requirements"), given))

        return run

    def _install_qt(self) -> None:
        box, buttons = QtWidgets.QMessageBox, QtWidgets.QMessageBox.StandardButton

        def execute(self_: Any) -> Any:
            accepted = next((b for b in (buttons.Ok, buttons.Yes) if b in self_.standardButtons), buttons.Ok)
            return self._record("message", self_.text, self_.windowTitle, self_.detailedText, accepted)

        def execute_dialog(self_: Any) -> Any:
            raise AssertionError(f"modal dialog '{self_.windowTitle}' would block here")

        def static(kind: str, default: Any) -> Any:
            def show(parent: Any, title: str, text: str, *arguments: Any) -> Any:
                return self._record(kind, text, title, "", default)

            return staticmethod(show)

        QtWidgets.QDialog.exec = QtWidgets.QDialog.exec_ = execute_dialog
        box.exec = box.exec_ = execute
        for name, kind, default in (
            ("information", "info", buttons.Ok),
            ("warning", "warning", buttons.Ok),
            ("critical", "error", buttons.Ok),
            ("question", "confirm", buttons.Yes),
        ):
            setattr(box, name, static(kind, default))
        for owner, names in (
            (QtWidgets.QFileDialog, ("getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory")),
            (QtWidgets.QInputDialog, ("getText", "getItem", "getInt", "getDouble")),
            (QtWidgets.QColorDialog, ("getColor",)),
        ):
            for name in names:
                setattr(owner, name, self._chooser(name))

    def _chooser(self, name: str) -> Any:
        def choose(*arguments: Any, **options: Any) -> Any:
            title = next((part for part in arguments if isinstance(part, str)), name)
            return self._choose(name, title)

        return staticmethod(choose)


def _pip_of_slicer_5_10(requirements: Any) -> None:
    """The signature before there were options."""
