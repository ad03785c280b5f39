"""Starting a command, ending it at a moment, and comparing what is left with what an undisturbed run leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .verbs import State, Verb, file_names, library_faults

ROOT = Path(__file__).resolve().parents[3]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
WORDS = {signal.SIGTERM: "coralbay: terminated", signal.SIGINT: "coralbay: interrupted"}
TEMPORARY = (".coralbay-tmp-", ".import-")
_PATIENCE_S = 900
# SIGINT is ignored in what a shell starts in the background, and in the children of that. The byte tells that the interpreter
# has started and comes to the first line of the program.
_PROGRAM = """import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
os.write(int(sys.argv.pop(1)), b"x")
from CoralBayLib.cli import main
sys.exit(main())
"""


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        status: exit status; negative for a signal that it did not handle.
        error: what it wrote on stderr.
        seconds: from its first line to its end.
        ending_s: from the signal to its end, in seconds; 0 without a signal.
    """

    status: int
    error: str
    seconds: float
    ending_s: float = 0.0


@dataclass
class Kill:
    """One kill and what was found after it.

    Attributes:
        verb: name of the command.
        signal: that ended it.
        moment: seconds after its first line.
        finished: whether the command had ended before.
        completed: whether it ended as usual in spite of the signal, which came when all was done.
        unhandled: whether SIGTERM itself ended it, before the command could handle signals. A shell shows status 143 then,
            too, and no line is printed.
        ending_s: seconds from the signal to the end.
        faults: in words; empty if all is well.
    """

    verb: str
    signal: signal.Signals
    moment: float
    finished: bool = False
    completed: bool = False
    unhandled: bool = False
    ending_s: float = 0.0
    faults: list[str] = field(default_factory=list)


def run(arguments: tuple[str, ...], work: Path, number: signal.Signals | None = None, moment: float = 0.0) -> Ended:
    """Run a command, and send it a signal some seconds after its first line."""
    read, write = os.pipe()
    environment = {
        **os.environ,
        "CORALBAY_CACHE": str(work / "cache"),
        "MPLCONFIGDIR": str(work.parent / "matplotlib"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "ignore", "-X", "faulthandler", "-c", _PROGRAM, str(write), *arguments]
    error_file = work.parent / "stderr"
    with error_file.open("wb") as error:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=error, cwd=work, env=environment, pass_fds=[write]
        )
    os.close(write)
    os.read(read, 1)
    os.close(read)
    begin = sent = time.perf_counter()
    try:
        if number is not None:
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                sent = time.perf_counter()
                process.send_signal(number)
        status = process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        # Python's fault handler then writes where every thread is.
        process.send_signal(signal.SIGABRT)
        status = process.wait()
        where = error_file.read_text(encoding="utf-8", errors="replace")
        return Ended(status, f"It did not end within {_PATIENCE_S} s: {where}", _PATIENCE_S, _PATIENCE_S)
    end = time.perf_counter()
    text = error_file.read_text(encoding="utf-8", errors="replace")
    return Ended(status, text, end - begin, end - sent if sent != begin else 0.0)


