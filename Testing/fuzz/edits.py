"""Edits of text, JSON, CSV, safetensors, gzip and zip files that keep them readable as such."""

from __future__ import annotations

import gzip
import io
import json
import random
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from .mutations import VALUES, WORDS, Edit, mutated

PAYLOAD = b"cos\nsystem\n(S'touch code_was_run'\ntR."
"""A pickle that runs a command, which the worker notices."""


def lines_edit(end: bytes, separator: str) -> Edit:
    """An edit of the lines of a text header.

    Args:
        end: the bytes after which the header ends; b"" where the whole file is the header.
        separator: between a key and its value.
    """

    def edited_line(data: bytes, chance: random.Random) -> bytes:
        stop = data.index(end) if end else len(data)
        lines = data[:stop].decode("latin-1").split("\n")
        n = chance.randrange(len(lines))
        key, found, value = lines[n].partition(separator)
        words = value.split()
        match chance.randrange(9):
            case 0:
                del lines[n]
            case 1:
                lines.insert(n, lines[n])
            case 2 | 3:
                lines[n] = key + found + " " + chance.choice(WORDS)
            case 4 | 5 if words:
                words[chance.randrange(len(words))] = chance.choice(WORDS)
                lines[n] = key + found + " " + " ".join(words)
            case 6 if words:
                words = words[:-1] if chance.random() < 0.5 else words + ["1"] * chance.choice((1, 20, 5000))
                lines[n] = key + found + " " + " ".join(words)
            case 7:
                lines[n] = chance.choice(("x", key + "x" + found + value, "\xff\xfe" + lines[n], separator, "x" * 100_000))
            case _:
                other = chance.randrange(len(lines))
                lines[n], lines[other] = lines[other], lines[n]
        return "\n".join(lines).encode("latin-1", "replace") + data[stop:]

    return edited_line


def edited_json(data: bytes, chance: random.Random) -> bytes:
    """A value of a JSON document is another or is missing, a key is there twice, or it is nested deeply."""
    content = json.loads(data)
    places = list(_places(content))
    what = chance.random()
    if what < 0.7 and places:
        parent, name = chance.choice(places)
        if chance.random() < 0.2:
            del parent[name]
        else:
            parent[name] = chance.choice(VALUES)
        return json.dumps(content, ensure_ascii=chance.random() < 0.8).encode("utf-8", "surrogatepass")
    if what < 0.75:
        return json.dumps(chance.choice(VALUES)).encode()
    text = data.decode("utf-8")
    if what < 0.8:
        depth = chance.choice((900, 100_000))
        return chance.choice(("[" * depth, "[" * depth + "]" * depth, '{"points":' * depth, '{"markups":' * depth)).encode()
    if what < 0.9:
        found = [n for n, sign in enumerate(text) if sign in ",{"]
        at = chance.choice(found)
        parts = text[at + 1 :].split(",", 1)
        return (text[: at + 1] + parts[0] + "," + text[at + 1 :]).encode()
    return text.encode(chance.choice(("utf-16", "utf-8-sig", "utf-32", "cp500")), "replace")


