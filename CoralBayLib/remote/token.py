"""Where a server and its clients find the token."""

from __future__ import annotations

import os
import stat

from CoralBayLib.core.errors import ServerError
from CoralBayLib.core.paths import error_message, expand

TOKEN_VARIABLE = "CORALBAY_SERVER_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable with the token."""


def read_token(file: str | None) -> str | None:
    """The token from a file, or else from the environment; None if there is neither.

    Raises:
        ServerError: the file cannot be read or is empty, or the token holds characters that cannot be sent.
    """
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        _require_sendable(token, f"The environment variable {TOKEN_VARIABLE}")
        return token or None
    try:
        token = expand(file).read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error_message(error) if isinstance(error, OSError) else "it holds other characters than a token has"
        raise ServerError(f"The token cannot be read from {file}: {reason}.") from error
    if not token:
        raise ServerError(f"The file {file} holds no token.")
    _require_sendable(token, f"The file {file}")
    return token


def others_can_read(file: str) -> bool:
    """Whether each user of this computer can read a file; never on Windows, whose permissions are others."""
    return os.name == "posix" and bool(expand(file).stat().st_mode & stat.S_IROTH)


def _require_sendable(token: str, where: str) -> None:
    """Refuse what a header of HTTP cannot hold, without showing the token.

    Raises:
        ServerError: there are several words or lines, or other characters than printable ones of ASCII.
    """
    if not all("!" <= character <= "~" for character in token):
        raise ServerError(
            f"{where} holds no usable token: a token is one word of English letters, digits and signs, on one line."
        )
