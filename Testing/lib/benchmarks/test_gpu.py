"""The benchmark on a graphics card: tried on a CPU with small sizes; what it does without a card or without time."""

from __future__ import annotations

import sys

import pytest
import torch

from Testing.benchmarks.gpu import __main__ as gpu
from Testing.benchmarks.gpu import cases
from Testing.benchmarks.gpu.card import Peak
from Testing.benchmarks.gpu.networks import SAME, entries
from Testing.benchmarks.tables.gpu import FILE, NO_GPU, Findings, tables

pytest.importorskip("monai")

SMALL = ("--device", "cpu", "--small", "--batches", "1", "2", "--side", "64")


def run(monkeypatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", *map(str, options)])
    gpu.main()


@pytest.mark.slow
def test_the_whole_benchmark_runs_on_a_cpu_with_small_sizes(tmp_path, monkeypatch):
    run(monkeypatch, *SMALL, "--minutes", "30", "--encoders", "astra", "fm-ct", "--tables", tmp_path)
    text = (tmp_path / FILE).read_text(encoding="utf-8")
    assert "the figures say nothing" in text and "Failed" not in text and "Left out" not in text
    for words in (
        "a matrix multiplication reaches",
        "GFLOP a window",
        "whole sample in one pass",
        "end to end",
        "A card of 8 GB",
    ):
        assert words in text
    assert "| astra, whole | 0.0e+00 / 1.000000 |" in text
    assert "| fm-ct, fit-96 | random | 96x96x96 |" in text


def test_without_time_everything_is_left_out_by_name(tmp_path, monkeypatch):
    run(monkeypatch, *SMALL, "--minutes", "0", "--tables", tmp_path)
    left = (tmp_path / FILE).read_text(encoding="utf-8").partition("Left out, because the time was over:")[2]
    for entry in entries():
        assert f"- {entry.title}: agreement with the CPU" in left


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_card_it_says_so_and_keeps_what_was_measured(tmp_path, monkeypatch, capsys):
    run(monkeypatch, "--tables", tmp_path)
    out = capsys.readouterr().out
    assert NO_GPU in (tmp_path / FILE).read_text(encoding="utf-8") and NO_GPU in out and "--device cpu --small" in out
    run(monkeypatch, "--tables", tmp_path)
    (tmp_path / FILE).write_text("# GPU\n\n## A card\n\nmeasured\n", encoding="utf-8")
    run(monkeypatch, "--tables", tmp_path)
    assert (tmp_path / FILE).read_text(encoding="utf-8") == "# GPU\n\n## A card\n\nmeasured\n"


def test_every_encoder_that_comes_with_coralbay_is_measured():
    from CoralBayLib.encoders import builtin

    measured = {entry.name for entry in entries()}
    assert measured | SAME.keys() == {card.name for card in builtin.cards()}
    assert measured >= set(SAME.values())


def test_shares_and_the_setting_for_a_small_card():
    found = Findings(weights={"x": "random"}, sizes={"x": (96, 96, 96)}, work={"x": cases.Work(50e9, 1e9)})
    found.windows = {("x", "half", 1): cases.Pass(10.0, 2.0), ("x", "half", 8): cases.Pass(20.0, 6.9)}
    found.windows |= {("x", "half", 16): cases.Pass(15.0, 12.0), ("x", "half", 32): None}
    found.whole["x"] = (256, 224, 224), cases.Pass(1.0, 8.0)
    text = tables(found, Peak({"half": 4e12, "single": 1e12}, 40e9), (1, 8, 16, 32), 96)
    assert "| x | 50 | 1.00 | 25 % | 50 % |" in text
    assert "| x | random | 96x96x96 | 10 / 2.0 | 20 / 6.9 | 15 / 12.0 | too little memory | - |" in text
    assert "| x | 8 | no | - | - | - |" in text


def test_operations_and_bytes_of_a_convolution_are_counted():
    class One:
        def forward_features(self, x, names):
            return [torch.nn.functional.conv3d(x, torch.ones(2, 1, 1, 1, 1))]

        levels, name = (), "one"

    one = One()
    cases_names, cases.names_of = cases.names_of, lambda encoder: ()
    try:
        found = cases.work(one, (4, 4, 4), "single", torch.device("cpu"))
    finally:
        cases.names_of = cases_names
    assert found.flops == 2 * 2 * 64
    # Input, weights and output, and the weights when they are made.
    assert found.bytes == 4 * (64 + 2 + 128) + 4 * 2


def test_windows_are_at_least_what_the_encoder_takes():
    sizes = {entry.name: cases.window_size(entry.make()[0], 96) for entry in entries(is_small=True) if entry.name != "ct-fm"}
    assert sizes["voxelfm"] == (98, 98, 98) and sizes["astra"] == sizes["coralbay"] == sizes["fm-ct"] == (96, 96, 96)
