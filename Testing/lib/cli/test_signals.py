"""Commands end quietly: by signals, when nobody reads the output, and on terminals with any code page."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and pipes")]
COMMAND = [sys.executable, "-W", "ignore", "-m", "CoralBayLib.cli"]


@pytest.fixture(autouse=True)
def heeded_interrupts():
    """Let the commands heed SIGINT, which what a shell starts in the background ignores, and the children of that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_reader_that_has_gone():
    for arguments in (["encoders"], ["encoders", "--json"], ["--help"]):
        read, write = os.pipe()
        os.close(read)
        process = subprocess.run([*COMMAND, *arguments], stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        assert process.stderr == ""
        assert process.returncode in (0, 141)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_command_cleanly(tmp_path, number, status):
    program = """
import sys, time
from pathlib import Path
from CoralBayLib.cli import encoders, main
from CoralBayLib.core.paths import atomic_write

def run(args, console):
    with atomic_write("out.nrrd") as temporary:
        temporary.write_text("x")
        print("ready", flush=True)
        time.sleep(60)

encoders.run = run
sys.exit(main(["encoders"]))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=pipe, stderr=pipe, text=True, cwd=tmp_path, env=environment
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _out, error = process.communicate(timeout=30)
    assert process.returncode == status
    assert "Traceback" not in error
    assert "coralbay: " in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "module", ["CoralBayLib.encoders.catalog", "numpy.linalg", "torch.serialization", "torch.nn.parameter"]
)
def test_interrupted_imports_leave_no_traceback(module):
    program = f"""
import os, signal, sys
from CoralBayLib.cli import main

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.exit(main(["weights", "list"]))
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert process.returncode == 130
    assert "Traceback" not in process.stderr
    assert "coralbay: " in process.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_code_page(tmp_path, encoding):
    name = os.fsdecode(b"M\xfcller-") + "\u0141\u00e4.nrrd"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    process = subprocess.run([*COMMAND, "embed", name], capture_output=True, env=environment, cwd=tmp_path)
    assert process.returncode == 1
    assert b"Traceback" not in process.stderr
    assert process.stderr.startswith(b"coralbay: ")


def interrupted(program, tmp_path):
    """Status and stderr of a command whose work is the function `run` of a program; it sends itself a signal."""
    head = "import os, signal, sys, time\nfrom CoralBayLib.cli import encoders, main\nme = os.getpid()\n"
    tail = "\nencoders.run = run\nsys.argv[1:] = ['encoders']\nsys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", head + program + tail]
    process = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60)
    assert "Traceback" not in process.stderr
    assert "Exception ignored" not in process.stderr
    return process.returncode, process.stderr.strip()


INTERRUPTED = (130, "coralbay: interrupted; no incomplete file was left behind.")
TERMINATED = (143, "coralbay: terminated; no incomplete file was left behind.")


def test_an_interrupted_import_is_not_taken_for_a_missing_package(tmp_path):
    program = """
from CoralBayLib.core.errors import LibraryError
def run(args, console):
    try:
        os.kill(me, signal.SIGTERM)
        time.sleep(60)
    except KeyboardInterrupt:
        raise LibraryError("LanceDB is not installed.")
"""
    assert interrupted(program, tmp_path) == TERMINATED


def test_an_interruption_that_was_swallowed_is_told(tmp_path):
    program = """
def run(args, console):
    try:
        os.kill(me, signal.SIGINT)
        time.sleep(60)
    except BaseException:
        return {}
"""
    assert interrupted(program, tmp_path) == INTERRUPTED


def test_a_signal_in_a_destructor_still_ends_the_command(tmp_path):
    program = """
class Thing:
    def __del__(self):
        os.kill(me, signal.SIGTERM)
        time.sleep(0.1)

def run(args, console):
    thing = Thing()
    del thing
    time.sleep(60)
"""
    assert interrupted(program, tmp_path) == TERMINATED


def test_the_same_signal_twice_does_not_end_the_cleaning_up(tmp_path):
    """As when a wrapper passes on what the terminal sends as well."""
    program = """
from CoralBayLib.core.paths import atomic_write
def run(args, console):
    with atomic_write("out.nrrd") as temporary:
        temporary.write_text("x")
        try:
            os.kill(me, signal.SIGINT)
            time.sleep(60)
        finally:
            os.kill(me, signal.SIGINT)
"""
    assert interrupted(program, tmp_path) == INTERRUPTED
    assert not list(tmp_path.iterdir())


def test_a_signal_after_the_end_changes_nothing(tmp_path):
    program = """
import atexit
def run(args, console):
    # As the libraries do that a command imports.
    atexit.register(lambda: (os.kill(me, signal.SIGINT), time.sleep(60)))
    return {}
"""
    assert interrupted(program, tmp_path) == (0, "")


def test_a_signal_after_all_exit_handlers_changes_nothing(tmp_path):
    """Python gives up its handlers before the process has ended."""
    program = """
class Late:
    def __del__(self):
        kill(me, number)
        sleep(0.1)

def run(args, console):
    # Modules are cleared last of all.
    sys.late, Late.__del__.__globals__["kill"] = Late(), os.kill
    Late.__del__.__globals__.update(number=signal.SIGTERM, sleep=time.sleep)
    return {}
"""
    assert interrupted(program, tmp_path) == (0, "")
