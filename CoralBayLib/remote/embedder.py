"""A server that embeds scans, as the Python API sees it. Imports no torch until scans are embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from CoralBayLib.core.errors import EncoderError, Remedy
from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.core.schemas import SERVER_OFFER
from CoralBayLib.imaging.grid import Volume

from .connection import Connection
from .encoder import RemoteEncoder
from .job import unclear_answer
from .wire import versions

if TYPE_CHECKING:
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.features.store import Store

_DEFAULT = "coralbay"
"""The encoder that "auto" stands for where the server has it; else it is the first one of the server."""


@dataclass(frozen=True)
class ServerInfo:
    """What a server says of itself.

    Attributes:
        coralbay: its version of CoralBay.
        device: what it computes on.
        encoders: what it can embed with.
    """

    coralbay: str
    device: str
    encoders: tuple[RemoteEncoder, ...]


class RemoteEmbedder:
    """Embeds scans on a server that `coralbay serve` runs.

    Only the voxels of a scan, its geometry and a hash of both are sent, and no name, header, path or date. The pyramids are
    those that `embed` makes on this computer with the same encoder, and have the same key in the store.

    Args:
        url: address of the server, such as "https://gpu.example.org"; http is allowed for this computer only.
        token: the server's token; not needed for a server on this computer that has none.
        certificates: file with certificate authorities (PEM) to trust in place of the usual ones.
        patience_s: how long a server that does not answer any more, or has no free place, is tried, in seconds.

    Raises:
        ServerError: the address cannot be used.

    Example::

        server = RemoteEmbedder("https://gpu.example.org", token)
        pyramid = server.embed(read_volume("ct.nrrd"), store=Store())
        encoder = server.encoder("coralbay")       # goes wherever an encoder goes
        Library("scans").add("/data/scans", encoder, store=Store())
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        certificates: str | None = None,
        patience_s: float = 60.0,
    ) -> None:
        self._connection = Connection(url, token, certificates, patience_s)

    @property
    def url(self) -> str:
        """Address of the server."""
        return self._connection.url

    def info(self, cancel: CancelToken | None = None) -> ServerInfo:
        """Ask the server what it offers; this also tests the connection, the token and the versions.

        Raises:
            ServerError: the server cannot be reached or used; says why.
            Cancelled: `cancel` was called.
        """
        connection = self._connection
        answer = connection.call("GET", "/encoders", cancel=cancel)
        content = answer.json()
        if answer.status != 200 or not isinstance(content.get("versions"), dict):
            raise unclear_answer(connection, answer.status)
        if content["versions"] != versions():
            raise connection.error(
                f"The server {connection.host} has CoralBay {_shown(content.get('coralbay'))} and computes other features than "
                "this computer.",
                Remedy.MATCH_VERSIONS,
            )
        try:
            SERVER_OFFER.check_header(content)
            encoders = tuple(RemoteEncoder(connection, each) for each in content["encoders"])
        except ValueError as error:
            raise unclear_answer(connection) from error
        return ServerInfo(content["coralbay"], content["device"], encoders)

    def encoder(self, name: str = "auto", setting: str | None = None, cancel: CancelToken | None = None) -> RemoteEncoder:
        """An encoder of the server, to be used in place of one from `load_encoder`.

        Args:
            name: of the encoder; "auto" for CoralBay, or the server's first one where it does not have that.
            setting: inference mode; by default the encoder's first.
            cancel: checked several times a second.

        Raises:
            EncoderError: the server has no such encoder.
            ServerError: the server cannot be reached or used.
            Cancelled: `cancel` was called.
        """
        offered = self.info(cancel).encoders
        if not offered:
            raise EncoderError(f"The server {self._connection.host} has no encoder.")
        if name == "auto":
            name = _DEFAULT if any(each.name == _DEFAULT for each in offered) else offered[0].name
        for each in offered:
            if each.name == name and setting in (None, each.setting):
                return each
        known = ", ".join(dict.fromkeys(f"{each.name} ({each.setting})" if each.setting else each.name for each in offered))
        title = f"{name} ({setting})" if setting else name
        raise EncoderError(
            f"The server {self._connection.host} has no encoder {title}. It has {known}.",
            remedy=Remedy.CHOOSE_ENCODER,
            encoder=name,
        )

    def embed(
        self,
        volume: Volume,
        encoder: str | RemoteEncoder = "auto",
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        *,
        store: Store | None = None,
        levels: Sequence[str] | None = None,
        assume_hu: bool = False,
    ) -> FeaturePyramid:
        """Embed a CT on the server; arguments, result and errors are those of `features.embedding.embed`.

        The features are rounded as those in the store are, also without one.

        Raises:
            ServerError: the server could not be reached, refused the work, or did not finish it.
        """
        from CoralBayLib.features.embedding import embed

        chosen = self.encoder(encoder, cancel=cancel) if isinstance(encoder, str) else encoder
        return embed(volume, chosen, progress, cancel, store=store, levels=levels, assume_hu=assume_hu)


def _shown(version: object) -> str:
    """A version of CoralBay, which a server of another version may tell in another way."""
    return version if isinstance(version, str) and version.isprintable() and len(version) < 40 else "of another version"
