"""A process that damages inputs and uses them, one after the other, until it is told to end, dies, or is ended."""

from __future__ import annotations

import gc
import os
import random
import shutil
import sys
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

RIGHT, OTHER, SILENT, REFUSED, EXCEPTION = "right", "other content", "silently different", "refused", "exception"
ABORT, HANG, MEMORY = "abort", "hang", "memory"

_RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "pty.spawn")
"""Events of Python's audit hooks that no damaged file may cause."""
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod")
"""Events that no damaged file may cause outside of the folder of its process; and opening a file to write it."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        kind, number: of the input; with the seed, they give the same input again.
        mutation: what was done to which file.
        state: one of the words above.
        error: type and message of what was raised.
        peak_mb: most memory of the process, in MB.
        stray: files that were left behind, or were changed besides the damaged one.
        ran: programs that were started, and files that were changed outside of the folder of the process.
    """

    kind: str
    number: int
    mutation: str
    state: str
    error: str = ""
    peak_mb: float = 0.0
    stray: tuple[str, ...] = ()
    ran: tuple[str, ...] = ()


class Bench:
    """The inputs of one process, each in a folder of its own.

    Args:
        root: an empty folder of this process.
        seed: of all mutations.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.seed = root, seed
        self._kind = ""
        self._folder = root
        self._input: Any = None
        self._expected = ""
        self._content: dict[Path, bytes] = {}
        self._ran: list[str] = []
        self._watching = False
        self._damaged = root
        self._vouched = False
        self.shown = ""
        for name in ("home", "tmp", "cache", "data"):
            (root / name).mkdir()
        os.environ.update(
            HOME=str(root / "home"), TMPDIR=str(root / "tmp"), CORALBAY_CACHE=str(root / "cache"), HF_HUB_OFFLINE="1"
        )
        os.chdir(root / "tmp")
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        if event in _RUNS:
            self._ran.append(event)
        elif event in _CHANGES or (event == "open" and arguments[2] & _WRITES):
            for path in arguments[:2] if event in ("os.rename", "os.symlink", "os.link") else arguments[:1]:
                if isinstance(path, (str, bytes, os.PathLike)) and not self._is_own(os.fsdecode(path)):
                    self._ran.append(f"{event} {os.fsdecode(path)}")

    def _is_own(self, path: str) -> bool:
        return os.path.abspath(path).startswith(f"{self.root}{os.sep}") or path == os.devnull  # noqa: PTH100

    def prepare(self, kind: str) -> None:
        """Make the input of a kind, unless it is at hand."""
        from . import KINDS
        from .kinds import fingerprint

        if kind == self._kind:
            return
        shutil.rmtree(self.root / "data")
        self._folder = self.root / "data"
        self._folder.mkdir()
        self._kind, self._input = kind, KINDS[kind](self._folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._expected = fingerprint(self._input.use())
            # Some results tell how they were come by, the first time.
            assert fingerprint(self._input.use()) == self._expected, f"{kind}: two results of the same input differ"
        self._content = {path: path.read_bytes() for path in self._files()}

    def _files(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file() or path.is_symlink())

    def damage(self, kind: str, number: int) -> None:
        """Make an input of a kind, damaged by the mutation of a number."""
        from .mutations import first_difference, mutated

        self.prepare(kind)
        chance = random.Random(f"{self.seed} {kind} {number}")
        path = chance.choice(self._input.files)
        whole = self._content[path]
        name, data, edited = mutated(whole, chance, self._input.edits_of(path))
        begin = self._input.vouched(path)
        # What was edited in a file that is vouched for as a whole has the checksum of before, unless its name says more.
        vouched = begin == 0 if edited else 0 <= begin <= first_difference(whole, data)
        self._damaged = path
        self._vouched = vouched and not name.endswith((" in gzip", "without_checksum"))
        self.shown = f"{name} {path.relative_to(self._folder)}"
        path.write_bytes(data)

    def use(self, kind: str, number: int) -> Outcome:
        """Use the damaged input, and make it whole again."""
        from .kinds import fingerprint

        path = self._damaged
        before = {each: each.stat() for each in self._content}
        _reset_peak()
        state, words = EXCEPTION, ""
        self._ran, self._watching = [], True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = fingerprint(self._input.use())
                state = RIGHT if found == self._expected else SILENT if self._vouched else OTHER
            except BaseException as error:
                state, words = _judged(error)
        self._watching = False
        peak = _peak_mb()
        stray = self._restored(path, before)
        return Outcome(kind, number, self.shown, state, words, peak, tuple(stray), tuple(self._ran))

    def _restored(self, damaged: Path, before: dict[Path, os.stat_result]) -> list[str]:
        """Make all files as they were; gives those that are stray or were changed."""
        stray = []
        now = self._files()
        for path in now:
            if path not in self._content:
                if path.name not in self._input.may_leave:
                    stray.append(f"left {path.relative_to(self.root)}")
                path.unlink()
        for path, whole in self._content.items():
            there = path in now
            changed = not there or (path.stat().st_mtime_ns, path.stat().st_size) != (
                before[path].st_mtime_ns,
                before[path].st_size,
            )
            if changed and path.name not in self._input.may_leave and not (self._input.may_change and path == damaged):
                stray.append(f"{'changed' if there else 'removed'} {path.relative_to(self.root)}")
            if changed or path == damaged:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(whole)
        return stray


def _judged(error: BaseException) -> tuple[str, str]:
    """The state for an error, and its words: those of CoralBay are sentences, and name no Python type."""
    from CoralBayLib.core.errors import CoralBayError

    words = f"{type(error).__name__}: {error}"[:600]
    if isinstance(error, (KeyboardInterrupt, SystemExit)) or not isinstance(error, CoralBayError) or not str(error).strip():
        return EXCEPTION, words
    return REFUSED, words


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        gc.collect()


def _peak_mb() -> float:
    """Most memory since it was last reset; 0 where the operating system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def log_of(root: str) -> str:
    """The file, beside the folder of a process, that takes what the process prints as errors."""
    return f"{root}.log"


def serve(connection: Connection, root: str, seed: int) -> None:
    """Answer (kind, number) with outcomes; None ends it."""
    import faulthandler
    import resource

    import torch

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What libraries print of damaged files is of no use; what faulthandler prints of a crash is read by the pool.
    with Path(log_of(root)).open("wb") as log:
        os.dup2(log.fileno(), 2)
    faulthandler.enable()
    torch.set_num_threads(1)
    bench = Bench(Path(root), seed)
    while (task := connection.recv()) is not None:
        kind, number = task
        try:
            bench.damage(kind, number)
        except Exception:
            connection.send(f"{kind} #{number} could not be made:\n{traceback.format_exc()}")
            continue
        connection.send(bench.shown)
        connection.send(bench.use(kind, number))
