"""The vocabulary of a text encoder: where its file is, and how a text is split into numbers of its words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from CoralBayLib.core.errors import EncoderError, QueryError, Remedy, WeightsError
from CoralBayLib.core.requirements import TEXT

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""What every vocabulary of BERT has beside words."""


@dataclass(frozen=True)
class VocabularySource:
    """Where a vocabulary is published.

    Attributes:
        filename: of the file, one word in each line.
        env: environment variable that may name the file, or its folder.
        by_hand: a sentence that says how to get it.
    """

    filename: str
    env: str
    by_hand: str

    def find(self, weights: Path) -> Path:
        """The file that the environment names, or the one beside a weights file.

        Raises:
            WeightsError: it is in neither place.
        """
        named = os.environ.get(self.env)
        place = Path(named).expanduser() if named else weights.parent
        path = place / self.filename if place.is_dir() else place
        if not path.is_file():
            where = f"{self.env} names '{named}', but there is no such file" if named else "It is not beside the weights file"
            raise WeightsError(
                f"A text needs the vocabulary {self.filename}. {where}. {self.by_hand} Put it beside the weights file, or "
                f"name it with the environment variable {self.env}."
            )
        return path


class Vocabulary:
    """Splits texts as BERT does: lower case, at blanks and punctuation, rare words into pieces.

    Args:
        path: the file, one word in each line.
        words: number of words that the network knows.
        places: most words of a text.

    Raises:
        EncoderError: the package is not installed (remedy INSTALL_PACKAGE).
        WeightsError: the file cannot be read, or is no vocabulary of this network.
    """

    def __init__(self, path: Path, words: int, places: int) -> None:
        try:
            from tokenizers import BertWordPieceTokenizer
        except ImportError as error:
            raise EncoderError(
                "Searching by words needs a package that is not installed.",
                remedy=Remedy.INSTALL_PACKAGE,
                package=TEXT,
            ) from error
        numbers = _read(path)
        lacking = [each for each in _SPECIAL if each not in numbers]
        if lacking or len(numbers) != words:
            fault = f"it lacks {', '.join(lacking)}" if lacking else f"it has {len(numbers)} words, expected {words}"
            raise WeightsError(f"'{path.name}' is not the vocabulary of this network: {fault}.")
        self._places = places
        self._wordless = {n for word, n in numbers.items() if word in _SPECIAL or not any(map(str.isalnum, word))}
        self._tokenizer = BertWordPieceTokenizer(vocab=numbers, lowercase=True)

    def split(self, text: str) -> list[int]:
        """Numbers of the words of a text, with the marks of its begin and end.

        Raises:
            QueryError: the text is empty or too long, or holds none of the words.
        """
        if not text.strip():
            raise QueryError("The text is empty. Write what to look for, in English.")
        # The tokenizer takes no halves of surrogate pairs, which stand for bytes that are not UTF-8 in arguments.
        numbers = self._tokenizer.encode(text.encode("utf-8", "replace").decode("utf-8")).ids
        if len(numbers) > self._places:
            raise QueryError(f"The text is too long: {len(numbers)} words and pieces, at most {self._places}. Shorten it.")
        if set(numbers[1:-1]) <= self._wordless:
            raise QueryError("The text has no word that the network knows. Use English words.")
        return list(numbers)


def _read(path: Path) -> dict[str, int]:
    """The number of each word.

    Raises:
        WeightsError: the file cannot be read, or is not a list of words.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"The vocabulary '{path.name}' cannot be read ({error}).") from error
    words = [line.rstrip("\r") for line in lines]
    if words and not words[-1]:
        words.pop()
    numbers = {word: number for number, word in enumerate(words)}
    if len(numbers) != len(words) or "" in numbers:
        raise WeightsError(f"'{path.name}' is not a vocabulary: it has empty lines or a word twice.")
    return numbers
