"""The command line as a whole: statuses that scripts can rely on, errors, old names of options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import CoralBayLib as cb
from CoralBayLib.cli import main
from CoralBayLib.cli.main import build_parser
from CoralBayLib.core.errors import Remedy, WeightsError
from Testing.lib.conftest import PoolingEncoder

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["embed", "nowhere.nrrd"], "VolumeError", "nowhere.nrrd"),
        (["embed", "CT", "--encoder", "no-such"], "EncoderError", "Known encoders"),
        (["segment", "CT"], "PromptError", "--prompts"),
        (["segment", "CT", "--encoder", "pooling", "--prompts", "CT"], "PromptError", ""),
        (["similar", "CT", "--encoder", "pooling", "--point=900,0,0"], "QueryError", "outside the volume"),
        (["cache", "remove", "abcdef"], "StoreError", "one is needed"),
    ],
)
def test_errors_go_to_stderr_with_status_1(run, ct, pooling_by_name, arguments, kind, words):
    status, out, err = run(*[ct if a == "CT" else a for a in arguments], "--json")
    assert status == 1
    assert json.loads(out)["kind"] == kind
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [[], ["similar", "ct.nrrd"], ["similar", "ct.nrrd", "--point", "1,2"], ["bake"]])
def test_wrong_usage_has_status_2(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        "segment ct.nrrd --prompts",
        "segment ct.nrrd --prompts p.json --output",
        "segment ct.nrrd --prompts p.json --locked",
        "segment ct.nrrd --prompts p.json --start",
        "segment ct.nrrd --prompts p.json --probe",
        "segment ct.nrrd --prompts p.json --encoder-file",
        "segment ct.nrrd --prompts p.json --weights",
        "segment ct.nrrd --prompts p.json --series",
        "embed ct.nrrd --server",
        "embed ct.nrrd --token-file",
        "embed",
        "cohort create cohort --structures liver",
        "cohort status",
        "library stats --library",
        "library evaluate --labels",
        "scans fit --target x --task regression",
        "scans fit table.csv --target x --task regression -o",
        "scans predict probe.safetensors",
        "demo -o",
    ],
)
def test_an_empty_value_is_wrong_usage(arguments, capsys, tmp_path, monkeypatch):
    """A variable that is not set in a script: without a lock or a start, the result would be another one without a word."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([*arguments.split(), ""])
    assert stop.value.code == 2
    assert "the value is empty" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_interrupt_has_status_130(run, ct, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("CoralBayLib.imaging.volume_io.read_volume", interrupted)
    assert main(["embed", str(ct)]) == 130


@pytest.mark.parametrize("why", ["the cache: nothing there", ""])
def test_auto_says_why_it_is_not_coralbay(run, ct, monkeypatch, why):
    """Where something else than their absence is wrong with the weights, another network is no answer."""

    def refuse(name, weights=None, **_):
        if name == "coralbay":
            raise WeightsError("No weights. Tried everything.", remedy=Remedy.GET_WEIGHTS if why else None, reason=why)
        return PoolingEncoder()

    monkeypatch.setattr("CoralBayLib.encoders.load_encoder", refuse)
    status, _, err = run("embed", ct)
    assert status == (0 if why else 1)
    assert why in err
    assert err.count("CoralBay-mini is used") == (1 if why else 0)
    assert ("Tried everything" in err) == (not why)


@pytest.mark.parametrize("options", [["--json"], []])
def test_an_error_comes_with_what_can_be_done_about_it(run, ct, options):
    status, out, err = run("embed", ct, "--encoder", "coralbay", "--device", "no-such", *options)
    assert status == 1
    assert "There is no device called 'no-such'" in err
    assert "Choose another device with --device" in err
    if options:
        assert json.loads(out)["remedy"] == "choose_device"


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        ("embed ct.nrrd", "--no-store", "--no-cache"),
        ("segment ct.nrrd", "--all-pieces", "--keep-all-components"),
        ("scans fit t.csv --target x --task classify", "--every-scan-another-patient", "--one-scan-per-patient"),
        ("library search --ct a --scan", "--in x y", "--include x y"),
        ("library search --ct a --scan", "--not-in x --not-in y", "--exclude x --exclude y"),
        ("library search --ct a --scan", "--others", "--exclude-query-scan"),
        ("library cluster", "--to x.csv", "--output x.csv"),
    ],
)
def test_options_work_under_their_old_names(command, old, new, capsys):
    parser = build_parser()
    before = parser.parse_args([*command.split(), *old.split()])
    assert before == parser.parse_args([*command.split(), *new.split()])
    assert before != parser.parse_args(command.split())
    with pytest.raises(SystemExit):
        parser.parse_args([*command.split()[: 1 + command.startswith(("scans", "library"))], "--help"])
    shown = capsys.readouterr().out
    assert new.split()[0] in shown
    assert f"{old.split()[0]} " not in shown


