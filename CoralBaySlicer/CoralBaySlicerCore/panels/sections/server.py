"""Section of step 1: servers that embed scans for this computer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from CoralBaySlicerCore.panels.base import Panel
from CoralBaySlicerCore.setup import servers, settings
from CoralBaySlicerCore.setup.servers import Server

if TYPE_CHECKING:
    from CoralBayLib.core.progress import CancelToken
    from CoralBayLib.remote.embedder import ServerInfo
    from CoralBaySlicerCore.work.worker import TaskProgress

ADD = "add-server"
"""Data of the entry of the menu of devices that adds a server."""


class ServerSection:
    """The servers among the devices.

    Args:
        panel: of step 1.
        chosen: called when a server was remembered and chosen.
    """

    def __init__(self, panel: Panel, chosen: Callable[[], None]) -> None:
        self._panel, self._chosen = panel, chosen
        self._test_result = ""
        self._shown: str | None = None
        ui = panel.ui
        ui.testServerButton.connect("clicked(bool)", lambda *_: self.test())
        ui.forgetServerButton.connect("clicked(bool)", lambda *_: self.forget())

    def refresh(self, adding: bool) -> None:
        """Show the servers among the devices, and the fields of the chosen one.

        Args:
            adding: whether the user chose to add a server.
        """
        ui = self._panel.ui
        known = servers.remembered()
        entries = [*((each.device, _("Server {url}").format(url=each.url)) for each in known), (ADD, _("Add server..."))]
        selector = ui.deviceSelector
        first = selector.findData("cuda") + 1
        if [selector.itemData(i) for i in range(first, selector.count)] != [data for data, _title in entries]:
            while selector.count > first:
                selector.removeItem(first)
            for data, title in entries:
                selector.addItem(title, data)
        server = servers.of_device(settings.device())
        shown = ADD if adding else server.url if server else ""
        if shown != self._shown:
            self._shown, self._test_result = shown, self._test_result if not adding else ""
            ui.serverAddress.text = server.url if server and not adding else ""
            ui.serverToken.text = server.token if server and not adding else ""
            ui.serverCertificates.currentPath = server.certificates if server and not adding else ""
        ui.serverBox.visible = bool(shown)
        ui.forgetServerButton.visible = server is not None and not adding
        ui.testServerButton.enabled = self._panel.activity.task is None
        sentences = [self._test_result] if self._test_result else []
        if server is not None and not adding:
            sentences.append(
                _("You have agreed that scans are sent to this server.")
                if server.allowed
                else _("You will be asked before the first scan is sent to this server.")
            )
        ui.serverLabel.text = " ".join(sentences)
        ui.serverLabel.visible = bool(sentences)

    def test(self) -> None:
        """Connect to the server in the fields; if it answers, it is remembered and chosen."""
        ui = self._panel.ui
        url, token = str(ui.serverAddress.text).strip().rstrip("/"), str(ui.serverToken.text).strip()
        certificates = str(ui.serverCertificates.currentPath).strip()

        def connect(_progress: TaskProgress, cancel: CancelToken) -> ServerInfo:
            from CoralBayLib.remote.embedder import RemoteEmbedder

            return RemoteEmbedder(url, token or None, certificates=certificates or None).info(cancel)

        def done(info: ServerInfo) -> None:
            before = next((each for each in servers.remembered() if each.url == url), None)
            server = Server(url, token, before is not None and before.allowed, certificates)
            servers.remember(server)
            settings.set_device(server.device)
            names = ", ".join(dict.fromkeys(encoder.name for encoder in info.encoders))
            self._test_result = _("Connected: {device}, encoders {names}.").format(device=info.device, names=names)
            self._chosen()

        self._test_result = ""
        self._panel.run(
            _("The server cannot be used."),
            lambda: self._panel.logic.workTask(connect, _("Connecting to the server")),
            done,
        )

    def forget(self) -> None:
        """Remove the chosen server from the menu."""
        server = servers.of_device(settings.device())
        if server is not None:
            servers.forget(server.url)
            self._test_result = ""
            self._panel.refresh()
