"""Files of others that hold weights or describe encoders: checkpoints, bundles, cards; and a whole library."""

from __future__ import annotations

import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import CoralBayLib as cb
from CoralBayLib.core.errors import LibraryError
from CoralBayLib.encoders import EncoderCard, builtin, registry
from CoralBayLib.encoders.cards import read_card
from CoralBayLib.encoders.coralbay import CoralBayNetwork, network_from
from CoralBayLib.encoders.management.bundle import MANIFEST, export_bundle, import_bundle
from CoralBayLib.encoders.networks.checkpoints import read_checkpoint
from CoralBayLib.encoders.weights import ShippedWeights
from CoralBayLib.encoders.weights import cache as weights_cache
from CoralBayLib.library import Library
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid
from Testing.lib.encoders.local_hub import SOURCE

from .edits import edited_json, edited_tensor, members_edit, pickled_payload
from .kinds import Build, DroppedError, Input

_TENSORS = {"a": torch.ones(3, 4), "b": torch.arange(3.0), "c": torch.zeros(2, dtype=torch.float16)}


@cache
def _network() -> CoralBayNetwork:
    torch.manual_seed(0)
    return CoralBayNetwork(feature_size=12)


def _network_values(path: Path) -> Any:
    return sum(value.double().sum().item() for value in network_from(read_checkpoint(path)).state_dict().values())


def network_safetensors(folder: Path) -> Input:
    """A checkpoint of CoralBay's network."""
    path = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in _network().state_dict().items()}, path)
    return Input([path], lambda: _network_values(path), {None: (edited_tensor,)})


def _tensors_of(path: Path) -> list[Any]:
    return [[name, value.float().numpy()] for name, value in sorted(read_checkpoint(path).items())]


def small_safetensors(folder: Path) -> Input:
    """A small checkpoint."""
    path = folder / "weights.safetensors"
    save_file(_TENSORS, path, metadata={"format": "pt"})
    return Input([path], lambda: _tensors_of(path), {None: (edited_tensor,)})


def torch_zip(folder: Path) -> Input:
    """A checkpoint of torch.save."""
    path = folder / "weights.pt"
    torch.save(_TENSORS, path)
    edits = (members_edit({"data.pkl": pickled_payload}), pickled_payload)
    end = path.read_bytes().rindex(b"PK\x01\x02")

    # The CRC-32 of each member; the list of members at the end has none, and edited members have one made anew.
    def vouched(_path: Path) -> int:
        return 1 if end else -1

    return Input([path], lambda: _tensors_of(path), {None: edits}, vouched)


def torch_legacy(folder: Path) -> Input:
    """A checkpoint of torch.save in its format of before 1.6."""
    path = folder / "weights.pth"
    torch.save(_TENSORS, path, _use_new_zipfile_serialization=False)
    return Input([path], lambda: _tensors_of(path), {None: (pickled_payload,)})


def _install() -> Path:
    """Put weights into the cache; gives their file."""
    temporary = weights_cache.make_folder("coralbay") / "temporary"
    temporary.write_bytes(bytes(range(256)) * 40)
    return weights_cache.install(weights_cache.Record.of(SOURCE, temporary), temporary)


def installed(folder: Path) -> Input:
    """Weights in CoralBay's folder: their file, and the record that vouches for it."""
    os.environ["CORALBAY_CACHE"] = str(folder / "cache")
    path = _install()

    def use() -> list[Any]:
        record, outcome = weights_cache.verified(SOURCE)
        if record is None:
            raise DroppedError(outcome)
        return [record.sha256, weights_cache.path_of(record).read_bytes()]

    record = path.with_name("weights.json")
    return Input([path, record], use, {record: (edited_json,)}, lambda file: 0 if file == path else -1, (".lock",))


def bundle(folder: Path) -> Input:
    """A bundle with the weights of one encoder, of which this machine has none."""
    os.environ["CORALBAY_CACHE"] = str(folder / "cache")
    builtin.cards = list
    known = {"coralbay": SOURCE, "mini": ShippedWeights("mini", "mini.safetensors", "MIT"), "own": None}
    registry._registry = {
        name: registry.EncoderEntry(EncoderCard(name, name.title(), ""), lambda **_: PoolingEncoder(), weights)
        for name, weights in known.items()
    }
    _install()
    path = folder / "weights.zip"
    export_bundle(path)
    shutil.rmtree(folder / "cache")

    def use() -> list[Any]:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        try:
            records = import_bundle(path)
            return [[record.encoder, weights_cache.path_of(record).read_bytes()] for record in records]
        finally:
            # What it leaves besides the lock is seen by the worker.
            for each in (folder / "cache").rglob("*"):
                if each.name in (".lock", "model.safetensors", "weights.json"):
                    each.unlink()

    edits = (members_edit({MANIFEST: edited_json}),)
    return Input([path], use, {None: edits}, lambda _path: 0)


def card(folder: Path) -> Input:
    """The card of an encoder."""
    shipped = sorted((Path(cb.__file__).parents[1] / "Resources" / "Encoders").glob("*.json"))[0]
    path = folder / shipped.name
    path.write_bytes(shipped.read_bytes())
    return Input([path], lambda: repr(read_card(path)), {None: (edited_json,)})


def library(folder: Path) -> Input:
    """A library of two scans: every one of its files."""
    whole = Library(folder / "library")
    encoder = PoolingEncoder((4, 8))
    for number, height in enumerate((500.0, -300.0)):
        scan = phantom(phantom_grid("axial", extent_mm=60.0), [([12, -30, 45], 8.0, height)], 25.0, number)
        whole.add(scan, encoder, name=f"scan {number}")
    query = phantom(phantom_grid("axial", extent_mm=60.0), [([12, -30, 45], 8.0, 400.0)], 25.0, 7)
    pyramid = cb.embed(query, encoder)

    def use() -> list[Any]:
        library = Library(folder / "library")
        # A fault that is found and told is as good as an error; searching must then not fail in another way.
        faults = [issue.text for issue in library.verify() if issue.harmful]
        hits = library.search_regions(pyramid, cb.Query.point(pyramid.grid.center_ras), k=5)
        found = library.search_scans(pyramid)
        if faults:
            raise LibraryError(faults[0])
        return [
            [(hit.rank, round(hit.score, 4), hit.path, [round(v, 3) for v in hit.ras]) for hit in hits],
            [(hit.path, round(hit.score, 4)) for hit in found],
        ]

    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock" and path.stat().st_size]
    edits: dict[Path | None, tuple] = {path: (edited_json,) for path in files if path.suffix == ".json" and _is_json(path)}
    return Input(files, use, edits, may_leave=(".lock",))


def _is_json(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_bytes()))
    except ValueError:
        return False


WEIGHTS: dict[str, Build] = {
    "Checkpoint (safetensors), a network": network_safetensors,
    "Checkpoint (safetensors), small": small_safetensors,
    "Checkpoint (torch.save)": torch_zip,
    "Checkpoint (torch.save, old format)": torch_legacy,
    "Bundle of weights": bundle,
    "Installed weights": installed,
    "Card of an encoder": card,
    "Library of scans": library,
}
