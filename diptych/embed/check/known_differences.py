"""What other libraries do otherwise than Diptych on purpose, for images and texts with a certain trait."""

import dataclasses
from collections.abc import Iterable, Mapping

from diptych.embed.check.check_images import NOT_RGB, ORIENTATION, SIXTEEN_BITS, STRIP, TRANSPARENCY
from diptych.embed.check.check_texts import CLEANING
from diptych.embed.check.tolerances import DECODED, PIXELS, TOKENS


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownDifference:
    """A difference that is no fault of either side.

    Attributes:
        stage: the stage at which it arises; None if it shows only when the library runs from file to vector.
        sentence: what the library does, and what Diptych does.
    """

    stage: str | None
    sentence: str


Known = Mapping[str, KnownDifference]
"""By the trait of an image or a text."""

_STRIP = KnownDifference(
    stage=PIXELS,
    sentence="the library resizes the whole of a very long strip, Diptych only the part that the crop keeps, which "
    "rounds some pixels differently",
)
_BY_READING: Mapping[str, Known] = {
    "transformers": {
        TRANSPARENCY: KnownDifference(
            stage=DECODED,
            sentence="load_image of transformers shows the colours of transparent pixels; Diptych puts the image on "
            "white",
        ),
        SIXTEEN_BITS: KnownDifference(
            stage=DECODED, sentence="transformers clips 16-bit grey to white; Diptych scales it to 8 bits"
        ),
    },
    "open_clip": {
        TRANSPARENCY: KnownDifference(
            stage=DECODED,
            sentence="open_clip shows the colours of transparent pixels; Diptych puts the image on white",
        ),
        SIXTEEN_BITS: KnownDifference(
            stage=DECODED, sentence="open_clip clips 16-bit grey to white; Diptych scales it to 8 bits"
        ),
        ORIENTATION: KnownDifference(
            stage=DECODED, sentence="open_clip ignores the EXIF orientation; Diptych turns the image upright"
        ),
        NOT_RGB: KnownDifference(
            stage=None, sentence="open_clip resizes such an image before it converts it to RGB; Diptych converts first"
        ),
    },
}
_BY_COMPUTING: Mapping[str, Known] = {
    "transformers": {
        STRIP: _STRIP,
        CLEANING: KnownDifference(
            stage=TOKENS,
            sentence="transformers does not clean texts (HTML entities, curly quotes, wrong encodings); Diptych does, "
            "as the code that trained CLIP",
        ),
    },
    "open_clip": {STRIP: _STRIP},
    "openai": {STRIP: _STRIP},
}


def known_in_reading(library: str) -> Known:
    """The differences of a library that reads files by itself, by the library's name."""
    return _BY_READING.get(library, {})


def known_in_computing(*libraries: str) -> Known:
    """The differences of libraries even where Diptych reads the files for them."""
    return {trait: known for library in libraries for trait, known in _BY_COMPUTING.get(library, {}).items()}


def explained_at(known: Known, stage: str) -> list[str]:
    """The traits that explain a difference at a stage."""
    return [trait for trait, one in known.items() if one.stage == stage]


def effective(known: Known, traits: Iterable[str]) -> Known:
    """Those of the differences that took effect."""
    found = set(traits)
    return {trait: one for trait, one in known.items() if trait in found}
