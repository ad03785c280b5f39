"""The command line: files in, files and JSON out, statuses that scripts can rely on."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.cli import main
from CoralBayLib.core.errors import Remedy, WeightsError
from CoralBayLib.encoders import EncoderCard, registry
from Testing.lib.conftest import PoolingEncoder

CENTRE = np.array([24.0, -30.0, 45.0])


@pytest.fixture
def ct(tmp_path, make_grid, make_phantom):
    path = tmp_path / "ct.nrrd"
    cb.write_volume(make_phantom(make_grid("oblique"), [(CENTRE, 7.0, 300.0)]), path)
    return path


@pytest.fixture
def pooling_by_name(monkeypatch):
    """The test encoder under the name 'pooling', and no other's weights within reach."""

    def load(weights=None, device="cpu", consent=None, *, setting=None):
        return PoolingEncoder(strides=(2, 4, 8))

    pooling = registry.EncoderEntry(EncoderCard("pooling", "Pooling", "for tests"), load)
    monkeypatch.setitem(registry._registry, "pooling", pooling)


@pytest.fixture
def prompts(tmp_path):
    points = np.concatenate([CENTRE + 3 * np.eye(3), CENTRE - 3 * np.eye(3), [[12, -30, 70], [-8, -30, 45], [12, -55, 45]]])
    path = tmp_path / "prompts.json"
    cb.Prompts(points, [1] * 6 + [0] * 3, {1: "bright spot"}).save(path)
    return path


def run(capsys, *arguments):
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_embed_reports_json_and_keeps_the_features(capsys, ct, pooling_by_name):
    status, out, _ = run(capsys, "embed", ct, "--encoder", "pooling", "--json")
    result = json.loads(out)
    assert status == 0
    assert result["levels"]["pool2"][0] == 5
    assert result["key"] in cb.Store()
    status, out, _ = run(capsys, "cache", "list", "--json")
    assert [entry["key"] for entry in json.loads(out)["entries"]] == [result["key"]]
    status, out, _ = run(capsys, "cache", "remove", result["key"][:10], "--json")
    assert json.loads(out)["removed"] == 1
    assert result["key"] not in cb.Store()


def test_segment_writes_a_segmentation_and_a_probe(capsys, ct, prompts, pooling_by_name, tmp_path):
    output, probe = tmp_path / "out.seg.nrrd", tmp_path / "probe.safetensors"
    status, out, _ = run(
        capsys, "segment", ct, "--encoder", "pooling", "--prompts", prompts, "-o", output, "--save-probe", probe, "--json"
    )
    assert status == 0
    labelmap, segments = cb.read_segmentation(output)
    assert [segment.name for segment in segments] == ["bright spot"]
    assert labelmap.grid.same_as(cb.read_volume(ct).grid)
    assert labelmap.values_at([CENTRE])[0] == segments[0].label
    millilitres = json.loads(out)["volume_ml"]["bright spot"]
    assert millilitres == pytest.approx((labelmap.array > 0).sum() * labelmap.grid.voxel_volume_mm3 / 1000)
    again = tmp_path / "again.seg.nrrd"
    status, _, _ = run(capsys, "segment", ct, "--encoder", "pooling", "--probe", probe, "-o", again, "--all-pieces")
    assert status == 0
    assert cb.read_segmentation(again)[0].values_at([CENTRE])[0] == 1


def test_similar_ranks_the_place_itself_first(capsys, ct, pooling_by_name, tmp_path):
    point = "--point=" + ",".join(map(str, CENTRE))
    simmap = tmp_path / "map.nrrd"
    status, out, _ = run(capsys, "similar", ct, "--encoder", "pooling", point, "-k", 3, "--map", simmap, "--json")
    regions = json.loads(out)["regions"]
    assert status == 0
    assert np.linalg.norm(np.subtract(regions[0]["ras"], CENTRE)) < 8
    assert [region["rank"] for region in regions] == list(range(1, len(regions) + 1))
    written = cb.resample(cb.read_volume(simmap), cb.read_volume(ct).grid)
    assert written.values_at([CENTRE])[0] > 0.8


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
def test_errors_go_to_stderr_with_status_1(capsys, ct, pooling_by_name, arguments, kind, words):
    status, out, err = run(capsys, *[ct if a == "CT" else a for a in arguments], "--json")
    assert status == 1
    assert json.loads(out)["kind"] == kind
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [[], ["similar", "ct.nrrd"], ["similar", "ct.nrrd", "--point", "1,2"], ["bake"]])
def test_wrong_usage_has_status_2(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_interrupt_has_status_130(capsys, ct, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("CoralBayLib.imaging.volume_io.read_volume", interrupted)
    assert main(["embed", str(ct)]) == 130


@pytest.mark.parametrize("why", ["the cache: nothing there", ""])
def test_auto_says_why_it_is_not_coralbay(capsys, ct, monkeypatch, why):
    """Where something else than their absence is wrong with the weights, another network is no answer."""

    def refuse(name, weights=None, **_):
        if name == "coralbay":
            raise WeightsError("No weights. Tried everything.", remedy=Remedy.GET_WEIGHTS if why else None, reason=why)
        return PoolingEncoder()

    monkeypatch.setattr("CoralBayLib.encoders.load_encoder", refuse)
    status, _, err = run(capsys, "embed", ct)
    assert status == (0 if why else 1)
    assert why in err
    assert err.count("CoralBay-mini is used") == (1 if why else 0)
    assert ("Tried everything" in err) == (not why)


def test_encoders_lists_both(capsys):
    status, out, _ = run(capsys, "encoders")
    assert status == 0
    assert "coralbay" in out
    assert "astra" in out
    assert "MIT" in out


def test_encoders_prints_a_whole_card_in_words_and_as_json(capsys):
    status, out, _ = run(capsys, "encoders", "astra")
    assert status == 0
    for part in ("1.5 x 1.5 x 3 mm", "HU [-1000, 1000]", "117.4 M", "weights MIT", "please cite"):
        assert part in out
    status, out, _ = run(capsys, "encoders", "astra", "--json")
    assert json.loads(out)["input"]["spacing_mm"] == [1.5, 1.5, 3.0]
    status, out, _ = run(capsys, "encoders", "--json")
    assert {"coralbay", "astra"} <= {card["name"] for card in json.loads(out)["encoders"]}


def test_a_card_with_little_on_it_can_be_shown(capsys, pooling_by_name):
    status, out, _ = run(capsys, "encoders", "pooling")
    assert status == 0
    assert "Pooling (pooling)" in out


def test_help_and_package_import_do_not_load_torch():
    code = (
        "import sys, CoralBayLib\n"
        "from CoralBayLib.cli.main import build_parser\n"
        "build_parser().format_help()\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "assert 'SimpleITK' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
