"""Vocabularies in CLIP's form: learned from texts, read from OpenAI's merges, stored in a tokenizer.json."""

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from diptych.data.text_cleaning import ALPHABET
from diptych.errors import ConfigError, DataError

SUFFIX = "</w>"  # ends a word
SOT, EOT = "<|startoftext|>", "<|endoftext|>"
BYTE_TOKENS = (*ALPHABET, *(character + SUFFIX for character in ALPHABET))
SMALLEST = len(BYTE_TOKENS) + 2
LARGEST = 2**20
_MAX_FILE_BYTES = 64 * 2**20
_OPENAI_FILE = "bpe_simple_vocab_16e6.txt.gz"
NUM_OPENAI_IDS = 49_408
_NUM_OPENAI_MERGES = NUM_OPENAI_IDS - SMALLEST

Merges = list[tuple[str, str]]


def from_merges(merges: Iterable[tuple[str, str]]) -> list[str]:
    """The vocabulary of the merges, in id order: bytes, bytes that end a word, merged tokens, SOT, EOT."""
    return list(dict.fromkeys([*BYTE_TOKENS, *(first + second for first, second in merges), SOT, EOT]))


def check(tokens: Sequence[str], merges: Iterable[tuple[str, str]], where: str) -> None:
    """Raise DataError unless tokens and merges are consistent and have CLIP's form."""
    known = set(tokens)
    if len(known) != len(tokens):
        raise DataError(f"{where}: a token has two ids")
    missing = [token for token in (*BYTE_TOKENS, SOT, EOT) if token not in known]
    if missing:
        raise DataError(
            f"{where}: not a byte-level BPE in CLIP's form: {missing[0]!r} and {len(missing) - 1} more are missing"
        )
    if odd := set("".join(tokens)) - set(ALPHABET):
        raise DataError(f"{where}: not a byte-level BPE in CLIP's form: a token has the character {min(odd)!a}")
    if tokens[-1] != EOT:
        raise DataError(
            f"{where}: {EOT} must have the largest id, by which the text encoder finds it; {tokens[-1]!r} has"
        )
    for first, second in merges:
        if not {first, second, first + second} <= known:
            raise DataError(f"{where}: the merge of {first!r} and {second!r} has a token that the vocabulary lacks")


def learn(texts: Iterable[str], vocab_size: int) -> Merges:
    """Learn merges from clean, lower-cased texts: vocab_size - 514 of them, or fewer if no further pair occurs twice.

    Raises:
        ConfigError: vocab_size leaves no room for bytes and special tokens, or is too large.
    """
    if not SMALLEST <= vocab_size <= LARGEST:
        raise ConfigError(
            f"vocab_size is {vocab_size}; bytes and special tokens need {SMALLEST}, the limit is {LARGEST}"
        )
    learner = tokenizers.Tokenizer(models.BPE(end_of_word_suffix=SUFFIX))
    learner.pre_tokenizer = _pre_tokenizer()
    # Without the word-final bytes as "special" tokens, their ids, which decide between equally frequent pairs, would
    # follow the order of a randomly seeded hash table.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        min_frequency=2,
        special_tokens=list(BYTE_TOKENS[len(ALPHABET) :]),
        initial_alphabet=ALPHABET,
        end_of_word_suffix=SUFFIX,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return [(first, second) for first, second in json.loads(learner.to_str())["model"]["merges"]]


def read_openai_merges(path: Path) -> Merges:
    """Read bpe_simple_vocab_16e6.txt.gz: a header, then one merge per line; CLIP uses the first 48,894."""
    try:
        with gzip.open(path) as file:
            text = file.read(_MAX_FILE_BYTES + 1)
        if len(text) > _MAX_FILE_BYTES:
            raise DataError(f"{path}: unpacks to more than {_MAX_FILE_BYTES >> 20} MiB; {_OPENAI_FILE} has 3 MiB")
        lines = text.decode().split("\n")[1 : _NUM_OPENAI_MERGES + 1]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as {_OPENAI_FILE}: {error}") from error
    merges = _pairs(lines, path, _OPENAI_FILE)
    check(from_merges(merges), merges, str(path))
    return merges


