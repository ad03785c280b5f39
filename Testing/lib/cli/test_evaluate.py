"""`coralbay evaluate`: its table, files and messages, from a folder of phantoms."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import CoralBayLib as cb
from CoralBayLib.core.notice import NOTICE
from CoralBayLib.encoders import plugins, registry
from Testing.lib.evaluation.conftest import ThresholdMethod, patients

__all__ = ["patients"]


@pytest.fixture
def stand_in(monkeypatch, pooling_by_name):
    monkeypatch.setattr("CoralBayLib.evaluation.probe_method.ProbeMethod", ThresholdMethod)


def test_a_folder_is_evaluated(run, patients, stand_in, tmp_path):
    out = tmp_path / "out"
    (patients / "empty").mkdir()
    (patients / "p9").mkdir()
    cb.write_volume(cb.read_volume(patients / "p0" / "ct.nii.gz"), patients / "p9" / "ct.nii.gz")
    command = ("evaluate", patients, "--encoders", "pooling,pooling", "--test", "2", "--shots", "1,2,50", "-o", out)
    status, stdout, stderr = run(*command)
    assert status == 0, stderr
    assert "| bright ball" in stdout and "### pooling" in stdout and NOTICE in stdout
    assert "p9: There are no labels of this scan." in stderr and "empty" not in stderr
    assert "Left out: 50 labeled patients, because there are too few patients." in stderr
    assert "draws differ, because there are too few patients" in stderr
    assert {path.name for path in out.iterdir()} >= {"results.jsonl", "evaluation.json", "evaluation.md"}
    report = json.loads((out / "evaluation.json").read_text())
    assert report["structures"] == ["bright ball", "dark ball"] and len(report["test"]) == 2
    assert report["patients"]["p1"] == {"looked_for": ["bright ball"], "present": ["bright ball"]}
    assert [each["name"] for each in report["encoders"]] == ["pooling"]
    assert (out / "evaluation.md").read_text() in stdout
    # Again, for a program: nothing is computed anew.
    before = (out / "results.jsonl").read_text()
    status, stdout, _ = run(*command, "--json")
    read = json.loads(stdout)
    assert status == 0 and read["notice"] == NOTICE and read["summary"] == report["summary"]
    assert (out / "results.jsonl").read_text() == before


def test_the_picture_needs_matplotlib(run, patients, stand_in, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    options = ("--encoders", "pooling", "--test", "0.2", "--shots", "1", "--draws", "1", "--no-cache")
    status, stdout, stderr = run("evaluate", patients, *options, "-o", tmp_path / "out")
    assert status == 0 and "matplotlib is not installed" in stderr and "evaluation.png" not in stdout
    assert not (tmp_path / "out" / "evaluation.png").exists()
    assert not list(cb.Store().entries())


def test_encoders_of_several_files_are_compared(run, patients, stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    monkeypatch.setattr(plugins, "_files", {})
    files = [tmp_path / f"{name}.py" for name in ("mine", "yours")]
    for file in files:
        file.write_text(
            "from CoralBayLib.encoders import EncoderCard, register_encoder\n"
            "from Testing.lib.conftest import PoolingEncoder\n"
            f"class Own(PoolingEncoder):\n    name = '{file.stem}'\n"
            f"register_encoder(EncoderCard('{file.stem}', 'Own', ''))(lambda **_: Own())\n"
        )
    options = ("--encoder-file", files[0], "--encoder-file", files[1], "--test", "2", "--shots", "1", "--draws", "1", "--json")
    for chosen, names in (((), ["mine", "yours"]), (("--encoders", "yours,pooling"), ["yours", "pooling"])):
        status, _, stderr = run("evaluate", patients, *options, *chosen, "-o", tmp_path / "out")
        assert status == 0, stderr
        report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
        assert [each["name"] for each in report["encoders"]] == names


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--structures", "liver"), "No patient has a structure named 'liver'"),
        (("--test", "5"), "5 of 5 patients cannot be kept for the test"),
        (("--shots", "7"), "too few to learn from 7"),
        (("--draws", "0"), "at least one draw"),
        (("--encoders", "none"), "none"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(run, patients, stand_in, tmp_path, options, words):
    status, _, stderr = run("evaluate", patients, "--encoders", "pooling", *options, "-o", tmp_path / "out")
    assert status == 1 and words in stderr


def test_advice_names_options_that_the_command_has(run, patients, tmp_path):
    status, _, stderr = run("evaluate", patients, "--encoders", "coralbay", "-o", tmp_path / "out", "--shots", "1")
    assert status == 1 and "--encoders coralbay-mini" in stderr and "--weights" not in stderr and "--encoder " not in stderr


def test_numbers_of_patients_must_be_numbers(run, patients, capsys):
    with pytest.raises(SystemExit):
        run("evaluate", patients, "--shots", "1,two")
    assert "not numbers of patients" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_interruption_keeps_what_is_finished(patients, tmp_path):
    """With the probe and the encoder that come with CoralBay, as a person would run it."""
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "CoralBayLib.cli",
        "evaluate",
        str(patients),
        "--encoders",
        "coralbay-mini",
    ]
    command += ["--shots", "1", "--draws", "2", "--test", "3", "-o", str(out), "--structures", "bright ball"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    while process.poll() is None and not (out / "results.jsonl").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "finished tests are in" in stderr and "Traceback" not in stderr
    kept = (out / "results.jsonl").read_text().splitlines()
    assert kept and not (out / "evaluation.json").exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (out / "results.jsonl").read_text().splitlines()[: len(kept)] == kept
    assert "| bright ball" in done.stdout
