"""What one click costs: moves between files while it is handled, and the time it takes on the main thread.

The module runs on the test host with a phantom. Two processes measure the same clicks into a slice view:

- trace: one click under a profile function. A move is a call from one file of CoralBayLib or CoralBaySlicerCore to
  another, on the main thread and on the workers. Calls through the standard library, Qt or VTK count as calls of the
  nearest file below them on the stack. The event loop counts as "outside".
- time: ten clicks without a profile function. Every function of CoralBaySlicerCore adds the processor time that it takes
  on the main thread to one part: the part that `PARTS` names for it, else its caller's. Time inside Qt and VTK counts
  where it was called. The click ends when no function of the module has run for `QUIET_S`.

The file needs nothing but the test host. Copied into an older state of the project, and run with PYTHONPATH naming that
folder, it measures that state.

Usage: python -m Testing.benchmarks.click [--encoder coralbay-mini] [--structures 1] [--clicks 10] [--pairs]
"""

from __future__ import annotations

import argparse
import functools
import importlib.abc
import importlib.machinery
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
WATCHED = (str(ROOT / "CoralBayLib") + os.sep, str(ROOT / "CoralBaySlicer") + os.sep)
QUIET_S = 0.4
OUTSIDE = "outside"
REST = "rest"
PARTS = {
    "settings": "settings:* *:weights_file *:weights_stamp install:device packages:device",
    "package checks": "install:* packages:*",
    "reading prompts": "structures:* segments:* *:points *:prompts *:read_prompts",
    "showing": "look:* preview_display:* overlay:* overlays:* labellayer:* label_layer:* hidden:* hidden_nodes:* colors:* "
    "widget:* module_panel:* activity:* base:* *:refresh *:show *:colours *:colors *:changed",
}
"""By part its functions, as `file:function` without the suffix; the first pattern that fits counts. Names of the old tree
and of the new one stand side by side."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="coralbay-mini")
    parser.add_argument("--structures", type=int, default=1)
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--pairs", action="store_true", help="also print the calls from file to file")
    parser.add_argument("--only", choices=("trace", "time"), help="run this alone, in this process, and print JSON")
    args = parser.parse_args()
    if args.only:
        found = measure(args)
        print(json.dumps(found), flush=True)
        import host

        host.leave()
    command = [sys.executable, "-m", "Testing.benchmarks.click", *sys.argv[1:], "--only"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for part, report in (("trace", report_trace), ("time", report_time)):
        done = subprocess.run([*command, part], env=environment, capture_output=True, text=True, check=False)
        if not done.stdout.strip():
            raise SystemExit(done.stderr)
        report(json.loads(done.stdout.strip().splitlines()[-1]))


def measure(args: argparse.Namespace) -> dict:
    """One of the two measurements, in this process."""
    sys.path.insert(0, str(ROOT / "Testing"))
    clock, trace = Clock(), Trace()
    if args.only == "trace":
        threading.setprofile(trace.event)
    else:
        sys.meta_path.insert(0, Timer(clock))
    import host

    with tempfile.TemporaryDirectory() as folder:
        os.environ["CORALBAY_CACHE"] = folder
        host.start()
        session = Session(args, clock, trace)
        session.warm_up()
        if args.only == "trace":
            sys.setprofile(trace.event)
            trace.on = True
            session.click(session.place())
            trace.on = False
            sys.setprofile(None)
            result = trace.result()
        else:
            result = {"clicks": [session.click(session.place()) for _ in range(args.clicks)]}
        if host.unhandled or host.dialogs.texts("error"):
            raise SystemExit("\n".join([*host.unhandled, *host.dialogs.texts("error")]))
    return result | {"load": os.getloadavg()[0], "structures": args.structures, "encoder": args.encoder, "pairs": args.pairs}


class Session:
    """The module with a scan, its embeddings and some prompts."""

    def __init__(self, args: argparse.Namespace, clock: Clock, trace: Trace) -> None:
        import host
        import slicer
        from host import mouse

        self.host, self.mouse, self.clock, self.trace, self.args = host, mouse, clock, trace, args
        self.random = np.random.default_rng(0)
        self.widget = host.load_module(ROOT / "CoralBaySlicer" / "CoralBaySlicer.py")
        self.widget.logic.getParameterNode().encoder = args.encoder
        host.process_events(0.05)
        node, self.centres, self.radius = phantom(args.structures)
        slicer.util.setSliceViewerLayers(background=node, fit=True)
        self._child("volumeSelector").setCurrentNode(node)
        self._settle()
        if self._child("computeButton").enabled:
            mouse.press(self._child("computeButton"))
        self._settle()

    def warm_up(self) -> None:
        """Mark each structure and some background, and leave the first structure active."""
        for centre in self.centres:
            self.mouse.press(self._child("addStructureButton"))
            for offset in ([0, 0, 0], [0.4, 0.3, 0]):
                self._click_at(centre + np.multiply(offset, self.radius))
        self.mouse.key("0")
        for offset in ([-2.5, 0, 0], [0, 2.5, 0], [0, -2.5, 0]):
            self._click_at(self.centres[0] + np.multiply(offset, self.radius))
        self.mouse.key("1")
        self._settle()
        for _ in range(2):
            self._click_at(self.place())

    def place(self) -> np.ndarray:
        """A place in the first structure that was not clicked before, RAS mm."""
        angle, away = self.random.uniform(0, 2 * np.pi), self.radius * self.random.uniform(0.1, 0.7)
        return self.centres[0] + [away * np.cos(angle), away * np.sin(angle), 0]

    def click(self, place: np.ndarray) -> dict:
        """Click in the axial view; milliseconds of the main thread's processor by part, and two by the clock."""
        jump(place)
        self._settle()
        self.clock.start()
        begin = time.perf_counter()
        self.mouse.click_view("Red", place)
        self._settle()
        found = {part: 1000 * seconds for part, seconds in self.clock.stop().items()}
        return {"parts": found, "busy": 1000 * self.clock.busy, "until": 1000 * (self.clock.last - begin)}

    def _click_at(self, place: np.ndarray) -> None:
        jump(place)
        self.mouse.click_view("Red", place)
        self._settle()

    def _settle(self) -> None:
        """Run the event loop until the module has been quiet for a while."""
        start = time.perf_counter()
        while time.perf_counter() - max(self.clock.last, self.trace.last, start) < QUIET_S or self._busy():
            self.host.process_events(0.005)

    def _busy(self) -> bool:
        logic = self.widget.logic
        return any(each is not None and each.busy for each in (getattr(logic, name, None) for name in ("worker", "reader")))

    def _child(self, name: str) -> Any:
        import slicer
        from PySide6 import QtWidgets

        return slicer.util.mainWindow().findChild(QtWidgets.QWidget, name)


