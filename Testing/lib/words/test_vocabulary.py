"""Texts are split as by BERT; what cannot be split, and a vocabulary that does not fit, are told in words."""

from __future__ import annotations

import sys

import pytest
import small_colipri
from safetensors.torch import load_file, save_file

import CoralBayLib as cb
from CoralBayLib.core.errors import EncoderError, QueryError, Remedy, WeightsError
from CoralBayLib.encoders.language import require_text_encoder
from CoralBayLib.encoders.language.vocabulary import Vocabulary
from Testing.lib.conftest import PoolingEncoder

WORDS = small_colipri.WORDS


@pytest.fixture
def vocabulary(weights):
    return Vocabulary(weights.parent / "vocab.txt", len(WORDS), 24)


@pytest.mark.parametrize("text", ["Pleural effusions.", "  PLEURAL\teffusions .\n", "plèural effusions."])
def test_case_blanks_and_accents_make_no_difference(text, vocabulary):
    assert [WORDS[number] for number in vocabulary.split(text)] == ["[CLS]", "pleural", "effusion", "##s", ".", "[SEP]"]


def test_lines_of_windows_are_the_same_words(weights, vocabulary):
    path = weights.parent / "windows.txt"
    path.write_bytes("\r\n".join(WORDS).encode())
    assert Vocabulary(path, len(WORDS), 24).split("lung nodules") == vocabulary.split("lung nodules")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("lung " * 23, "too long: 25 words"),
        *((text, "no word that the network knows") for text in ("胸水", "...", "胸水.", "[MASK]", "\udcff")),
    ],
)
def test_texts_that_say_nothing_are_refused(text, words, encoder):
    with pytest.raises(QueryError, match=words):
        encoder.embed_text(text)
    assert encoder.embed_text("lung").norm() == pytest.approx(1)


def test_bytes_that_are_not_utf_8_do_not_hide_the_words(encoder):
    assert encoder.embed_text("lung \udcff").norm() == pytest.approx(1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "lacks \\[PAD\\], \\[UNK\\]"),
        ("\n".join(WORDS[:-1]).encode(), "has 59 words, expected 60"),
        ("\n".join([*WORDS[:-1], "lung"]).encode(), "a word twice"),
        ("\n".join([*WORDS[:-1], "", "x"]).encode(), "empty lines"),
        (b"\xff\xfe" * 30, "cannot be read"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(content, words, weights):
    (weights.parent / "vocab.txt").write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        cb.load_encoder("colipri", weights, "cpu").embed_text("lung")


def test_the_vocabulary_is_found_beside_the_weights_or_by_its_variable(weights, tmp_path, monkeypatch):
    moved = tmp_path / "vocab.txt"
    (weights.parent / "vocab.txt").rename(moved)
    with pytest.raises(WeightsError, match=r"not beside the weights.*BiomedVLP-CXR-BERT-specialized.*COLIPRI_VOCABULARY"):
        cb.load_encoder("colipri", weights, "cpu").embed_text("lung")
    for named in (moved, moved.parent):
        monkeypatch.setenv("COLIPRI_VOCABULARY", str(named))
        assert cb.load_encoder("colipri", weights, "cpu").embed_text("lung").shape == (128,)
    monkeypatch.setenv("COLIPRI_VOCABULARY", str(tmp_path / "other.txt"))
    with pytest.raises(WeightsError, match="but there is no such file"):
        cb.load_encoder("colipri", weights, "cpu").embed_text("lung")


def test_a_missing_package_is_named(encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(EncoderError, match="a package that is not installed") as error:
        encoder.embed_text("lung")
    assert error.value.remedy is Remedy.INSTALL_PACKAGE and error.value.details["package"].startswith("tokenizers")


def test_weights_that_changed_since_they_were_loaded_are_refused(encoder, weights):
    save_file(load_file(weights), weights, metadata={"again": "yes"})
    with pytest.raises(WeightsError, match="was changed since it was loaded"):
        encoder.embed_text("lung")


def test_a_file_without_the_text_network_still_embeds_scans(weights):
    save_file({key: value for key, value in load_file(weights).items() if not key.startswith("text")}, weights)
    encoder = cb.load_encoder("colipri", weights, "cpu")
    with pytest.raises(WeightsError, match="holds no text network"):
        encoder.embed_text("lung")


def test_other_encoders_are_refused():
    with pytest.raises(EncoderError, match="cannot be searched by words"):
        require_text_encoder(PoolingEncoder())