def _pairs(lines: Iterable[str], path: Path, kind: str) -> Merges:
    """Parse one merge per line; empty lines are skipped."""
    pairs = [line.split() for line in lines if line.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise DataError(f"{path}: not {kind}: a line is not a pair of tokens")
    return [(first, second) for first, second in pairs]


def read_vocab_and_merges(vocab: Path, merges: Path) -> tuple[list[str], Merges]:
    """Read the vocab.json and merges.txt of a Hugging Face CLIP without tokenizer.json.

    An added_tokens.json in the same folder extends the vocabulary, as in transformers.

    Raises:
        DataError: a file is missing, damaged, too large, or not of CLIP's form.
    """
    ids = read_object(vocab)
    if (added := vocab.with_name("added_tokens.json")).is_file():
        ids |= read_object(added)
    lines = read_small(merges).decode(errors="replace").splitlines()
    if lines and lines[0].startswith("#version"):
        lines = lines[1:]
    pairs = _pairs(lines, merges, "merges.txt of a CLIP")
    tokens = _by_id(ids, vocab)
    check(tokens, pairs, str(vocab))
    return tokens, pairs


def read_small(path: Path) -> bytes:
    """The content of a file of limited size; DataError if it is larger or cannot be read."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes; a {path.name} has at most {_MAX_FILE_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file of limited size.

    Raises:
        DataError: the file is missing, damaged, too large, or holds something else.
    """
    try:
        content = json.loads(read_small(path))
    except (ValueError, RecursionError) as error:
        raise (
            error if isinstance(error, DataError) else DataError(f"{path}: cannot be read as JSON: {error}")
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a {path.name}: it holds {type(content).__name__}, not an object")
    return content


def _by_id(ids: Mapping[str, Any], path: Path) -> list[str]:
    """The tokens in id order; the ids must be 0, 1, 2, ..."""
    if not all(type(id) is int for id in ids.values()) or sorted(ids.values()) != list(range(len(ids))):
        raise DataError(f"{path}: the {len(ids)} tokens do not have the ids 0 to {len(ids) - 1}")
    return sorted(ids, key=ids.__getitem__)


def read_json(path: Path) -> tuple[list[str], Merges, int | None]:
    """Read a tokenizer.json of CLIP's form, written by Diptych or part of a Hugging Face CLIP.

    Returns:
        the tokens in id order, the merges, and the context length if the file has one.
    Raises:
        DataError: the file is missing, damaged, too large, or contains another kind of tokenizer.
    """
    content = read_object(path)
    try:
        model = content["model"]
        if (
            model.get("type") != "BPE"
            or model.get("end_of_word_suffix") != SUFFIX
            or "Lowercase" not in str(content.get("normalizer"))
        ):
            raise DataError(f"{path}: not a lower-cased BPE with words that end in {SUFFIX}, as CLIP's are")
        ids = model["vocab"] | {token["content"]: token["id"] for token in content.get("added_tokens") or []}
        tokens = _by_id(ids, path)
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        merges = [(str(first), str(second)) for first, second in pairs]
        context_length = (content.get("truncation") or {}).get("max_length")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise (
            error if isinstance(error, DataError) else DataError(f"{path}: not a tokenizer.json: {error!r}")
        ) from error
    if context_length is not None and type(context_length) is not int:
        raise DataError(f"{path}: truncation.max_length is {context_length!r}, not a number of tokens")
    check(tokens, merges, str(path))
    return tokens, merges, context_length


def to_json(tokens: Sequence[str], merges: Iterable[tuple[str, str]], context_length: int) -> str:
    """The content of a tokenizer.json for the tokenizers library and transformers.

    There it gives the same ids for clean lower-case text; these libraries do not repair mojibake or resolve entities.
    """
    ids = {token: id for id, token in enumerate(tokens)}
    model = models.BPE(vocab=ids, merges=list(merges), end_of_word_suffix=SUFFIX, unk_token=EOT)
    made = tokenizers.Tokenizer(model)
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = _pre_tokenizer()
    made.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace(SUFFIX, " ")])
    made.post_processor = processors.TemplateProcessing(
        single=f"{SOT} $A {EOT}",
        pair=f"{SOT} $A {EOT} {EOT} $B {EOT}",
        special_tokens=[(SOT, ids[SOT]), (EOT, ids[EOT])],
    )
    made.add_special_tokens([AddedToken(token, normalized=False) for token in (SOT, EOT)])
    made.enable_truncation(context_length)
    return made.to_str(pretty=True)


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """CLIP's pattern in the tokenizers library, with Hugging Face's names for the special tokens."""
    pattern = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