class Bench:
    """One command, its starting state, and what an undisturbed run makes of it.

    Args:
        verb: the command.
        work: the folder that its arguments name; every run finds it in the same state.
        measured: time the second of two runs: the first is slower, because its files are not in memory yet.

    Attributes:
        seconds: duration of an undisturbed run from its first line.
    """

    def __init__(self, verb: Verb, work: Path, measured: bool = True) -> None:
        self.verb, self.work = verb, work
        self._base = work.with_name(f"{work.name}-base")
        shutil.rmtree(self._base, ignore_errors=True)
        self._make_base()
        self._reset()
        self.seconds = self._straight().seconds
        if measured:
            self._reset()
            self.seconds = self._straight().seconds
        self._after, self._names = verb.results(work), file_names(work)
        assert set(self._after) - set(self._before) or verb.replaced, f"{verb.name} made nothing"
        faults = library_faults(work)
        assert not faults, faults

    def kill(self, number: signal.Signals, moment: float) -> Kill:
        """End the command at a moment, and check everything."""
        result = Kill(self.verb.name, number, moment)
        self._reset()
        ended = run(self.verb.command, self.work, number, moment)
        result.ending_s = ended.ending_s
        result.finished = not ended.ending_s
        result.completed = bool(ended.ending_s) and ended.status == 0
        is_complete = ended.status == 0
        faults = result.faults
        result.unhandled = number is signal.SIGTERM and ended.status == -number and not ended.error
        result.unhandled = result.unhandled and file_names(self.work) == self._names_before
        if not is_complete and not result.unhandled:
            faults += _ending_faults(ended, number)
        try:
            faults += self._state_faults(self.verb.results(self.work), complete=is_complete)
        except Exception as error:
            faults.append(f"what was finished cannot be read: {type(error).__name__}: {error}")
        left = sorted(file_names(self.work) - self._names)
        unexpected = [name for name in left if not Path(name).name.startswith(TEMPORARY)]
        if number is not signal.SIGKILL or is_complete:
            unexpected = left
        faults += [f"left behind by the killed run: {name}" for name in unexpected]
        faults += self._next_run_faults()
        return result

    def _next_run_faults(self) -> list[str]:
        ended = run(self.verb.command, self.work)
        if ended.status not in self.verb.next_status:
            return [f"the next run ended with {ended.status}: {ended.error[-300:]}"]
        faults = [f"next run: {fault}" for fault in self._state_faults(self.verb.results(self.work), complete=True)]
        names = file_names(self.work)
        faults += [f"left behind after the next run: {name}" for name in sorted(names - self._names)]
        faults += [f"missing after the next run: {name}" for name in sorted(self._names - names)]
        return faults + [f"library: {fault}" for fault in library_faults(self.work)]

    def _state_faults(self, state: State, complete: bool) -> list[str]:
        """Differences from what was there before, and from what an undisturbed run makes."""
        faults = []
        for name, value in self._before.items():
            allowed = {value, self._after.get(name)} if name in self.verb.replaced and not complete else {self._after.get(name)}
            if state.get(name) not in allowed:
                faults.append(f"{name}, which was finished before, is {'changed' if name in state else 'lost'}")
        for name, value in state.items():
            if name not in self._before and value != self._after.get(name):
                faults.append(f"{name} is not what an undisturbed run makes")
        if complete:
            faults += [f"{name} is missing" for name in self._after if name not in state]
        return faults

    def _make_base(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        for name in ("notes.txt", ".hidden", ".abcdef01.nrrd"):
            (self.work / name).write_text("A file of the user's.", encoding="utf-8")
        for command in self.verb.before:
            ended = run(command, self.work)
            assert ended.status == 0, ended.error
        self._before, self._names_before = self.verb.results(self.work), file_names(self.work)
        self.work.rename(self._base)

    def _reset(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self._base, self.work)

    def _straight(self) -> Ended:
        ended = run(self.verb.command, self.work)
        assert ended.status == 0, ended.error
        return ended


def _ending_faults(ended: Ended, number: signal.Signals) -> list[str]:
    """Whether a killed command ended as it should: with its status, and one line in words."""
    faults = []
    if ended.status != STATUS[number]:
        faults.append(f"exit status {ended.status}, expected {STATUS[number]}: {ended.error[-500:]}")
    if number in WORDS:
        lines = [line for line in ended.error.splitlines() if line.strip()]
        if [line for line in lines if line.startswith(WORDS[number])] != lines[-1:]:
            faults.append(f"its last line is not the only one that says {WORDS[number]!r}: {ended.error[-500:]}")
    if "Traceback" in ended.error or "Exception ignored" in ended.error:
        faults.append(f"a traceback: {ended.error[-1500:]}")
    return faults
