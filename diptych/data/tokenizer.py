"""CLIP's tokenizer: a lower-cased byte-level BPE with an end-of-word suffix; batched, with the same ids as open_clip's.

tokenizer = Tokenizer.openai()                       # or Tokenizer.train(captions, vocab_size=4096)
tokens, lengths = tokenizer(["a photo of a cat"])    # int32 (N, L), int64 (N,)
"""

import array
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import models

from diptych.data import text_cleaning, vocabulary
from diptych.data.openai_vocabulary import find_openai_vocabulary
from diptych.data.vocabulary import EOT, SOT, SUFFIX
from diptych.errors import ConfigError, DataError, TextError
from diptych.files import expanded, new_file, writing

if TYPE_CHECKING:
    import torch

_END_OF_TEXT = "\x00"  # separates the texts of a batch; cleaning removes it from the texts themselves
_END_ID = -1
_MAX_CACHED_WORDS, _MAX_CACHED_LENGTH = 65_536, 32  # at most about 40 MB


class _WordIds(dict[str, bytes]):
    """Word -> its ids as int32 bytes: computed on first use, and cached within the limits above."""

    def __init__(self, bpe: models.BPE, special: dict[str, int]) -> None:
        super().__init__()
        self.bpe, self.special = bpe, special

    def __missing__(self, word: str) -> bytes:
        ids = array.array("i", [_END_ID] if word == _END_OF_TEXT else self._encode(word)).tobytes()
        if len(word) <= _MAX_CACHED_LENGTH:
            if len(self) >= _MAX_CACHED_WORDS:
                self.clear()
            self[word] = ids
        return ids

    def _encode(self, word: str) -> list[int]:
        ids: list[int] = []
        for piece in text_cleaning.pieces(word):
            if piece in self.special:
                ids.append(self.special[piece])
            else:
                ids.extend(token.id for token in self.bpe.tokenize(text_cleaning.to_characters(piece)))
        return ids


