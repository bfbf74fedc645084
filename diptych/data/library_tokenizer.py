"""Tokenizers of CLIPA, SigLIP and SigLIP 2: a tokenizer.json of any kind, run by the tokenizers library.

What that file does not say stands beside it, in tokenizer_config.json: how texts are cleaned, and how they are padded.

    tokenizer = LibraryTokenizer.from_file("folder/tokenizer.json", 64, TextRules("canonicalize", pad_id=1))
    tokens, lengths = tokenizer(["a photo of a cat"])    # int32 (N, L), int64 (N,)
"""

import dataclasses
import functools
import hashlib
import json
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers
from tokenizers import Regex, normalizers

from diptych.data import text_cleaning
from diptych.data.tokenizer import Tokenizer, checked_texts, too_long
from diptych.data.vocabulary import SUFFIX, read_object, read_small
from diptych.errors import ConfigError, DataError, TextError
from diptych.files import expanded, new_file, writing

if TYPE_CHECKING:
    import torch

SETTINGS = "tokenizer_config.json"
_OURS = "diptych"  # the key of TextRules in SETTINGS
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _whitespace(text: str) -> str:
    return " ".join(text_cleaning.clean(text).split())


def _lower(text: str) -> str:
    return _whitespace(text).lower()


def _canonicalize(text: str) -> str:
    text = text_cleaning.clean(text).replace("_", " ")
    return " ".join(text.translate(_NO_PUNCTUATION).lower().split())


def _siglip(text: str) -> str:
    return re.sub(r"\s+", " ", text.lower().translate(_NO_PUNCTUATION)).strip()


CLEANINGS: dict[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "lower_case": str.lower,  # SigLIP 2 of transformers
    "siglip": _siglip,  # SigLIP of transformers
    "whitespace": _whitespace,  # these three are open_clip's, with its names
    "lower": _lower,
    "canonicalize": _canonicalize,
}
"""What happens to a text before the tokenizer sees it, by its name in TextRules."""
_COLLAPSE = (normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip())
_DROP_PUNCTUATION = normalizers.Replace(Regex("[" + "".join(f"\\{sign}" for sign in string.punctuation) + "]"), "")
_STEPS: dict[str, tuple[Any, ...]] = {
    "none": (),
    "lower_case": (normalizers.Lowercase(),),
    "siglip": (normalizers.Lowercase(), _DROP_PUNCTUATION, *_COLLAPSE),
    "whitespace": _COLLAPSE,
    "lower": (*_COLLAPSE, normalizers.Lowercase()),
    "canonicalize": (normalizers.Replace("_", " "), _DROP_PUNCTUATION, normalizers.Lowercase(), *_COLLAPSE),
}
"""The same as steps of the tokenizers library, which repairs no encoding and resolves no HTML entities."""


@dataclasses.dataclass(frozen=True)
class TextRules:
    """What a tokenizer.json does not say.

    Attributes:
        cleaning: a name in CLEANINGS.
        pad_id: fills the context after a text.
        zeroed: an id that becomes 0, or None: CLIPA's texts have no separator ([SEP]).
    Raises:
        ConfigError: the cleaning is unknown, or an id is not a whole number from 0 on.
    """

    cleaning: str = "none"
    pad_id: int = 0
    zeroed: int | None = None

    def __post_init__(self) -> None:
        if self.cleaning not in CLEANINGS:
            raise ConfigError(f"the cleaning of texts is one of {', '.join(CLEANINGS)}, not {self.cleaning!r}")
        for name, value in (("pad_id", self.pad_id), ("zeroed", 0 if self.zeroed is None else self.zeroed)):
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name} of a tokenizer must be a whole number from 0 on, not {value!r}")


