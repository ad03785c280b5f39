"""Whether stored sessions still give the same results: some are run again and compared to the last digit."""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

SHOWN = 5
"""How many differences of a session are printed."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options `--verify` and `--verify-seed`."""
    parser.add_argument(
        "--verify",
        type=int,
        metavar="N",
        help="run N stored sessions of each scan and method again and compare; measure nothing",
    )
    parser.add_argument("--verify-seed", type=int, default=0, help="of the choice of these sessions")


def verify(lines: list[dict], by: tuple[str, ...], again: Callable[[dict], dict], count: int, seed: int) -> bool:
    """Run some stored sessions again and print whether each gives what is stored.

    Args:
        lines: the stored sessions.
        by: keys whose values make a group, such as scan and method.
        again: runs the session of a line; returns the results to compare, by the line's keys.
        count: how many sessions of each group.
        seed: of the choice.

    Returns:
        Whether all were equal, and there was one at all.
    """
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for line in lines:
        groups[tuple(line[key] for key in by)].append(line)
    random = np.random.default_rng(seed)
    unequal = tried = 0
    for name, group in groups.items():
        for chosen in random.choice(len(group), min(count, len(group)), replace=False):
            line = group[chosen]
            threads = threads_of(line)
            torch.set_num_threads(threads)
            with threadpool_limits(threads):
                found = again(line)
            differences = [each for key, value in found.items() for each in compare(line[key], value, key)]
            tried, unequal = tried + 1, unequal + bool(differences)
            about = ", ".join([*map(str, name), f"seed {line['seed']}", f"{len(list(numbers(found)))} numbers"])
            print(f"{'unequal' if differences else 'equal'}: {about}{other_packages(line)}", flush=True)
            for each in differences[:SHOWN]:
                print(f"  {each}")
            if len(differences) > SHOWN:
                print(f"  and {len(differences) - SHOWN} more")
    print(f"{tried - unequal} of {tried} sessions are equal to the last digit.")
    return tried > 0 and not unequal


def compare(stored: Any, found: Any, path: str) -> Iterator[str]:
    """Where two results differ, in words."""
    if isinstance(stored, dict) and isinstance(found, dict) and stored.keys() == found.keys():
        for key in stored:
            yield from compare(stored[key], found[key], f"{path}, {key}")
    elif isinstance(stored, list) and isinstance(found, list) and len(stored) == len(found):
        for number, (one, other) in enumerate(zip(stored, found, strict=True)):
            yield from compare(one, other, f"{path}, {number}")
    elif stored != found:
        yield f"{path}: stored {stored}, now {found}"


def numbers(found: Any) -> Iterator[float]:
    """All numbers of a result."""
    if isinstance(found, dict | list):
        for each in found.values() if isinstance(found, dict) else found:
            yield from numbers(each)
    else:
        yield found


def threads_of(line: dict) -> int:
    """How many threads a session ran with; 1 where the line does not say."""
    said = re.search(r"(\d+) threads", line.get("machine", ""))
    return int(said[1]) if said else 1


def other_packages(line: dict) -> str:
    """Packages that have another version than when the session was stored, as the end of a sentence."""
    other = []
    for name, stored in line.get("versions", {}).items():
        try:
            now = stored if name == "python" else version(name)
        except PackageNotFoundError:
            now = "missing"
        if now != stored:
            other.append(f"{name} {stored} then, {now} now")
    return f" ({'; '.join(other)})" if other else ""