def edited_cells(data: bytes, chance: random.Random) -> bytes:
    """A cell, a row or a column of a CSV is another, is missing or is there twice; or the whole is written otherwise."""
    rows = [line.split(",") for line in data.decode().splitlines()]
    r = chance.randrange(len(rows))
    c = chance.randrange(len(rows[r]))
    match chance.randrange(10):
        case 0:
            rows[r][c] = chance.choice(WORDS)
        case 1:
            rows[r][c] = chance.choice(('"', '"x', "a,b", "=1+1", "x" * 200_000, "\n", "\r", "NA", "n/a", "#REF!", "\ufeff"))
        case 2:
            del rows[r]
        case 3:
            rows.insert(r, rows[r])
        case 4:
            rows[r] = rows[r][:c] if chance.random() < 0.5 else rows[r] * chance.choice((2, 1000))
        case 5:
            rows = [[*row[:c], *row[c + 1 :]] for row in rows]
        case 6:
            rows = [[*row, row[min(c, len(row) - 1)]] for row in rows]
        case 7:
            rows[0][c % len(rows[0])] = chance.choice((*WORDS, *rows[0]))
        case 8:
            separator = chance.choice((";", "\t", "|", " ", "\0"))
            return "\n".join(separator.join(row) for row in rows).encode("utf-8", "surrogatepass")
        case _:
            text = "\n".join(",".join(row) for row in rows)
            return text.encode(chance.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32", "cp500")), "replace")
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")


def within_gzip(edit: Edit) -> Edit:
    """An edit of what a gzip file holds; the file's own checksum is right again."""

    def edited(data: bytes, chance: random.Random) -> bytes:
        return gzip.compress(edit(gzip.decompress(data), chance), mtime=0)

    edited.__name__ = f"{edit.__name__} in gzip"
    return edited


def is_safetensors(data: bytes) -> bool:
    """Whether the header can be edited."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data)


def edited_field(data: bytes, chance: random.Random) -> bytes:
    """A value somewhere in our header of a safetensors file is another, or is missing; the checksum stays as it was."""

    def edit(header: dict[str, Any]) -> None:
        key = next(iter(header["__metadata__"]))
        content = json.loads(header["__metadata__"][key])
        parent, name = chance.choice(list(_places(content)))
        if chance.random() < 0.2:
            del parent[name]
        else:
            parent[name] = chance.choice(VALUES)
        if chance.random() < 0.05:
            content = chance.choice(VALUES)
        header["__metadata__"][key] = json.dumps(content)

    return _with_header(data, edit)


def without_checksum(data: bytes, chance: random.Random) -> bytes:
    """As `edited_field`, in a file without a checksum, as version 0.1.0 wrote them."""

    def edit(header: dict[str, Any]) -> None:
        for key, words in header["__metadata__"].items():
            content = json.loads(words)
            if isinstance(content, dict):
                content.pop("checksum", None)
            header["__metadata__"][key] = json.dumps(content)

    return _with_header(edited_field(data, chance), edit)


def edited_tensor(data: bytes, chance: random.Random) -> bytes:
    """A tensor has another type, shape, place or name, or is missing."""

    def edit(header: dict[str, Any]) -> None:
        name = chance.choice([name for name in header if name != "__metadata__"])
        tensor = header[name]
        match chance.randrange(6):
            case 0:
                tensor["dtype"] = chance.choice(["F16", "F32", "F64", "I8", "I64", "BOOL", "F8_E4M3", "C64", "U16", "X"])
            case 1:
                shape = tensor["shape"]
                tensor["shape"] = chance.choice([[], [0], shape[::-1], [1, *shape], [2**40], [2**62, 4], [-1], "x"])
            case 2:
                header[name + "x"] = header.pop(name)
            case 3:
                tensor["data_offsets"] = chance.choice([[0, 0], [0, 2**40], [-1, 4], [2**63, 2**63], [8, 4], [], "x"])
            case 4:
                header[name] = chance.choice(VALUES)
            case _:
                del header[name]

    return _with_header(data, edit)


def tensor_without_checksum(data: bytes, chance: random.Random) -> bytes:
    """As `edited_tensor`, in a file without a checksum, as version 0.1.0 wrote them."""

    def edit(header: dict[str, Any]) -> None:
        for key, words in header.get("__metadata__", {}).items():
            content = json.loads(words)
            content.pop("checksum", None)
            header["__metadata__"][key] = json.dumps(content)

    return edited_tensor(_with_header(data, edit), chance)


def members_edit(edits: dict[str, Edit]) -> Edit:
    """An edit of a zip file: its members are changed, lost, renamed, doubled, compressed otherwise, or declared huge.

    Args:
        edits: of some members, by the end of their names; others are damaged as bytes.
    """

    def edited_member(data: bytes, chance: random.Random) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
        n = chance.randrange(len(members))
        name, content, packed = members[n]
        what = chance.randrange(8)
        if what < 4 and content:
            edit = next((edit for end, edit in edits.items() if name.endswith(end)), None)
            content = edit(content, chance) if edit and chance.random() < 0.8 else mutated(content, chance)[1]
            members[n] = (name, content, packed)
        elif what == 4:
            del members[n]
        elif what == 5:
            renamed = chance.choice(("x", "../x", "/tmp/x", name + "/", name.upper(), "", "a" * 70_000))[:65_000]
            members[n] = (renamed or "_", content, packed)
        elif what == 6:
            members.append(members[n])
        else:
            packed = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
            bomb = bytes(1 << 24) if chance.random() < 0.2 else content
            members[n] = (name, bomb, packed)
        out = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
            warnings.simplefilter("ignore", UserWarning)  # of names that are there twice
            for each, content, packed in members:
                archive.writestr(zipfile.ZipInfo(each), content, packed)
        return out.getvalue()

    return edited_member


def pickled_payload(data: bytes, chance: random.Random) -> bytes:
    """A pickle that would run a command, alone or in place of the true one."""
    return chance.choice((PAYLOAD, data[:2] + PAYLOAD, b"\x80\x02" + PAYLOAD, data[:-1] + PAYLOAD))


def wrong_sum(data: bytes, chance: random.Random) -> bytes:
    """The checksum or the length at the end of a gzip file is that of other data."""
    crc, length = zlib.crc32(chance.randbytes(9)), chance.choice((0, 1, 2**32 - 1))
    if chance.random() < 0.5:
        return data[:-8] + crc.to_bytes(4, "little") + data[-4:]
    return data[:-4] + length.to_bytes(4, "little")


def _with_header(data: bytes, edit: Callable[[dict[str, Any]], None]) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    edit(header)
    words = json.dumps(header).encode()
    words += b" " * (-len(words) % 8)
    return len(words).to_bytes(8, "little") + words + data[8 + length :]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a JSON value with each of its keys or indices."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from _places(value[key])
