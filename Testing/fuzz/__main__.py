"""Damage inputs of every kind and use them; writes RESULTS.md, and ends with 1 if an input did not end as it must."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from . import KINDS, pool, summary
from .worker import Outcome


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m Testing.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="mutations of each kind (default 500)")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default 1)")
    parser.add_argument("--kind", default="", help="only kinds with this in their name; writes no results")
    parser.add_argument("--only", type=int, nargs="+", help="only these numbers")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: one a core)")
    parser.add_argument("--output", type=Path, help="where the results are written (default: RESULTS.md beside this file)")
    args = parser.parse_args()
    kinds = [name for name in KINDS if args.kind.lower() in name.lower()]
    tasks = [(kind, number) for kind in kinds for number in args.only or range(args.count)]
    outcomes: list[Outcome] = []
    start = time.monotonic()

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if not summary.is_clean(outcome) or args.only:
            told = f"{outcome.mutation}: {outcome.error} {' '.join((*outcome.stray, *outcome.ran))}"
            print(f"{outcome.kind} #{outcome.number} {outcome.state.upper()} {told} ({outcome.peak_mb:.0f} MB)", flush=True)
        if len(outcomes) % 500 == 0:
            print(f"{len(outcomes)} of {len(tasks)} after {time.monotonic() - start:.0f} s", flush=True)

    pool.run(tasks, args.workers, args.seed, done)
    outcomes.sort(key=lambda outcome: (kinds.index(outcome.kind), outcome.number))
    minutes = (time.monotonic() - start) / 60
    if not args.kind or args.output:
        command = "python -m Testing.fuzz" + "".join(f" {each}" for each in sys.argv[1:])
        summary.write(outcomes, args.seed, "make fuzz" if len(sys.argv) == 1 else command, minutes, args.output or summary.PATH)
    bad = sum(not summary.is_clean(outcome) for outcome in outcomes)
    print(f"{len(outcomes)} inputs, {bad} not clean, {minutes:.1f} minutes")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
