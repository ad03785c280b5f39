"""Search by words: the map of a scan and the ranking of a library, in Python and on the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.cli import main
from CoralBayLib.core.errors import EncoderError, QueryError
from CoralBayLib.library import Library
from Testing.lib.conftest import PoolingEncoder
from Testing.lib.library.conftest import make_scan

TEXT = "pleural effusion"


def vectors(encoder, pyramid):
    """(N, D) of unit length, of each feature in the space of the texts, and (N, 3) RAS mm of their places."""
    level = pyramid.levels[0]
    weights, bias = encoder.text_projection()
    mapped = weights @ level.features.flatten(1).float() + bias[:, None]
    k, j, i = np.indices(level.grid.shape)
    places = level.grid.to_ras(np.stack([i, j, k], -1).reshape(-1, 3))
    return torch.nn.functional.normalize(mapped, dim=0).T, places


def test_a_map_tells_where_the_text_fits_best(encoder, monkeypatch):
    pyramid = cb.embed(make_scan("a"), encoder)
    known, places = vectors(encoder, pyramid)
    chosen = np.linalg.norm(places - pyramid.grid.center_ras, axis=1).argmin()
    monkeypatch.setattr(encoder, "embed_text", lambda text: known[chosen])
    made = cb.word_map(pyramid, encoder, TEXT)
    assert made.grid == pyramid.grid and made.array.dtype == np.float32
    best = made.grid.to_ras(np.array(np.unravel_index(made.array.argmax(), made.grid.shape))[::-1][None])[0]
    assert np.linalg.norm(best - places[chosen]) < 3
    assert made.array.max() > 0.95 and made.array.min() < 0.9


def test_a_map_holds_the_cosines_of_text_and_features(encoder):
    pyramid = cb.embed(make_scan("b"), encoder)
    known, places = vectors(encoder, pyramid)
    cosines = (known @ encoder.embed_text(TEXT)).numpy()
    made = cb.word_map(pyramid, encoder, TEXT)
    # A feature lies between voxels: the map there is a mean of it and its neighbors.
    inside = pyramid.grid.contains(places)
    shown = made.nearest_values(places[inside])
    assert inside.sum() > 20 and np.ptp(cosines[inside]) > 0.05
    assert np.corrcoef(shown, cosines[inside])[0, 1] > 0.9
    assert cosines.min() - 1e-5 <= made.array.min() and made.array.max() <= cosines.max() + 1e-5


def test_features_of_another_encoder_are_refused(encoder, weights):
    pyramid = cb.embed(make_scan("a"), encoder)
    with pytest.raises(EncoderError, match="another encoder, weights or setting"):
        cb.word_map(pyramid, cb.load_encoder("colipri", weights, "cpu", setting="sar"), TEXT)
    with pytest.raises(EncoderError, match="has no level patches|no level"):
        cb.word_map(replace(pyramid, levels=()), encoder, TEXT)
    with pytest.raises(EncoderError, match="cannot be searched by words"):
        cb.word_map(pyramid, PoolingEncoder(), TEXT)


def test_a_library_ranks_scans_by_a_text(encoder, scans, tmp_path, monkeypatch):
    library = Library(tmp_path / "library")
    library.add(scans, encoder)
    embedded = {name: cb.embed(make_scan(name), encoder).scan_embedding.float() for name in "abc"}
    text = encoder.embed_text(TEXT)
    expected = {name: float(torch.nn.functional.cosine_similarity(each, text, dim=0)) for name, each in embedded.items()}
    hits = library.search_text(TEXT, encoder)
    assert [hit.path[-6] for hit in hits] == sorted(expected, key=lambda name: -expected[name])
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-4)
    assert not any(hit.is_query_scan for hit in hits)
    assert len(library.search_text(TEXT, encoder, 5, exclude=[hits[0].scan])) == 2
    monkeypatch.setattr(encoder, "embed_text", lambda _text: embedded["b"])
    (best,) = library.search_text("any", encoder, 1)
    assert best.path.endswith("b.nrrd") and best.score == pytest.approx(1, abs=1e-4)


def test_a_library_refuses_texts_that_it_cannot_compare(encoder, scans, tmp_path, weights):
    library = Library(tmp_path / "library")
    library.add(scans / "a.nrrd", encoder)
    with pytest.raises(EncoderError, match="tiling|setting|mode"):
        library.search_text(TEXT, cb.load_encoder("colipri", weights, "cpu", setting="sar"))
    with pytest.raises(EncoderError, match="cannot be searched by words"):
        library.search_text(TEXT, PoolingEncoder())
    with pytest.raises(QueryError, match="is empty"):
        library.search_text("", encoder)


def run(capsys, *words):
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_command_line_searches_by_words(encoder, scans, tmp_path, weights, capsys):
    library = tmp_path / "library"
    Library(library).add(scans, encoder)
    options = ("--library", library, "--weights", weights, "--device", "cpu")
    status, out, err = run(capsys, "library", "search", "--text", TEXT, *options, "--json", "--quiet")
    assert status == 0, err
    made = json.loads(out)
    assert made["encoder"] == "colipri" and [hit["rank"] for hit in made["scans"]] == [1, 2, 3]
    expected = Library(library).search_text(TEXT, encoder)
    assert [hit["path"] for hit in made["scans"]] == [hit.path for hit in expected]

    reports = tmp_path / "reports.csv"
    reports.write_text(f"scan,report\n{scans / 'a.nrrd'},Normal heart.\n{scans / 'b.nrrd'},Normal heart. No nodule.\n")
    assert run(capsys, "library", "reports", "--add", reports, "--library", library)[0] == 0
    status, out, err = run(capsys, "library", "search", "--text", TEXT, *options, "--reports", "--quiet")
    assert status == 0, err
    assert "reports of 2 of these scans" in out and "2 of 2  Normal heart." in out and "1 of 2  No nodule." in out

    given = ("--ct", scans / "a.nrrd")
    refusals = (
        (("--text", TEXT, *given), "leave --ct"),
        (("--point=1,2,3",), "name it with --ct"),
        (("--text", ""), "the value is empty"),
    )
    for more, words in refusals:
        with pytest.raises(SystemExit) as refused:
            run(capsys, "library", "search", *more, *options, "--quiet")
        assert refused.value.code == 2 and words in capsys.readouterr().err

    target = tmp_path / "words.nrrd"
    used = ("--encoder", "colipri", *options[2:], "--quiet")
    status, out, err = run(capsys, "similar", scans / "a.nrrd", "--text", TEXT, "--map", target, "-k", 2, *used)
    assert status == 0, err
    pyramid = cb.embed(cb.read_volume(scans / "a.nrrd"), encoder, store=cb.Store())
    written = cb.read_volume(target)
    assert np.allclose(written.array, cb.word_map(pyramid, encoder, TEXT).array, atol=1e-5)
    assert "rank  score" in out
