"""The tables of `coralbay library evaluate`'s scores, and the encoder file that they are compared with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

import CoralBayLib as cb
from CoralBayLib.library.evaluation.labeled_regions import LabeledRegions
from CoralBayLib.library.evaluation.regions import evaluate_regions
from CoralBayLib.library.evaluation.scans import evaluate_scans
from Testing.benchmarks.tables.library_scores import region_table, scan_table, write_tables

FILE = Path(__file__).parents[2] / "benchmarks" / "untrained_encoder.py"


def _scans(encoder, seed):
    random = np.random.default_rng(seed)
    scores = evaluate_scans(random.normal(size=(12, 6)), ["a", "b"] * 6, [str(n) for n in range(12)])
    return {"question": "side", "encoder": encoder, "kind": "scans", **_plain(scores)}


def _regions(encoder, noise):
    random = np.random.default_rng(0)
    points = np.stack(np.meshgrid(*[np.arange(4) * 15.0] * 3, indexing="ij"), -1).reshape(-1, 3)
    structures = np.where(points[:, 0] > 40, "liver", "")
    vectors = np.eye(4)[(structures == "liver").astype(int)]
    scans = [
        LabeledRegions(f"p{n}", points, vectors + noise * random.normal(size=(64, 4)), structures, frozenset({"liver"}))
        for n in range(3)
    ]
    return {"question": "regions", "encoder": encoder, "kind": "regions", "scans": 3, **_plain(evaluate_regions(scans))}


def _plain(scores):
    """As the command's file has them."""
    import json

    return json.loads(json.dumps(asdict(scores)))


def test_each_encoder_stands_beside_chance_and_beside_what_is_possible():
    lines = [_scans("untrained", 1), _scans("coralbay-mini", 0), _regions("untrained", 9.0), _regions("coralbay-mini", 0.1)]
    scans = scan_table(lines).splitlines()[2:]
    assert [row.split(" | ")[1] for row in scans] == ["untrained", "coralbay-mini", "chance"]
    assert f"{lines[1]['metrics']['mAP']['value']:.3f}" in scans[1] and f"{lines[0]['chance']['mAP']:.3f}" in scans[2]
    regions = region_table({line["encoder"]: line for line in lines[2:]}, "across").splitlines()[2:]
    assert [row.split(" | ")[1] for row in regions if row.startswith("| liver")] == [
        *("untrained", "untrained, re-ranked", "coralbay-mini", "coralbay-mini, re-ranked", "chance")
    ]
    page = write_tables(lines)
    assert page.index("coralbay-mini |") < page.index("untrained |")
    assert "| possible | 1.000 |" in page.split("## Regions of the same scan")[1] and "\n\n\n" not in page


def test_the_untrained_encoder_always_has_the_same_weights():
    names = cb.load_encoder_file(FILE)
    try:
        random = torch.random.get_rng_state()
        first, second = (cb.load_encoder("untrained", device="cpu") for _ in range(2))
        assert list(names) == ["untrained"]
        assert torch.equal(torch.random.get_rng_state(), random)
        x = torch.zeros(1, 1, 64, 64, 64)
        a, b = (each.forward_features(x, ("hidden3",))[0] for each in (first, second))
        assert torch.equal(a, b)
    finally:
        cb.unload_encoder_file(FILE)
    assert "untrained" not in [card.name for card in cb.encoder_cards()]
