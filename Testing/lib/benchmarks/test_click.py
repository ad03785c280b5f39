"""The click trace counts calls between files and adds up time by part."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading

import pytest

from Testing.benchmarks import click

FIRST = """
import second

def start():
    return [each for each in second.count(3)] + [helper()]

def helper():
    return sorted([2, 1], key=second.negative)
"""
SECOND = """
def count(number):
    for each in range(number):
        yield each

def negative(value):
    return -value
"""


@pytest.fixture
def first(tmp_path, monkeypatch):
    """A module that calls another one; both are watched."""
    for name, text in (("first", FIRST), ("second", SECOND)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(click, "ROOT", tmp_path)
    monkeypatch.setattr(click, "WATCHED", (str(tmp_path) + os.sep,))
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = importlib.util.spec_from_file_location("first", tmp_path / "first.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("second", None)


def test_calls_between_files_are_moves_and_a_resumed_generator_is_none(first):
    trace, before = click.Trace(), sys.getprofile()
    trace.on = True
    sys.setprofile(trace.event)
    try:
        first.start()
    finally:
        sys.setprofile(before)
    # The generator once, and `negative` for each of two values, through the built-in function `sorted`.
    assert trace.moves["main"] == {(click.OUTSIDE, "first.py"): 1, ("first.py", "second.py"): 3}
    assert not trace.moves["worker"]


def test_time_belongs_to_the_innermost_part(monkeypatch):
    now = iter([10.0, 11.0, 13.0, 13.5])
    monkeypatch.setattr(click.time, "thread_time", lambda: next(now))
    clock = click.Clock()
    inner = clock.wrap(lambda: None, "settings")
    outer = clock.wrap(lambda: inner(), "showing")
    clock.start()
    outer()
    assert clock.stop() == {"showing": 1.5, "settings": 2.0}


def test_other_threads_are_not_timed():
    clock = click.Clock()
    clock.start()
    thread = threading.Thread(target=clock.wrap(lambda: None, None))
    thread.start()
    thread.join()
    assert clock.stop() == {}


@pytest.mark.parametrize(
    ("file", "function", "part"),
    [
        ("install", "missing", "package checks"),
        ("install", "weights_file", "settings"),
        ("settings", "device", "settings"),
        ("structures", "of", "reading prompts"),
        ("preview_display", "show", "showing"),
        ("worker", "start", None),
    ],
)
def test_functions_belong_to_parts(file, function, part):
    assert click.part_of(file, function) == part