def phantom(structures: int) -> tuple[Any, list[np.ndarray], float]:
    """A volume node with soft tissue in air and as many balls, their centres (RAS mm) and radius (mm)."""
    import slicer

    shape, spacing, radius = (60, 96, 96), 2.0, 10.0
    middle = spacing * (np.array(shape[::-1]) - 1) / 2
    ras = np.moveaxis(np.indices(shape)[::-1], 0, -1) * spacing - middle
    random = np.random.default_rng(0)
    values = np.where((ras[..., 0] / 85) ** 2 + (ras[..., 1] / 70) ** 2 < 1, 40.0, -1000.0)
    columns = max(1, int(np.ceil(np.sqrt(structures))))
    centres = []
    for number in range(structures):
        row, column = divmod(number, columns)
        centres.append(np.array([28.0 * (column - (columns - 1) / 2), 28.0 * (row - (columns - 1) / 2), 0.0]))
        values[np.linalg.norm(ras - centres[-1], axis=-1) < radius] = 140.0 + 60 * number
    values += random.normal(0, 12, shape)
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = -middle
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Phantom")
    node.CreateDefaultDisplayNodes()
    slicer.util.updateVolumeFromArray(node, values.astype(np.int16))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return node, centres, radius


def jump(place: np.ndarray) -> None:
    """Show the slices through a place."""
    import slicer

    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        view.JumpSliceByOffsetting(*place)


class Clock:
    """Adds up the main thread's processor time by part.

    Attributes:
        last: when the module's last function ended, by the clock.
        busy: seconds by the clock for which functions of the module ran.
    """

    def __init__(self) -> None:
        self.last = self.busy = 0.0
        self._main = threading.get_ident()
        self._stack: list[str] = []
        self._since = self._begun = 0.0
        self._seconds: Counter[str] = Counter()

    def start(self) -> None:
        """From zero."""
        self._seconds = Counter()
        self.busy = 0.0

    def stop(self) -> dict[str, float]:
        """Seconds by part."""
        return dict(self._seconds)

    def wrap(self, function: FunctionType, part: str | None) -> FunctionType:
        """The function, timed."""
        stack, spent, main, ident = self._stack, time.thread_time, self._main, threading.get_ident

        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            if ident() != main:
                return function(*args, **options)
            now = spent()
            if stack:
                self._seconds[stack[-1]] += now - self._since
            else:
                self._begun = time.perf_counter()
            stack.append(part or (stack[-1] if stack else REST))
            self._since = now
            try:
                return function(*args, **options)
            finally:
                now = spent()
                self._seconds[stack.pop()] += now - self._since
                self._since = now
                if not stack:
                    self.last = time.perf_counter()
                    self.busy += self.last - self._begun

        return timed


