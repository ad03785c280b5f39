"""Stored sessions are compared with the same sessions run again, to the last digit."""

from __future__ import annotations

import json

import pytest

from Testing.benchmarks import versions
from Testing.benchmarks.tables.sections import MEASURED
from Testing.benchmarks.verify import compare, threads_of, verify

LINES = [
    {"scan": scan, "method": method, "seed": seed, "stages": {"1": {"liver": [0.5, 1.25]}}, "machine": "Linux, 1 threads"}
    for scan in ("one", "two")
    for method in ("ours", "theirs")
    for seed in range(3)
]


@pytest.fixture(autouse=True)
def same_threads():
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_equal_sessions_are_said_to_be_equal(capsys):
    asked = []

    def again(line: dict) -> dict:
        asked.append((line["scan"], line["method"], line["seed"]))
        return {"stages": {"1": {"liver": [0.5, 1.25]}}}

    assert verify(LINES, ("scan", "method"), again, 2, 0)
    assert len(asked) == len(set(asked)) == 8
    said = capsys.readouterr().out
    assert said.count("equal: ") == 8 and "8 of 8 sessions are equal" in said and "unequal" not in said


def test_a_digit_that_differs_is_shown(capsys):
    def again(line: dict) -> dict:
        return {"stages": {"1": {"liver": [0.5, 1.2501 if line["method"] == "ours" else 1.25]}}}

    assert not verify(LINES, ("scan", "method"), again, 1, 0)
    said = capsys.readouterr().out
    assert "stages, 1, liver, 1: stored 1.25, now 1.2501" in said
    assert "2 of 4 sessions are equal" in said


def test_no_session_at_all_is_no_success():
    assert not verify([], ("scan",), dict, 1, 0)


def test_what_is_missing_differs():
    assert list(compare({"a": 1}, {"a": 1, "b": 2}, "it")) == ["it: stored {'a': 1}, now {'a': 1, 'b': 2}"]
    assert list(compare([1.0], [1.0, 2.0], "it")) and not list(compare([1.0], [1.0], "it"))


def test_threads_are_those_of_the_line():
    assert threads_of({"machine": "Linux x86_64, 12 threads"}) == 12
    assert threads_of({}) == 1


@pytest.mark.parametrize("name", ["quality", "clicks", "transfer"])
def test_stored_lines_have_the_versions_that_count(name):
    known = getattr(versions, name.upper())
    lines = [json.loads(line) for line in (MEASURED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines
    assert {line["results_version"] - known[line["method"]] for line in lines} == {0}


def test_every_method_has_a_version():
    pytest.importorskip("monai")
    from Testing.benchmarks import clicks, quality, transfer

    assert set(versions.CLICKS) == set(clicks.METHODS)
    assert set(versions.QUALITY) == set(quality.METHODS)
    assert set(versions.TRANSFER) == set(transfer.METHODS)


def test_a_transfer_is_run_again_as_its_line_says(monkeypatch, tmp_path):
    pytest.importorskip("monai")
    from argparse import Namespace
    from types import SimpleNamespace

    from Testing.benchmarks import transfer

    lines = [json.loads(line) for line in (MEASURED / "transfer.jsonl").read_text(encoding="utf-8").splitlines()]
    other = next(line for line in lines if line["first"] == "sample")["second"]
    scans = {name: transfer.Labelled(name, None, None, {}) for name in ("sample", other)}
    pair = SimpleNamespace(first=scans["sample"], second=scans[other])
    asked = []

    def measure(_pair, answer, seed, rounds):
        asked.append((answer, seed, rounds))
        line = next(
            each
            for each in lines
            if (each["first"], each["second"], each["method"], each["seed"]) == ("sample", other, answer, seed)
        )
        return {"dice": line["dice"], "false_ml": line["false_ml"]}

    monkeypatch.setattr(transfer, "sample", lambda: scans["sample"])
    monkeypatch.setattr(transfer, "read_scan", lambda folder: scans[folder.name])
    monkeypatch.setattr(transfer, "pairs", lambda *_args: [pair])
    monkeypatch.setattr(transfer, "marked", lambda *_args: None)
    monkeypatch.setattr(transfer, "method", lambda name, *_args: name)
    monkeypatch.setattr(transfer, "measure", measure)
    monkeypatch.setattr(transfer.cb, "embed", lambda *_args, **_options: None)
    monkeypatch.setattr(transfer.cb, "Store", lambda: None)
    monkeypatch.setitem(transfer.ENCODERS, "coralbay-mini", lambda: None)
    args = Namespace(
        scans=[tmp_path / other],
        encoders=["coralbay-mini"],
        methods=["adapted", "as it is"],
        sources=["strokes"],
        verify=1,
        verify_seed=0,
    )
    only = [line for line in lines if line["first"] == "sample"]
    assert transfer.check(only, args)
    assert {(name, rounds) for name, _, rounds in asked} == {("adapted", (0, 1, 3, 5)), ("as it is", (0,))}
