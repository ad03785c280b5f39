"""Trainings in processes of their own, which need not import everything again, of a network that is fast."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from pathlib import Path

import torch
from torch.nn.functional import avg_pool3d

from CoralBayLib.cli import main
from CoralBayLib.encoders.coralbay import LEVEL_NAMES, CoralBayNetwork
from CoralBayLib.pretraining import network


class ShallowNetwork(CoralBayNetwork):
    """The network's weights and shapes, with pooling in place of its stages: steps take milliseconds."""

    def maps(self, x, names):
        # Several devices wait for the gradient of every parameter.
        nothing = 0 * sum(p.sum() for p in self.parameters() if p.requires_grad)
        tokens = self.swinViT.patch_embed(x) + nothing
        pooled = {
            name: avg_pool3d(tokens, 2 ** (n - 1)).repeat(1, width, 1, 1, 1)
            for n, name, width in zip(range(1, 6), LEVEL_NAMES[1:], (1, 2, 4, 8, 16), strict=True)
        }
        return [pooled[name] for name in names]


def start(arguments: list[str], log: Path, **environment: object) -> multiprocessing.Process:
    """Start `coralbay` with arguments; its output goes to `log`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning.fabric", "CoralBayLib.pretraining.run", "CoralBayLib.pretraining.export"])
    process = context.Process(
        target=_run, args=(arguments, str(log), {name: str(value) for name, value in environment.items()})
    )
    process.start()
    return process


def _run(arguments: list[str], log: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    network.CoralBayNetwork = ShallowNetwork
    with Path(log).open("w") as output:
        sys.stdout = sys.stderr = output
        try:
            status = main(arguments)
        except Exception:
            traceback.print_exc()
            raise
    sys.exit(status)
