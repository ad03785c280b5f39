"""Kill commands at random moments: `python -m Testing.fuzz.kills [--kills 100] [--seed 0] [--output FILE]`.

Each command is ended by SIGKILL, SIGTERM or SIGINT at a moment between its first line and its usual end, while its libraries
are imported too. Then nothing that was finished before is lost or changed, what it writes is absent or whole, and the next
run gives what an undisturbed run gives and leaves nothing else behind. The exit status is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import queue
import random
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .harness import SIGNALS, Bench, Kill
from .inputs import make_inputs
from .verbs import make_verbs

REPORT = Path(__file__).parents[1] / "results" / "kills.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the kills, print each, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m Testing.fuzz.kills", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--kills", type=int, default=100, help="over all commands (default 100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scans", type=int, default=8, help="phantoms (default 8)")
    parser.add_argument("--bundle", type=int, default=64, metavar="MB", help="size of the bundle of weights (default 64)")
    parser.add_argument("--workers", type=int, default=1, help="commands at work at the same time (default 1)")
    parser.add_argument("--only", metavar="NAME", help="one command")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table, such as Testing/fuzz/results/kills.md")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        kills = []
        make_inputs(Path(folder) / "inputs", args.scans, args.bundle << 20)
        for kill in kill_all(Path(folder), args.kills, args.seed, args.workers, args.only):
            state = "completed" if kill.completed else "ended"
            state = "ended before" if kill.finished else f"{state} in {kill.ending_s:.2f} s"
            found = "; ".join(kill.faults) or "clean"
            print(f"{kill.verb}: {kill.signal.name} after {kill.moment:.2f} s, {state}: {found}", flush=True)
            kills.append(kill)
    text = table(kills, args.seed)
    print(text)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text, encoding="utf-8")
    return int(any(kill.faults for kill in kills))


def kill_all(folder: Path, count: int, seed: int, workers: int = 1, only: str | None = None) -> Iterator[Kill]:
    """Kill each command equally often, each signal equally often, at moments drawn from the whole of its duration.

    Args:
        folder: with the inputs in its folder "inputs"; each command works in another folder below it.
        count: number of kills, over all commands.
        seed: of the moments.
        workers: commands at work at the same time.
        only: name of a command; all if None.
    """
    names = [verb.name for verb in make_verbs(folder / "inputs", folder) if only in (None, verb.name)]
    shares = [count // len(names) + (number < count % len(names)) for number in range(len(names))]
    results: queue.Queue[Kill | BaseException] = queue.Queue()
    over = threading.Event()

    def work(number: int) -> None:
        try:
            own = folder / names[number].replace(" ", "-") / "user"
            verb = next(each for each in make_verbs(folder / "inputs", own) if each.name == names[number])
            bench, chance = Bench(verb, own), random.Random(f"{seed} {verb.name}")
            for turn in range(shares[number]):
                if over.is_set():
                    return
                signal_sent = SIGNALS[(number + turn) % len(SIGNALS)]
                results.put(bench.kill(signal_sent, chance.uniform(0.0, bench.seconds)))
        except BaseException as error:
            results.put(error)

    with ThreadPoolExecutor(workers) as pool:
        for number in range(len(names)):
            if shares[number]:
                pool.submit(work, number)
        try:
            for _ in range(count):
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)


def table(kills: Sequence[Kill], seed: int) -> str:
    """The counts as Markdown."""
    faulty = sum(bool(kill.faults) for kill in kills)
    columns = [
        "command",
        *(each.name for each in SIGNALS),
        "ended before the signal",
        "completed after it",
        "before it was handled",
        "longest end (s)",
        "faults",
    ]
    lines = [
        "# Kills",
        "",
        f"{len(kills)} commands were ended at random moments between their first line and their usual end (seed {seed}),",
        f"{faulty} of them left a fault. Made by `make kills`; `Testing/fuzz/kills` says what is checked after each kill, and",
        "after the next run.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{' --- |' * len(columns)}",
    ]
    for verb in sorted({kill.verb for kill in kills}):
        mine = [kill for kill in kills if kill.verb == verb]
        lines.append(f"| {' | '.join([verb, *_counts(mine)])} |")
    lines.append(f"| {' | '.join(['all', *_counts(kills)])} |")
    faults = [f"- {kill.verb}, {kill.signal.name}: {fault}" for kill in kills for fault in kill.faults]
    return "\n".join([*lines, *([""] + faults if faults else [])]) + "\n"


def _counts(kills: Sequence[Kill]) -> list[str]:
    by_signal = [sum(kill.signal is each for kill in kills) for each in SIGNALS]
    counts = [*by_signal, sum(kill.finished for kill in kills), sum(kill.completed for kill in kills)]
    counts.append(sum(kill.unhandled for kill in kills))
    faults = sum(len(kill.faults) for kill in kills)
    return [*map(str, counts), f"{max(kill.ending_s for kill in kills):.2f}", str(faults)]


if __name__ == "__main__":
    sys.exit(main())
