"""CLIP's steps before byte-pair encoding: cleaning, splitting into pieces, and bytes as printable characters."""

import functools
import html
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import regex

# The pattern of CLIP's tokenizer, with open_clip's names for the special tokens. It never matches across white space,
# so a text's ids are the ids of its words, concatenated. `regex` is used as in open_clip, not the tokenizers library:
# the two support different versions of Unicode, which differ in 17,000 letters at the time of writing.
START, END = "<start_of_text>", "<end_of_text>"
_SPECIAL = f"{START}|{END}|'s|'t|'re|'ve|'m|'ll|'d"
_ASCII_PIECES = re.compile(_SPECIAL + r"|[a-z]+|[0-9]|[^\sa-z0-9]+", re.IGNORECASE)


def pieces(word: str) -> list[str]:
    """The parts of a word that are encoded separately: letters, single digits, other characters, 's and the like."""
    # For printable ASCII the two patterns are equivalent, and importing `regex` takes longer than encoding a label.
    return (_ASCII_PIECES if word.isascii() and word.isprintable() else _pieces()).findall(word)


@functools.cache
def _pieces() -> "regex.Pattern[str]":
    import regex

    return regex.compile(_SPECIAL + r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)


def clean(text: str) -> str:
    """Repair a text's encoding and resolve its HTML entities, as CLIP's reference code does.

    White space is not collapsed and case is not folded: `clean(text).lower().split()` gives the words.

    Printable ASCII without entities is returned at once, because no step of ftfy.fix_text changes it (entities,
    mojibake, C1 controls, ligatures, widths, quotes, line breaks, surrogates, terminal escapes, control characters,
    NFC). An ampersand before a space does not start an entity.
    """
    if text.isascii() and (stripped := text.strip()).isprintable() and "&" not in stripped.replace("& ", ""):
        return stripped
    return html.unescape(html.unescape(_fixer()(text)))


@functools.cache
def _fixer() -> Callable[[str], str]:
    import ftfy  # imported here because most texts do not need it

    config = ftfy.TextFixerConfig(explain=False)
    return lambda text: ftfy.fix_text(text, config)


def normalise(text: str) -> str:
    """Clean a text, collapse its white space and fold its case, as the tokenizer does."""
    return " ".join(clean(text).lower().split())


def _byte_characters() -> list[str]:
    """The printable character that represents each of the 256 bytes, as in GPT-2."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    character_of = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [character_of[byte] for byte in range(256)]


BYTE_CHARACTERS = _byte_characters()
BYTE_OF_CHARACTER = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
# CLIP's vocabulary begins with the printable bytes in order, then the others, which is the order of their characters.
ALPHABET = sorted(BYTE_CHARACTERS)


def to_characters(piece: str) -> str:
    """A piece of text as the characters that represent its UTF-8 bytes."""
    return "".join([BYTE_CHARACTERS[byte] for byte in piece.encode()])


def to_bytes(characters: str) -> bytes:
    """The bytes that characters of ALPHABET represent."""
    return bytes([BYTE_OF_CHARACTER[character] for character in characters])
