"""Addresses of servers and files with tokens, as people write them."""

from __future__ import annotations

import pytest

from CoralBayLib.core.errors import ServerError
from CoralBayLib.remote.address import checked_address
from CoralBayLib.remote.token import TOKEN_VARIABLE, read_token


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://[::1]:8000/", "https://[::1]:8000"),
        ("http://127.0.0.1:8000//", "http://127.0.0.1:8000"),
        (" https://name/prefix/\n", "https://name/prefix"),
    ],
)
def test_addresses(written, meant):
    assert checked_address(written) == meant


@pytest.mark.parametrize("url", ["https://[::1", "https://::1]", "https://name:port", "https://na me", "https://na\nme", ""])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ServerError, match="is not the address of a server"):
        checked_address(url)


@pytest.mark.parametrize("written", [b"abc", b"abc\n", b" abc\r\n", b"\xef\xbb\xbfabc\r\n"])
def test_tokens_as_editors_save_them(tmp_path, written):
    (tmp_path / "token").write_bytes(written)
    assert read_token(str(tmp_path / "token")) == "abc"


@pytest.mark.parametrize("written", ["abc\ndef", "a b", "a\0b", "ä", "a\u200bb"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(tmp_path, monkeypatch, written):
    (tmp_path / "token").write_text(written, encoding="utf-8")
    with pytest.raises(ServerError, match="holds no usable token") as caught:
        read_token(str(tmp_path / "token"))
    assert written not in str(caught.value)
    if "\0" not in written:
        monkeypatch.setenv(TOKEN_VARIABLE, written)
        with pytest.raises(ServerError, match=f"variable {TOKEN_VARIABLE} holds no usable token"):
            read_token(None)


def test_a_token_in_utf_16_is_refused(tmp_path):
    (tmp_path / "token").write_bytes("abc".encode("utf-16"))
    with pytest.raises(ServerError, match="other characters than a token has"):
        read_token(str(tmp_path / "token"))
