"""Sentences as images: the Rendered SST2 set, black on white, 448 x 448 pixels."""

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
_FONT_SIZES = (40, 36, 32, 28, 24, 20, 16, 12)  # the largest size that fits is used
_MAX_CHARACTERS = 4000  # about twice what fits at the smallest size
_MAX_BYTES = 256 << 20
_FILES = {"train": ("train.tsv",), "val": ("dev.tsv", "val.tsv", "valid.tsv"), "test": ("test.tsv",)}


def rendered_sst2(source: Path, seed: int) -> Draft:
    """The Stanford Sentiment Treebank's sentences of two classes, rendered as images. All sentences are used.

    Args:
        source: a folder with train.tsv, dev.tsv and test.tsv. Each line has a sentence and its label (0 negative,
            1 positive); a header "sentence, label" is optional.
        seed: unused.
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
    class_names = tuple(names[0] for names in get_prompts("RenderedSST2").class_names)
    return Draft(class_names, splits, lambda name: render(sentences[name]))


def render(sentence: str) -> np.ndarray:
    """A sentence as an image: wrapped, left-aligned, vertically centered, in a sans-serif font.

    Returns:
        uint8 (448, 448, 3).
    Raises:
        DataError: the sentence is too long for an image of this size.

    Source: the paper's figure 19; it does not state the font, its size or the margins.
    """
    room = SIZE - 2 * MARGIN
    for size in _FONT_SIZES if len(sentence) <= _MAX_CHARACTERS else ():
        font = _font(size)
        lines = _wrap(sentence, font, room)
        height = sum(font.getmetrics()) * len(lines)
        if height <= room:
            break
    else:
        raise DataError(f"the sentence {sentence[:60]!r}... of {len(sentence)} characters does not fit into an image")
    image = Image.new("RGB", (SIZE, SIZE), "white")
    drawing = ImageDraw.Draw(image)
    top = (SIZE - height) // 2
    for number, line in enumerate(lines):
        drawing.text((MARGIN, top + number * sum(font.getmetrics())), line, fill="black", font=font)
    return np.asarray(image)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's built-in scalable font, Aileron."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _wrap(sentence: str, font: ImageFont.FreeTypeFont, room: float) -> list[str]:
    """Wrap a sentence into lines of at most `room` pixels. A word that is wider is broken."""
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
    label_column = 1  # unless the header says otherwise
    for number, line in enumerate(text.splitlines(), 1):
        fields = [field.strip() for field in line.split("\t")]
        if number == 1 and "label" in fields and "sentence" in fields:
            label_column = fields.index("label")
            continue
        if not line.strip():
            continue
        if len(fields) == 2 and number == 1 and fields[0] in ("0", "1") and fields[1] not in ("0", "1"):
            label_column = 0
        if len(fields) != 2 or fields[label_column] not in ("0", "1") or not fields[1 - label_column]:
            raise DataError(f"{path}, line {number} is no sentence with a label of 0 or 1: {line[:80]!r}")
        yield fields[1 - label_column], int(fields[label_column])