class Tokenizer:
    """A lower-cased byte-level BPE in CLIP's form.

    "<start_of_text>" and "<end_of_text>" inside a text become the special ids, as in open_clip. CLIP pools a text at
    its first EOT, so later tokens keep their ids but do not change the embedding.

    Attributes:
        tokens: the vocabulary in id order: 256 bytes, 256 bytes that end a word, merges, SOT, EOT.
        merges: pairs of tokens, in merge order.
        context_length: maximum number of ids of a text, including SOT and EOT.
        sot, eot: ids of the start and the end of a text; EOT is the largest id, by which the text encoder finds it.
    """

    def __init__(self, tokens: Sequence[str], merges: Sequence[tuple[str, str]], context_length: int = 77) -> None:
        if context_length < 2:
            raise ConfigError(f"context_length is {context_length}; SOT and EOT alone need 2")
        self.tokens, self.merges, self.context_length = tuple(tokens), tuple(merges), context_length
        ids = {token: id for id, token in enumerate(self.tokens)}
        self.sot, self.eot = ids[SOT], ids[EOT]
        bpe = models.BPE(vocab=ids, merges=list(self.merges), end_of_word_suffix=SUFFIX)
        self._word_ids = _WordIds(bpe, {text_cleaning.START: self.sot, text_cleaning.END: self.eot})

    def __repr__(self) -> str:
        return f"Tokenizer({self.vocab_size} ids, context_length {self.context_length})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.tokens, self.merges, self.context_length)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self.tokens)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over vocabulary and merges, in hexadecimal: equal for tokenizers that give equal ids."""
        return hashlib.sha256(json.dumps([self.tokens, self.merges]).encode()).hexdigest()

    @classmethod
    def openai(cls, path: str | Path | None = None, context_length: int = 77) -> "Tokenizer":
        """The tokenizer of OpenAI's CLIP, 49,408 ids.

        Args:
            path: bpe_simple_vocab_16e6.txt.gz, or a tokenizer.json or vocab.json of a CLIP with OpenAI's vocabulary; by
                default the result of `find_openai_vocabulary`.
            context_length: maximum number of ids of a text.
        Raises:
            DataError: the file is missing or is not such a file.
        """
        path = find_openai_vocabulary() if path is None else expanded(path)
        if path.suffix != ".json":
            merges = vocabulary.read_openai_merges(path)
            return cls(vocabulary.from_merges(merges), merges, context_length)
        if path.name == "vocab.json":
            tokenizer = cls.from_vocab_and_merges(path.parent, context_length)
        else:
            tokenizer = cls.from_file(path, context_length)
        if tokenizer.vocab_size != vocabulary.NUM_OPENAI_IDS:
            raise DataError(
                f"{path}: {tokenizer.vocab_size:,} ids; OpenAI's vocabulary has {vocabulary.NUM_OPENAI_IDS:,}"
            )
        return tokenizer

    @classmethod
    def from_file(cls, path: str | Path, context_length: int | None = None) -> "Tokenizer":
        """Read a tokenizer.json that `save` wrote, or that of a Hugging Face CLIP.

        Args:
            path: the file.
            context_length: maximum number of ids of a text; by default the file's value, or 77 if it has none.
        Raises:
            DataError: the file is missing, damaged, too large, or contains another kind of tokenizer.
        """
        tokens, merges, stored = vocabulary.read_json(expanded(path))
        return cls(tokens, merges, (stored or 77) if context_length is None else context_length)

    @classmethod
    def from_vocab_and_merges(cls, folder: str | Path, context_length: int = 77) -> "Tokenizer":
        """Read vocab.json and merges.txt in the folder of a Hugging Face CLIP without tokenizer.json.

        Raises:
            DataError: a file is missing, damaged, too large, or of another kind of tokenizer.
        """
        files = expanded(folder) / "vocab.json", expanded(folder) / "merges.txt"
        return cls(*vocabulary.read_vocab_and_merges(*files), context_length)

    @classmethod
    def train(cls, captions: Iterable[str], vocab_size: int, context_length: int = 77) -> "Tokenizer":
        """Learn merges from captions; the same captions give the same tokenizer.

        Args:
            captions: texts, read once.
            vocab_size: desired number of ids, at least 514; the result has fewer if no further pair occurs twice.
            context_length: maximum number of ids of a text.
        Raises:
            ConfigError: vocab_size is too small.
            TextError: a caption is not a str.
        """
        merges = vocabulary.learn(map(text_cleaning.normalise, checked_texts(captions)), vocab_size)
        return cls(vocabulary.from_merges(merges), merges, context_length)

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json, which the tokenizers library and transformers also read; replaces an older file."""
        path = expanded(path)
        with writing(path), new_file(path) as unfinished:
            unfinished.write_text(vocabulary.to_json(self.tokens, self.merges, self.context_length), encoding="utf-8")

    def __call__(
        self, texts: str | Iterable[str], *, truncate: bool = False, pad_to: int | None = None
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Convert texts to ids: SOT, the text's ids, EOT, then zeros.

        Args:
            texts: N texts, or a single one. An empty text gives SOT and EOT.
            truncate: truncate a text that is too long, with EOT as its last id, instead of raising an error.
            pad_to: L; by default the length of the longest text. Longer texts are too long.
        Returns:
            tokens: int32 (N, L).
            lengths: int64 (N,), number of ids of each text from SOT to the first EOT, where CLIP pools it.
        Raises:
            TextError: a text is not a str, or is longer than pad_to or the context.
            ConfigError: pad_to is not between 2 and context_length.
        Source: CLIP paper, section 2.4.
        """
        import torch  # a command that runs without torch calls `arrays`

        tokens, lengths = self.arrays(texts, truncate=truncate, pad_to=pad_to)
        return torch.from_numpy(tokens), torch.from_numpy(lengths)

    def arrays(
        self, texts: str | Iterable[str], *, truncate: bool = False, pad_to: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same as NumPy arrays."""
        texts = [texts] if isinstance(texts, str) else list(checked_texts(texts))
        limit = self.context_length if pad_to is None else pad_to
        if not 2 <= limit <= self.context_length:
            raise ConfigError(f"pad_to is {pad_to}; it must be between 2 and the context length, {self.context_length}")
        ids, lengths = self._ids(texts)
        long = np.flatnonzero(lengths > limit)
        if long.size:
            if not truncate:
                raise too_long(texts[long[0]], int(long[0]), len(texts), int(lengths[long[0]]), limit)
            columns = np.arange(ids.size) - np.repeat(np.cumsum(lengths - 1) - (lengths - 1), lengths - 1)
            ids = ids[columns < limit - 1]
            lengths = np.minimum(lengths, limit)
        width = pad_to or int(lengths.max(initial=0))
        tokens = np.zeros((len(texts), width), dtype=np.int32)
        tokens[:, :1] = self.sot
        tokens[:, 1:][np.arange(1, width) < lengths[:, None]] = ids
        tokens[np.arange(len(texts)), lengths - 1] = self.eot
        if (ids == self.eot).any():  # a text contains an EOT
            lengths = (tokens == self.eot).argmax(axis=1) + 1
        return tokens, lengths

    @property
    def pad_id(self) -> int:
        """The id that fills the context after a text."""
        return 0

    def num_tokens(self, text: str) -> int:
        """Number of ids of one text of any length, with SOT and EOT."""
        return len(self.encode(text)) + 2

    def encode(self, text: str) -> list[int]:
        """The ids of one text of any length, without SOT and EOT."""
        return self._ids(list(checked_texts([text])))[0][:-1].tolist()

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, in lower case, with a space after each word; SOT is omitted, and decoding ends at EOT.

        Raises:
            TextError: an id is outside the vocabulary.
        """
        pieces = []
        for id in map(int, ids):
            if id == self.eot:
                break
            if not 0 <= id < len(self.tokens):
                raise TextError(f"id {id} is outside the vocabulary of {len(self.tokens)} tokens")
            if id != self.sot:
                token = self.tokens[id]
                pieces.append(text_cleaning.to_bytes(token.removesuffix(SUFFIX)) + b" " * token.endswith(SUFFIX))
        return b"".join(pieces).decode(errors="replace").strip()

    def _ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The int32 ids of all texts, concatenated with a placeholder after each text; and each text's length.

        The lengths include SOT and EOT. All texts are split together and all words are looked up in one call, so that
        only `clean` runs in Python once per text.
        """
        text = "".join([f"{text_cleaning.clean(text)} {_END_OF_TEXT} " for text in texts])
        words = text.lower().split()
        ids = np.frombuffer(b"".join(map(self._word_ids.__getitem__, words)), dtype=np.int32)
        ends = np.flatnonzero(ids == _END_ID)
        return ids, np.diff(ends, prepend=-1) + 1


def checked_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts one by one; TextError for anything else."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise TextError(f"texts are a str or a list of str, not {type(texts).__name__}")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextError(f"text {index} is not a str but {type(text).__name__}; decode bytes as UTF-8 first")
        yield text


def too_long(text: str, index: int, count: int, length: int, limit: int) -> TextError:
    """The error for a text of `length` tokens, the one at `index` of `count`."""
    shown = text if len(text) <= 60 else text[:57] + "..."
    return TextError(
        f"text {index} of {count} has {length} tokens with start and end, the limit is {limit}: {shown!r}; "
        "shorten it, or pass truncate=True"
    )