def test_every_option_and_argument_has_a_help_text():
    pending, seen = [build_parser()], 0
    while pending:
        for action in pending.pop()._actions:
            if isinstance(action.choices, dict):
                pending += action.choices.values()
            else:
                assert action.help, action
                seen += 1
    assert seen > 100


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "CoralBayLib.cli", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: coralbay")


def test_help_and_package_import_do_not_load_torch():
    code = (
        "import sys, CoralBayLib\n"
        "from CoralBayLib.cli.main import build_parser\n"
        "build_parser().format_help()\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "assert 'SimpleITK' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "CoralBayLib.cli", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        **options,
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("arguments", [("check", "ct.nrrd", "--json"), ("embed", "none.nrrd", "--json"), ("encoders",)])
def test_an_output_that_cannot_be_written(ct, arguments):
    with Path("/dev/full").open("w") as full:
        done = command(*arguments, stdout=full, cwd=ct.parent, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert done.stderr.startswith("coralbay: ")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="closes a file descriptor before the start, as POSIX shells do")
@pytest.mark.parametrize("arguments", [("check", "ct.nrrd"), ("check", "ct.nrrd", "--json"), ("encoders",)])
def test_a_closed_stdout(ct, arguments):
    done = command(*arguments, cwd=ct.parent, preexec_fn=lambda: os.close(1), env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="closes a file descriptor before the start, as POSIX shells do")
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_closed_stream(ct, prompts, tmp_path, number):
    """A command that draws a progress bar, and has notes to tell, does its work without stdin, stdout or stderr."""
    arguments = ("segment", ct, "--prompts", prompts, "--encoder", "coralbay-mini", "-o", tmp_path / "out.seg.nrrd")
    done = command(*arguments, cwd=tmp_path, preexec_fn=lambda: os.close(number), env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert cb.read_segmentation(tmp_path / "out.seg.nrrd")[0].array.any()


def test_a_deleted_folder(run, tmp_path, monkeypatch):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    status, _out, error = run("encoders")
    assert status == 1
    assert error == "coralbay: The current folder was deleted. Go to another (cd), and run the command again.\n"


@pytest.mark.parametrize("columns", ["0", "1", "20", "200"])
def test_words_are_not_broken_by_a_narrow_terminal(run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    _status, out, _error = run("encoders", "coralbay-mini")
    assert "\n                   r\n" not in out
    assert all(word in out for word in ("weights", "license", "parameters"))
    assert min(len(line) for line in out.splitlines()[1:-1]) > 12


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_among_scans_is_not_waited_for(run, ct, tmp_path):
    os.mkfifo(tmp_path / "pipe.nrrd")
    os.mkfifo(tmp_path / "pipe")
    status, out, _error = run("check", tmp_path)
    assert (status, "Scans that can be used: 1" in out) == (0, True)
    status, _out, error = run("embed", tmp_path / "pipe.nrrd")
    assert (status, "a device or a pipe" in error) == (1, True)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")]
)
def test_too_little_memory(run, ct, monkeypatch, error):
    def read(*_, **__):
        raise error

    monkeypatch.setattr("CoralBayLib.imaging.volume_io.read_volume", read)
    status, _out, said = run("embed", ct)
    assert (status, said) == (1, "coralbay: There is too little memory. Close other programs, or use a smaller scan.\n")