class LibraryTokenizer:
    """A tokenizer of the tokenizers library, with the rules of its model. Its calls are those of Tokenizer.

    Attributes:
        context_length: maximum number of ids of a text, with those that its tokenizer adds (start, end).
        rules: what the tokenizer.json does not say.
    """

    def __init__(self, content: str, context_length: int, rules: TextRules) -> None:
        """Make the tokenizer.

        Args:
            content: of a tokenizer.json.
        Raises:
            DataError: the library cannot read the content, or the rules name an id that it does not have.
            ConfigError: the context is too short for the ids that the tokenizer adds.
        """
        try:
            self._library = tokenizers.Tokenizer.from_str(content)
        except Exception as error:
            raise DataError(f"not a tokenizer.json that the tokenizers library reads: {error}") from error
        self._library.no_truncation()
        self._library.no_padding()
        self.context_length, self.rules = context_length, rules
        self._added = self._library.num_special_tokens_to_add(False)
        if context_length <= self._added:
            raise ConfigError(f"context_length is {context_length}; the ids that the tokenizer adds need {self._added}")
        ids = (rules.pad_id, rules.zeroed or 0)
        if max(ids) >= self.vocab_size:
            raise DataError(f"the tokenizer has {self.vocab_size} ids, its settings name {max(ids)}")

    def __repr__(self) -> str:
        return f"LibraryTokenizer({self.vocab_size} ids, context_length {self.context_length}, {self.rules})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._library.to_str(), self.context_length, self.rules)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self._library.get_vocab_size()

    @property
    def pad_id(self) -> int:
        """The id that fills the context after a text."""
        return self.rules.pad_id

    def token_id(self, token: str) -> int | None:
        """The id of a token; None if there is no such token."""
        return self._library.token_to_id(token)

    def token(self, id: int) -> str | None:
        """The token of an id; None if there is no such id."""
        return self._library.id_to_token(id)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the tokenizer and its rules, in hexadecimal: equal for tokenizers that give equal ids."""
        return hashlib.sha256(f"{self._library.to_str()} {self.rules}".encode()).hexdigest()

    @classmethod
    def from_file(
        cls, path: str | Path, context_length: int | None = None, rules: TextRules | None = None
    ) -> "LibraryTokenizer":
        """Read a tokenizer.json.

        Args:
            context_length: maximum number of ids of a text; by default the one that `save` wrote.
            rules: by default those that `save` wrote into tokenizer_config.json.
        Raises:
            DataError: the file is missing, damaged or too large, or lacks the rules and none are given.
        """
        path = expanded(path)
        content = read_small(path).decode("utf-8", errors="replace")
        if rules is None or context_length is None:
            stored, length = _read_settings(path)
            rules, context_length = rules or stored, context_length or length
        try:
            return cls(content, context_length, rules)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json, and the rules into tokenizer_config.json beside it; replaces older files.

        The tokenizers library and transformers read both; they do not clean texts.
        """
        path = expanded(path)
        library = tokenizers.Tokenizer.from_str(self._library.to_str())
        library.enable_truncation(self.context_length)
        pad_token = library.id_to_token(self.pad_id)
        library.enable_padding(length=self.context_length, pad_id=self.pad_id, pad_token=pad_token)
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.context_length,
            "pad_token": pad_token,
            "padding_side": "right",
            _OURS: dataclasses.asdict(self.rules),
        }
        for place, text in (
            (path, library.to_str()),
            (path.with_name(SETTINGS), json.dumps(settings, indent=2) + "\n"),
        ):
            with writing(place), new_file(place) as unfinished:
                unfinished.write_text(text, encoding="utf-8")

    def self_contained(self) -> str:
        """The content of a tokenizer.json that cleans, truncates and pads texts by itself, for other libraries.

        Encodings are not repaired and HTML entities not resolved, which no such file can do.
        """
        library = tokenizers.Tokenizer.from_str(self._library.to_str())
        steps = [*_STEPS[self.rules.cleaning], *([library.normalizer] if library.normalizer is not None else [])]
        if steps:
            library.normalizer = normalizers.Sequence(steps)
        library.enable_truncation(self.context_length)
        library.enable_padding(
            length=self.context_length, pad_id=self.pad_id, pad_token=library.id_to_token(self.pad_id)
        )
        content = json.loads(library.to_str())
        if self.rules.zeroed is not None:
            content["post_processor"] = _with_zero(content["post_processor"], self.rules.zeroed)
        return json.dumps(content, ensure_ascii=False)

    def __call__(
        self, texts: str | Iterable[str], *, truncate: bool = False, pad_to: int | None = None
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Convert texts to ids, with the start and end that the tokenizer adds, then padding.

        Args:
            texts: N texts, or a single one.
            truncate: truncate a text that is too long before its end is added, instead of raising an error.
            pad_to: L; by default the length of the longest text. Longer texts are too long.
        Returns:
            tokens: int32 (N, L).
            lengths: int64 (N,), number of ids of each text before the padding.
        Raises:
            TextError: a text is not a str, or is longer than pad_to or the context.
            ConfigError: pad_to is not between the number of ids that the tokenizer adds and context_length.
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
        if not self._added < limit <= self.context_length:
            raise ConfigError(
                f"pad_to is {pad_to}; it must be between {self._added + 1} and the context length, "
                f"{self.context_length}"
            )
        rows = self._rows(texts, limit, truncate)
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        tokens = np.full((len(rows), pad_to or int(lengths.max(initial=0))), self.pad_id, dtype=np.int32)
        for tokens_row, row in zip(tokens, rows, strict=True):
            tokens_row[: len(row)] = row
        if self.rules.zeroed is not None:
            tokens[tokens == self.rules.zeroed] = 0
        return tokens, lengths

    def num_tokens(self, text: str) -> int:
        """Number of ids of one text of any length, with those that the tokenizer adds."""
        return len(self._encode(list(checked_texts([text])))[0])

    def encode(self, text: str) -> list[int]:
        """The ids of one text of any length, without those that the tokenizer adds."""
        [cleaned] = [CLEANINGS[self.rules.cleaning](one) for one in checked_texts([text])]
        return self._library.encode(cleaned, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without special ids.

        Raises:
            TextError: an id is outside the vocabulary.
        """
        ids = [int(id) for id in ids]
        if wrong := [id for id in ids if not 0 <= id < self.vocab_size]:
            raise TextError(f"id {wrong[0]} is outside the vocabulary of {self.vocab_size} tokens")
        return self._library.decode(ids)

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        clean = CLEANINGS[self.rules.cleaning]
        return self._library.encode_batch([clean(text) for text in texts])

    def _rows(self, texts: Sequence[str], limit: int, truncate: bool) -> list[list[int]]:
        """The ids of each text, at most `limit`."""
        rows = [encoding.ids for encoding in self._encode(texts)]
        long = [index for index, row in enumerate(rows) if len(row) > limit]
        if long and not truncate:
            raise too_long(texts[long[0]], long[0], len(texts), len(rows[long[0]]), limit)
        for index in long:
            cleaned = CLEANINGS[self.rules.cleaning](texts[index])
            content = self._library.encode(cleaned, add_special_tokens=False)
            content.truncate(limit - self._added)
            rows[index] = self._library.post_process(content).ids
        return rows


AnyTokenizer = Tokenizer | LibraryTokenizer


def _with_zero(values: Any, id: int) -> Any:
    """A part of a tokenizer.json with 0 in the place of an id."""
    if isinstance(values, Mapping):
        return {key: _with_zero(value, id) for key, value in values.items()}
    if isinstance(values, list):
        return [_with_zero(value, id) for value in values]
    return 0 if type(values) is int and values == id else values


def read_tokenizer(path: str | Path, context_length: int | None = None) -> AnyTokenizer:
    """Read a tokenizer.json that Diptych wrote, or that of a Hugging Face CLIP; the content tells the kind.

    Raises:
        DataError: the file is missing, damaged or too large, or it is another model's and no settings of Diptych stand
            beside it.
    """
    path = expanded(path)
    if has_rules(path):  # first, because parsing a large tokenizer twice takes a tenth of a second
        model = read_object(path).get("model")
        if isinstance(model, Mapping) and model.get("end_of_word_suffix") != SUFFIX:
            return LibraryTokenizer.from_file(path, context_length)
    return Tokenizer.from_file(path, context_length)


def has_rules(path: Path) -> bool:
    """Whether Diptych's settings stand beside a tokenizer.json."""
    settings = path.with_name(SETTINGS)
    return settings.is_file() and _OURS in read_object(settings)


def _read_settings(path: Path) -> tuple[TextRules, int]:
    """The rules and the context length that `save` wrote beside a tokenizer.json."""
    settings = read_object(path.with_name(SETTINGS))
    values, length = settings.get(_OURS), settings.get("model_max_length")
    names = {field.name for field in dataclasses.fields(TextRules)}
    if not isinstance(values, Mapping) or not set(values) <= names or type(length) is not int:
        raise DataError(f"{path.with_name(SETTINGS)} does not say how texts are cleaned and padded")
    try:
        return TextRules(**values), length
    except ConfigError as error:
        raise DataError(f"{path.with_name(SETTINGS)}: {error}") from error
