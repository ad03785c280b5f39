"""A few damaged inputs of every kind, as `make fuzz` runs hundreds; and that the run sees every fault."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from Testing.fuzz import KINDS, pool, summary
from Testing.fuzz.faulty import FAULTY
from Testing.fuzz.worker import ABORT, EXCEPTION, HANG, MEMORY, REFUSED, RIGHT, SILENT, Outcome

_EACH = 4
"""Mutations of each kind."""


def _run(tasks: list[tuple[str, int]], **options) -> list[Outcome]:
    outcomes: list[Outcome] = []
    pool.run(tasks, 1, 0, outcomes.append, **options)
    return outcomes


@pytest.mark.slow
def test_damage_gives_the_right_result_or_an_error_in_words() -> None:
    outcomes = _run([(kind, number) for kind in KINDS for number in range(_EACH)])
    assert len(outcomes) == _EACH * len(KINDS)
    assert [outcome for outcome in outcomes if not summary.is_clean(outcome)] == []
    assert {REFUSED, RIGHT} <= {outcome.state for outcome in outcomes}


@pytest.mark.slow
def test_every_fault_is_seen_and_the_run_goes_on(tmp_path: Path) -> None:
    states = {"exception": EXCEPTION, "exit": EXCEPTION, "silent": SILENT, "abort": ABORT, "hang": HANG, "memory": MEMORY}
    outcomes = _run([(kind, 0) for kind in FAULTY if kind != "faulty: hang"], most_mb=2048.0)
    outcomes += _run([("faulty: hang", 0)], timeout_s=1.0)
    (Path(tempfile.gettempdir()) / "coralbay-fuzz-outside").rmdir()
    for outcome in outcomes:
        fault = outcome.kind.removeprefix("faulty: ")
        assert outcome.state == states.get(fault, RIGHT), outcome
        assert summary.is_clean(outcome) == (fault == "none"), outcome
        assert bool(outcome.stray) == (fault in ("stray", "other file")), outcome
        assert bool(outcome.ran) == (fault in ("code", "outside")), outcome
    summary.write(outcomes, 0, "command", 0.0, tmp_path / "RESULTS.md")
    total = next(
        line for line in (tmp_path / "RESULTS.md").read_text(encoding="utf-8").splitlines() if line.startswith("| **all**")
    )
    assert [int(cell) for cell in total.split("|")[2:13]] == [11, 5, 0, 0, 1, 2, 1, 1, 1, 2, 2]


def test_a_mutation_is_the_same_each_time_and_never_the_file_itself() -> None:
    import random

    from Testing.fuzz.mutations import mutated

    data = bytes(range(256)) * 3
    first, second = ([mutated(data, random.Random(n)) for n in range(200)] for _ in range(2))
    assert first == second
    assert all(copy != data for _name, copy, _edited in first)
    assert len({copy for _name, copy, _edited in first}) > 150
