"""Sentences as pictures: the Rendered SST2 set, black on white, 448 x 448 pixels."""

import bisect
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diptych.data.samples import decode_text, read_file
from diptych.errors import DataError
from diptych.evalsets.derived import Draft
from diptych.evalsets.prompts import get_prompts

SIZE, MARGIN = 448, 16
_FONT_SIZES = (40, 36, 32, 28, 24, 20, 16, 12)  # the largest with which the sentence fits
_MAX_CHARACTERS = 4000  # twice what the smallest leaves room for
_MAX_BYTES = 256 << 20
_FILES = {"train": ("train.tsv",), "val": ("dev.tsv", "val.tsv", "valid.tsv"), "test": ("test.tsv",)}


def rendered_sst2(source: Path, seed: int) -> Draft:
    """The Stanford Sentiment Treebank's sentences with two classes, drawn as pictures; nothing is chosen at random.

    Args:
        source: holds train.tsv, dev.tsv and test.tsv, each with a sentence and its label (0 negative, 1 positive) a
            line, with or without a header "sentence, label".
        seed: changes nothing here.
    Raises:
        DataError: a file is missing, or a line has no label of 0 or 1.
    """
    sentences: dict[str, str] = {}
    splits: dict[str, list[tuple[str, int]]] = {}
    for split, names in _FILES.items():
        path = next((source / name for name in names if (source / name).is_file()), None)
        if path is None:
            raise DataError(f"{source} has no {' or '.join(names)}")
        splits[split] = []
        for number, (sentence, label) in enumerate(_sentences(path)):
            name = f"{split}/{number}"
            sentences[name] = sentence
            splits[split].append((name, label))
    names_of_classes = tuple(names[0] for names in get_prompts("RenderedSST2").class_names)
    return Draft(names_of_classes, splits, lambda name: render(sentences[name]))


def render(sentence: str) -> np.ndarray:
    """A sentence as a picture: wrapped, to the left, about half-way down, in a sans-serif face.

    Returns:
        uint8 (448, 448, 3).
    Raises:
        DataError: it is too long for a picture of this size.

    Source: the paper's figure 19; its font, its size and its margins are not stated.
    """
    room = SIZE - 2 * MARGIN
    for size in _FONT_SIZES if len(sentence) <= _MAX_CHARACTERS else ():
        font = _font(size)
        lines = _wrap(sentence, font, room)
        height = sum(font.getmetrics()) * len(lines)
        if height <= room:
            break
    else:
        raise DataError(f"the sentence {sentence[:60]!r}... of {len(sentence)} characters does not fit into a picture")
    picture = Image.new("RGB", (SIZE, SIZE), "white")
    drawing = ImageDraw.Draw(picture)
    top = (SIZE - height) // 2
    for number, line in enumerate(lines):
        drawing.text((MARGIN, top + number * sum(font.getmetrics())), line, fill="black", font=font)
    return np.asarray(picture)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own scalable face, Aileron."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _wrap(sentence: str, font: ImageFont.FreeTypeFont, room: float) -> list[str]:
    """Lines that are no wider than the room; a word that alone is wider is broken."""
    lines = [""]
    for word in sentence.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= room:
            lines[-1] = longer
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = word
        while font.getlength(lines[-1]) > room and len(lines[-1]) > 1:
            rest = lines[-1]
            fits = max(1, bisect.bisect_right(range(len(rest)), room, key=lambda end: font.getlength(rest[:end])) - 1)
            lines[-1:] = [rest[:fits], rest[fits:]]
    return lines


def _sentences(path: Path) -> Iterator[tuple[str, int]]:
    text = decode_text(read_file(path, _MAX_BYTES), str(path)).removeprefix("\ufeff")
    place = 1  # of the label, unless the header says otherwise
    for number, line in enumerate(text.splitlines(), 1):
        fields = [field.strip() for field in line.split("\t")]
        if number == 1 and "label" in fields and "sentence" in fields:
            place = fields.index("label")
            continue
        if not line.strip():
            continue
        if len(fields) == 2 and number == 1 and fields[0] in ("0", "1") and fields[1] not in ("0", "1"):
            place = 0
        if len(fields) != 2 or fields[place] not in ("0", "1") or not fields[1 - place]:
            raise DataError(f"{path}, line {number} is no sentence with a label of 0 or 1: {line[:80]!r}")
        yield fields[1 - place], int(fields[place])
