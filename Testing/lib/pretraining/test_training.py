"""A whole training of a small network: what it writes, and that it goes on as if it had not been ended."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import socket
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

import CoralBayLib as cb
from CoralBayLib.cli import main
from CoralBayLib.encoders.cards import read_card
from CoralBayLib.pretraining.network import Student, initial_backbone, make_teacher, parameter_groups
from CoralBayLib.pretraining.settings import Settings

from .conftest import SMALL
from .processes import start

pytestmark = pytest.mark.slow

pytest.importorskip("lightning", reason="lightning is not installed; the developer's packages have it")

STEPS = 2
MANY_STEPS = 12


def command(scans, output, *options, steps: int = STEPS) -> list[str]:
    return [str(each) for each in ("pretrain", scans, "-o", output, *SMALL, "--steps", steps, *options)]


def train(scans, output, *options, end: signal.Signals | None = None, after: int = 0) -> tuple[int, str]:
    """Run it as a process of its own; `end` is sent to it when `after` rows of the curves were written.

    Returns:
        The exit status, negative for a signal, and what was printed.
    """
    log = output.with_suffix(".log")
    process = start(command(scans, output, "--save-minutes", 0, *options, steps=MANY_STEPS), log)
    while end is not None and process.is_alive():
        if len(rows(output)) >= after:
            os.kill(process.pid, end)
            break
        time.sleep(0.02)
    process.join()
    return process.exitcode, log.read_text()


def rows(output) -> list[dict[str, str]]:
    path = output.with_name(f"{output.stem}.pretrain") / "curves.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same(one, other):
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    assert rows(one) == rows(other)


def test_killed_and_continued_equals_uninterrupted(scans, tmp_path):
    """A process is killed at a random step, and another one is asked to end; both give, bit for bit, what a third one gives."""
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    status, told = train(scans, whole)
    assert status == 0, told
    assert len(rows(whole)) == MANY_STEPS
    step = random.randrange(1, MANY_STEPS // 2)
    assert train(scans, killed, end=signal.SIGKILL, after=step)[0] == -signal.SIGKILL
    status, told = train(scans, killed, end=signal.SIGTERM, after=len(rows(killed)) + 1)
    assert status == 143 and "Stopped after step" in told, told
    status, told = train(scans, killed, "--resume")
    assert status == 0, told
    assert_same(whole, killed)


def test_stopped_and_continued_equals_uninterrupted(scans, tmp_path, capsys):
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    assert main(command(scans, whole)) == 0
    for done in range(1, STEPS + 1):
        assert main(command(scans, stopped, "--stop-minutes", 0)) == 0
        assert len(rows(stopped)) == done
    assert_same(whole, stopped)
    # Nothing is left to do.
    assert main(command(scans, stopped)) == 0
    assert_same(whole, stopped)


def test_two_processes_share_the_work_of_one(scans, tmp_path):
    """Lightning would start the second one; here each is started as Lightning does it."""
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    shared = ("--batch", 2, "--device", "cpu")
    status, told = train(scans, one, *shared)
    assert status == 0, told
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = command(scans, two, *shared, "--devices", 2, steps=MANY_STEPS)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    first = start(words, tmp_path / "first.log", LOCAL_RANK=0, **where)
    while first.is_alive() and not (tmp_path / "two.pretrain" / "training.json").is_file():
        time.sleep(0.02)
    second = start(words, tmp_path / "second.log", LOCAL_RANK=1, **where)
    for process in (first, second):
        process.join()
    assert (first.exitcode, second.exitcode) == (0, 0), (tmp_path / "first.log").read_text()
    assert len(rows(two)) == MANY_STEPS
    for alone, together in zip(rows(one), rows(two), strict=True):
        for name in ("loss", "entropy", "spread", "used"):
            assert float(alone[name]) == pytest.approx(float(together[name]), rel=0.02), name


def test_weights_and_cards_are_read_by_every_loader(scans, tmp_path, capsys):
    output = tmp_path / "mine.safetensors"
    assert main(command(scans, output, "--stop-minutes", 0, "--checkpointing")) == 0
    out, err = capsys.readouterr()
    assert "1 of 2 steps on 2 scans" in out
    assert "small.nrrd: It is too small" in err and "damaged.nrrd" in err and "Stopped after step 1" in err
    card = read_card(output.with_suffix(".json"))
    assert card.name == "mine" and card.embedding_size == 23 * 12 and "2 CTs" in card.summary
    assert "initial weights | random" in output.with_suffix(".md").read_text()

    volume = cb.read_volume(scans / "ct0.nii.gz")
    features = cb.embed(volume, cb.load_encoder("coralbay-mini", output, "cpu"))
    assert features.scan_embedding is not None and features.scan_embedding.shape == (card.embedding_size,)
    assert [level.channels for level in features.levels] == [level.channels for level in card.levels]
    assert main(["embed", str(scans / "ct0.nii.gz"), "--encoder-file", str(output.with_suffix(".py")), "--no-cache"]) == 0
    assert capsys.readouterr().out.startswith("mine: ")
    with pytest.raises(cb.CoralBayError, match=r"expected|does not fit"):
        cb.load_encoder("astra", output, "cpu")


def test_other_settings_and_a_taken_name_are_refused(scans, tmp_path, capsys):
    output = tmp_path / "mine.safetensors"
    assert main(command(scans, output, "--stop-minutes", 0)) == 0
    assert main(command(scans, output, "--seed", 3)) == 1
    assert "seed 0 (now 3)" in capsys.readouterr().err
    (tmp_path / "other.safetensors").write_bytes(b"mine")
    assert main(command(scans, tmp_path / "other.safetensors")) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "other.safetensors").read_bytes() == b"mine"


def test_going_on_needs_neither_the_scans_nor_the_initial_weights(scans, tmp_path, capsys):
    initial, other = tmp_path / "initial.safetensors", tmp_path / "other.safetensors"
    for path, seed in ((initial, 0), (other, 1)):
        network = initial_backbone(Settings(init="random", feature_size=12, seed=seed))[0]
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    output = tmp_path / "mine.safetensors"
    words = [str(each) for each in ("pretrain", scans, "-o", output, *SMALL[4:], "--steps", 3, "--stop-minutes", 0)]
    assert main([*words, "--init", "coralbay-mini", "--weights", str(initial)]) == 0
    goes_on = ["pretrain", "-o", str(output), "--resume", "--stop-minutes", "0"]
    assert main([*goes_on, "--weights", str(other)]) == 1
    assert "began with other initial weights" in capsys.readouterr().err
    initial.unlink()
    shutil.rmtree(scans)
    assert main(goes_on) == 0
    assert "Other scans are not looked for" in capsys.readouterr().err
    assert len(rows(output)) == 2


def test_options_that_contradict_the_settings_are_refused_when_it_goes_on(scans, tmp_path, capsys):
    output = tmp_path / "mine.safetensors"
    assert main(command(scans, output, "--stop-minutes", 0)) == 0
    goes_on = ["pretrain", "-o", str(output), "--resume"]
    assert main([*goes_on, "--steps", "9"]) == 1
    assert "steps 2 (now 9)" in capsys.readouterr().err
    assert main([*goes_on, "--init", "coralbay"]) == 1
    assert "init random (now coralbay)" in capsys.readouterr().err
    assert main([*goes_on, "--steps", str(STEPS)]) == 0


def test_a_step_that_is_not_finite_changes_no_weights(scans, tmp_path, capsys):
    output = tmp_path / "mine.safetensors"
    assert main(command(scans, output, "--lr", 1e12, "--save-minutes", 0, steps=10)) == 1
    assert "not a finite number" in capsys.readouterr().err
    assert all(torch.isfinite(value).all() for value in load_file(output).values())
    state = torch.load(tmp_path / "mine.pretrain" / "state.ckpt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in state["student"].values())


def test_a_damaged_state_is_named_and_can_be_replaced(scans, tmp_path, capsys):
    output = tmp_path / "mine.safetensors"
    folder = tmp_path / "mine.pretrain"
    assert main(command(scans, output, steps=1)) == 0
    (folder / "state.ckpt").write_bytes((folder / "state.ckpt").read_bytes()[:5000])
    assert main(command(scans, output, steps=1)) == 1
    err = capsys.readouterr().err
    assert "is damaged" in err and "--overwrite" in err
    (folder / "training.json").write_text("{")
    assert main(command(scans, output, "--resume")) == 1
    assert "training.json is damaged" in capsys.readouterr().err
    assert main(command(scans, output, "--overwrite", steps=1)) == 0
    assert len(rows(output)) == 1


def test_a_new_training_does_not_begin_with_the_state_of_another_one(scans, tmp_path, capsys):
    """A training that ends while its folder is moved away leaves a state without a plan; that of other settings was loaded."""
    output = tmp_path / "mine.safetensors"
    folder = tmp_path / "mine.pretrain"
    assert main(command(scans, output, "--stop-minutes", 0)) == 0
    (folder / "training.json").unlink()
    (folder / "curves.csv").unlink()
    output.unlink()
    assert main(command(scans, output, steps=1)) == 1
    err = capsys.readouterr().err
    assert "state.ckpt belongs to a training whose training.json is missing" in err and "--overwrite" in err
    assert main(command(scans, output, "--overwrite", steps=1)) == 0
    assert [row["step"] for row in rows(output)] == ["1"]


def test_checkpointing_changes_no_gradient():
    settings = Settings(init="random", feature_size=12, prototypes=16, hidden=16)
    views = [torch.rand(1, 1, 1, 40, 40, 40, generator=torch.Generator().manual_seed(0))]
    gradients = []
    for saving in (False, True):
        student = Student(initial_backbone(settings)[0], settings)
        student.backbone.checkpointing = saving
        student(views).square().sum().backward()
        gradients.append([p.grad for p in student.parameters() if p.requires_grad])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_every_parameter_is_trained_once_and_the_teacher_is_not():
    student = Student(initial_backbone(Settings(init="random", feature_size=12))[0], Settings(feature_size=12))
    decayed, plain = (group["params"] for group in parameter_groups(student))
    trained = {id(p) for p in student.parameters() if p.requires_grad}
    assert len(decayed) + len(plain) == len(trained) == len({id(p) for p in [*decayed, *plain]})
    assert not any(id(p) in trained for p in student.backbone.encoder1.parameters())
    assert all(p.ndim >= 2 for p in decayed)
    assert not any(p.requires_grad for p in make_teacher(student).parameters())


def test_mixed_precision_gives_nearly_the_same_output():
    settings = Settings(init="random", feature_size=12, prototypes=16, hidden=16)
    student = Student(initial_backbone(settings)[0], settings)
    views = [torch.rand(1, 1, 1, 40, 40, 40, generator=torch.Generator().manual_seed(0))]
    exact = student(views)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = student(views)
    mixed.float().square().sum().backward()
    assert float((mixed - exact).detach().abs().max()) < 0.05
