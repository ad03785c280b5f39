"""Bundles: weights in one file, for computers without a network. A bundle is a plain zip of the files and a manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from CoralBayLib.core.errors import CoralBayError, EncoderError, MemoryLimitError, Remedy, WeightsError
from CoralBayLib.core.formatting import format_bytes
from CoralBayLib.core.paths import atomic_write, error_message, temporary_tag
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.encoders.catalog import encoder_names
from CoralBayLib.encoders.weights import cache, hub
from CoralBayLib.encoders.weights.cache import Record
from CoralBayLib.encoders.weights.download import disk_error
from CoralBayLib.encoders.weights.sources import PackagedWeights, ShippedWeights, Weights, sha256_of

from .manager import weights_of

MANIFEST = "coralbay-weights.json"
_FORMAT = "coralbay-weights"
_VERSION = 1
_MOST_MANIFEST_BYTES = 2**20
_CHUNK = 2**22


def export_bundle(
    path: str | Path,
    encoders: Sequence[str] | None = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> list[Record]:
    """Write the weights that are on this computer into one file.

    Args:
        path: path of the bundle, such as "weights.zip".
        encoders: the encoders whose weights are exported; by default all available ones. Files that the user named by a
            path or an environment variable are not exported, since their content cannot be verified.
        progress: called with the state of the export.
        cancel: stops the export; no file is left.

    Returns:
        The content of the bundle.

    Raises:
        EncoderError: there is no such encoder.
        WeightsError: an encoder's weights are not on this computer, are damaged, or come with CoralBay.
        StoreError: the file cannot be written.
        Cancelled: the user cancelled.
    """
    files = []
    for name in encoders or encoder_names():
        raise_if_cancelled(cancel)
        try:
            files.append(_verified(weights_of(name)))
        except WeightsError as error:
            if encoders:
                raise WeightsError(f"The weights of '{name}' cannot be exported: {str(error).rstrip('.')}.") from error
    if not files:
        raise WeightsError("There are no weights on this computer to export. Download some first.")
    total = sum(record.bytes for record, _file in files)
    _check_space(Path(path).absolute().parent, total)
    manifest = {"format": _FORMAT, "version": _VERSION, "weights": [record.as_dict() for record, _file in files]}
    done = 0
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_entry(MANIFEST), json.dumps(manifest, indent=2))
        for record, file in files:
            with file.open("rb") as source, archive.open(_entry(_member(record)), "w", force_zip64=True) as target:
                for block in iter(lambda source=source: source.read(_CHUNK), b""):  # type: ignore[misc]
                    raise_if_cancelled(cancel)
                    target.write(block)
                    done += len(block)
                    report(progress, done / total, f"Exporting weights: {format_bytes(done)} of {format_bytes(total)}")
    return [record for record, _file in files]


def import_bundle(
    path: str | Path,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
    encoders: Sequence[str] | None = None,
) -> list[Record]:
    """Import the weights of a bundle into CoralBay's folder.

    Before any file is installed, all are verified against the SHA-256 in the manifest, and against the SHA-256 that this
    version of CoralBay knows, if it knows one; see `trust_note`.

    Args:
        path: path of the bundle.
        progress: called with the state of the import.
        cancel: stops the import; nothing is changed.
        encoders: the encoders whose weights are imported; by default all in the bundle.

    Returns:
        The imported files. Their licenses are those that this version of CoralBay knows, not those in the bundle.

    Raises:
        WeightsError: the file is not a bundle, is damaged, has unexpected content, lacks the requested weights, or holds
            other versions of the weights; or the folder cannot be written.
        Cancelled: the user cancelled.
    """
    path = Path(path).expanduser()
    staged: list[tuple[Record, Path]] = []
    try:
        with _reading(path), zipfile.ZipFile(path) as archive:
            records = [_known(record) for record in _wanted(_manifest(archive, path), encoders, path)]
            total = sum(record.bytes for record in records)
            done = 0
            for record in records:
                place = cache.make_folder(record.encoder)
                if not staged:
                    _check_space(place, total)
                cache.drop_leftovers(record.encoder)
                staged.append((record, place / f"{cache.STAGED}{temporary_tag()}"))
                with archive.open(_member(record)) as source:
                    for count in _copy(source, *staged[-1]):
                        raise_if_cancelled(cancel)
                        done += count
                        report(
                            progress, done / max(total, 1), f"Importing weights: {format_bytes(done)} of {format_bytes(total)}"
                        )
        with ExitStack() as locks:
            for record in records:
                locks.enter_context(cache.locked(record.encoder))
            for record, temporary in staged:
                cache.install(record, temporary)
    finally:
        for _record, temporary in staged:
            temporary.unlink(missing_ok=True)
    return records


def trust_note(records: Sequence[Record]) -> str:
    """A note for the user: the imported weights that were verified only against the bundle's own SHA-256; "" if none."""
    names = [record.encoder for record in records if not isinstance(weights_of(record.encoder), PackagedWeights)]
    if not names:
        return ""
    return (
        f"The weights of {', '.join(names)} were verified only against the SHA-256 in the bundle, since CoralBay knows no "
        "other. Use them only if you trust the person who made the bundle."
    )