class Timer(importlib.abc.MetaPathFinder):
    """Times the functions of CoralBaySlicerCore's modules as they are imported."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """The usual spec, with a loader that wraps functions after the module has run."""
        if not name.startswith("CoralBaySlicerCore"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                self._wrap_all(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _wrap_all(self, module: ModuleType) -> None:
        for name, found in list(vars(module).items()):
            if getattr(found, "__module__", None) != module.__name__:
                continue
            if isinstance(found, FunctionType):
                setattr(module, name, self._wrapped(found, module))
            elif isinstance(found, type):
                self._wrap_class(found, module)

    def _wrap_class(self, cls: type, module: ModuleType) -> None:
        for name, member in list(vars(cls).items()):
            if name.startswith("__"):
                continue
            if isinstance(member, FunctionType):
                setattr(cls, name, self._wrapped(member, module))
            elif isinstance(member, property) and member.fget is not None:
                setter = member.fset and self._wrapped(member.fset, module)
                setattr(cls, name, property(self._wrapped(member.fget, module), setter, member.fdel, member.__doc__))

    def _wrapped(self, function: Any, module: ModuleType) -> Any:
        if not isinstance(function, FunctionType) or function.__code__.co_filename != module.__file__:
            return function
        if inspect.isgeneratorfunction(function):
            return function
        return self.clock.wrap(function, part_of(Path(module.__file__).stem, function.__name__))


def part_of(file: str, function: str) -> str | None:
    """The part that a function belongs to; None for its caller's."""
    for part, patterns in PARTS.items():
        for pattern in patterns.split():
            stem, name = pattern.split(":")
            if stem in ("*", file) and name in ("*", function):
                return part
    return None


class Trace:
    """Counts calls from file to file while it is on; `last` is when a watched function was last called or left."""

    def __init__(self) -> None:
        self.on = False
        self.last = 0.0
        self.moves: dict[str, Counter[tuple[str, str]]] = {"main": Counter(), "worker": Counter()}
        self._main = threading.get_ident()
        self._generators: set[FrameType] = set()
        self._names: dict[CodeType, str | None] = {}

    def event(self, frame: FrameType, kind: str, _argument: Any) -> None:
        """What the interpreter calls."""
        if not self.on or kind != "call":
            return
        name = self._file(frame.f_code)
        if name is None or self._resumed(frame):
            return
        self.last = time.perf_counter()
        caller, above = frame.f_back, None
        while caller is not None and (above := self._file(caller.f_code)) is None:
            caller = caller.f_back
        if above != name:
            thread = "main" if threading.get_ident() == self._main else "worker"
            self.moves[thread][above or OUTSIDE, name] += 1

    def _file(self, code: CodeType) -> str | None:
        """The file without the project's folder; None for files that are not watched and for a module's own run."""
        if code not in self._names:
            watched = code.co_filename.startswith(WATCHED) and code.co_name != "<module>"
            self._names[code] = str(Path(code.co_filename).relative_to(ROOT)) if watched else None
        return self._names[code]

    def _resumed(self, frame: FrameType) -> bool:
        """Whether a generator goes on, which is no call."""
        if not frame.f_code.co_flags & inspect.CO_GENERATOR:
            return False
        known = frame in self._generators
        self._generators.add(frame)
        return known

    def result(self) -> dict:
        """Plain data."""
        return {thread: [[*pair, count] for pair, count in moves.items()] for thread, moves in self.moves.items()}


def report_trace(found: dict) -> None:
    """Print moves and entries."""
    about = f"{found['structures']} structure(s), {found['encoder']}, load {found['load']:.1f}"
    print(f"One click: {about}")
    for thread in ("main", "worker"):
        inner = [(a, b, n) for a, b, n in found[thread] if a != OUTSIDE]
        entries: Counter[str] = Counter()
        for _, to, count in found[thread]:
            entries[to] += count
        outside = sum(n for a, _, n in found[thread] if a == OUTSIDE)
        print(
            f"\n{thread} thread: {sum(n for *_, n in inner)} moves between files, {len(inner)} different ones, "
            f"{outside} entries from outside, {len(entries)} files"
        )
        for name, count in entries.most_common():
            print(f"  {count:5d}  {name}")
        for caller, to, count in sorted(found[thread], key=lambda move: -move[2]) if found["pairs"] else ():
            print(f"  {count:5d}  {caller} -> {to}")


def report_time(found: dict) -> None:
    """Print medians."""
    clicks = found["clicks"]
    print(f"\nMain thread, {len(clicks)} clicks, median (least to most), load {found['load']:.1f}")
    rows: dict[str, list[float]] = {part: [each["parts"].get(part, 0.0) for each in clicks] for part in (*PARTS, REST)}
    rows["all"] = [sum(each["parts"].values()) for each in clicks]
    rows = {f"{name}, processor ms": values for name, values in rows.items()}
    rows["all, ms by the clock"] = [each["busy"] for each in clicks]
    rows["until all is shown, ms by the clock"] = [each["until"] for each in clicks]
    for name, values in rows.items():
        print(f"  {name:36} {statistics.median(values):7.2f}  ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
