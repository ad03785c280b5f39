"""`coralbay cache`: list the embeddings in the cache, and remove them."""

from __future__ import annotations

import argparse
import time
from typing import Any

from CoralBayLib.core.errors import StoreError
from CoralBayLib.core.formatting import format_bytes

from .console import Console
from .options import Common


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser("cache", parents=[common.output], help="list, remove or clear the embeddings in the cache")
    parser.add_argument(
        "action",
        choices=["list", "remove", "clear"],
        nargs="?",
        default="list",
        help="what to do (default list); clear: remove all",
    )
    parser.add_argument("keys", nargs="*", metavar="KEY", help="for remove: keys, or their first digits, as listed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay cache`."""
    from CoralBayLib.features.store import Store

    store = Store()
    removed = 0
    if args.action == "clear":
        removed = store.clear()
    elif args.action == "remove":
        removed = _remove(store, args.keys)
    if args.action != "list":
        console.result(f"Removed {removed} embeddings.")
    entries = store.entries()
    if args.action == "list":
        for entry in entries:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
            console.result(f"{entry.key[:12]}  {format_bytes(entry.nbytes):>10}  last used {used}")
        console.result(f"{len(entries)} embeddings, {format_bytes(store.nbytes())} in {store.root}")
    listed = [{"key": entry.key, "bytes": entry.nbytes, "used": entry.used} for entry in entries]
    return {"folder": str(store.root), "removed": removed, "entries": listed}


def _remove(store: Any, prefixes: list[str]) -> int:
    """Remove the embeddings with the given first digits of their keys; how many were removed."""
    if not prefixes:
        raise StoreError("Name the embeddings to remove: their keys, or the first digits, as `coralbay cache list` shows them.")
    removed = 0
    for prefix in prefixes:
        matches = [entry.key for entry in store.entries() if entry.key.startswith(prefix)]
        if len(matches) != 1:
            raise StoreError(f"{len(matches)} embeddings have a key that starts with '{prefix}'; exactly one is needed.")
        removed += store.remove(matches[0])
    return removed