def _verified(weights: Weights) -> tuple[Record, Path]:
    """The verified file of these weights.

    Raises:
        WeightsError: there is no such file.
    """
    if isinstance(weights, ShippedWeights):
        raise WeightsError("they come with CoralBay")
    record, outcome = cache.verified(weights)
    if record is not None:
        return record, cache.path_of(record)
    if isinstance(weights, PackagedWeights):
        path = weights.make()
        if sha256_of(path) != weights.sha256:
            raise WeightsError(f"{path.name} is damaged; delete it, then install the packages again")
        return Record.of(weights, path), path
    found, cached = hub.verified_in_cache(weights)
    if found is None:
        raise WeightsError(f"CoralBay's folder {outcome}, the hub's cache {cached}")
    return Record.of(weights, found), found


def _manifest(archive: zipfile.ZipFile, path: Path) -> list[Record]:
    """The records of a bundle, whose content must be exactly that of its manifest."""
    members = {info.filename: info for info in archive.infolist()}
    if MANIFEST not in members or members[MANIFEST].file_size > _MOST_MANIFEST_BYTES:
        raise WeightsError(f"{path.name} is not a bundle of weights: it lacks {MANIFEST}.")
    if members[MANIFEST].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise WeightsError(f"The manifest of {path.name} is compressed in an unknown way. Export the bundle again.")
    try:
        content = json.loads(archive.read(MANIFEST))
        if not isinstance(content, dict) or content.get("format") != _FORMAT or content.get("version") != _VERSION:
            raise ValueError(f"expected format {_FORMAT}, version {_VERSION}")
        records = [Record.read(each) for each in content["weights"]]
        if len({record.encoder for record in records}) != len(records):
            raise ValueError("an encoder is listed twice")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"The manifest of {path.name} cannot be used: {error}. Export the bundle again.") from error
    expected = {MANIFEST, *(_member(record) for record in records)}
    if len(archive.infolist()) != len(expected) or set(members) != expected:
        odd = sorted(set(members) ^ expected) or ["a duplicate name"]
        raise WeightsError(f"{path.name} does not match its manifest ({', '.join(odd[:5])}). Export it again.")
    for record in records:
        info = members[_member(record)]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != record.bytes:
            raise WeightsError(f"{info.filename} in {path.name} does not match the manifest. Export the bundle again.")
    return records


def _wanted(records: list[Record], encoders: Sequence[str] | None, path: Path) -> list[Record]:
    """The records of the given encoders, or all."""
    if encoders is None:
        return records
    by_encoder = {record.encoder: record for record in records}
    for name in encoders:
        if name not in by_encoder:
            raise WeightsError(f"{path.name} has no weights of '{name}'; it has those of {', '.join(by_encoder) or 'none'}.")
    return [by_encoder[name] for name in dict.fromkeys(encoders)]


def _known(record: Record) -> Record:
    """The record with the license that this version knows; refuses weights that no encoder here can use."""
    leave_out = "To leave it out, name the encoders whose weights you want."
    try:
        weights = weights_of(record.encoder)
    except EncoderError as error:
        raise WeightsError(
            f"The bundle holds weights of '{record.encoder}', which this version of CoralBay does not know. {leave_out}"
        ) from error
    if isinstance(weights, ShippedWeights):
        raise WeightsError(f"The bundle holds weights of '{record.encoder}', which come with CoralBay already. {leave_out}")
    other = record.mismatch(weights)
    if not other and record.file != Path(weights.filename).name:
        other = f"a file named {record.file}"
    if other:
        raise WeightsError(
            f"The bundle's weights of '{record.encoder}' are {other}; expected {weights.origin}. Export the bundle with the "
            f"same version of CoralBay as on this computer. {leave_out}"
        )
    # Some licenses require that their text accompanies the file.
    text = record.licence_text if isinstance(weights, PackagedWeights) else ""
    return replace(record, licence=weights.licence, licence_text=text)


def _copy(source: IO[bytes], record: Record, target: Path) -> Iterator[int]:
    """Copy and verify a file; yields the number of bytes of each step."""
    digest = hashlib.sha256()
    try:
        file = target.open("wb")
    except OSError as error:
        raise disk_error(error, target) from error
    with file:
        while block := source.read(_CHUNK):
            try:
                file.write(block)
            except OSError as error:
                raise disk_error(error, target, missing=record.bytes) from error
            digest.update(block)
            yield len(block)
    if digest.hexdigest() != record.sha256:
        raise WeightsError(
            f"The weights of '{record.encoder}' in the bundle are damaged: SHA-256 {digest.hexdigest()}, expected "
            f"{record.sha256}. Nothing was imported; copy or export the bundle again."
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of reading a zip file into WeightsError."""
    try:
        yield
    except CoralBayError:
        raise
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file '{path}'.") from error
    except MemoryError as error:
        raise MemoryLimitError(f"There is too little memory to read {path.name}.", remedy=Remedy.FREE_MEMORY) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError, LookupError, struct.error) as error:
        raise WeightsError(
            f"{path.name} is damaged or not a bundle of weights ({error_message(error)}). Nothing was imported; "
            "copy or export it again."
        ) from error


def _member(record: Record) -> str:
    return f"{record.encoder}/{record.file}"


def _entry(name: str) -> zipfile.ZipInfo:
    # A fixed date, so that the same weights give the same file.
    info: Any = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    return info


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free if folder.is_dir() else needed
    if needed > free:
        raise WeightsError(
            f"The disk is too full: {format_bytes(needed)} are needed and {folder} has {format_bytes(free)} free."
        )
