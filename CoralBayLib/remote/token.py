"""Where a server and its clients find the token."""

from __future__ import annotations

import os

from CoralBayLib.core.errors import ServerError
from CoralBayLib.core.paths import error_message, expand

TOKEN_VARIABLE = "CORALBAY_SERVER_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable with the token."""


def read_token(file: str | None) -> str | None:
    """The token from a file, or else from the environment; None if there is neither.

    Raises:
        ServerError: the file cannot be read, or is empty.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip() or None
    try:
        token = expand(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error_message(error) if isinstance(error, OSError) else "it holds other characters than a token has"
        raise ServerError(f"The token cannot be read from {file}: {reason}.") from error
    if not token:
        raise ServerError(f"The file {file} holds no token.")
    return token
