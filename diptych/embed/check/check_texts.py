"""The 64 texts of a check: every kind of text on which tokenizers are known to differ."""

import dataclasses

CLEANING = "cleaning"
"""Trait of a text that CLIP's tokenizer repairs (HTML entities, quotes, encoding) and others take as it is."""


@dataclasses.dataclass(frozen=True)
class CheckText:
    """One text of a check.

    Attributes:
        text: the text.
        trait: CLEANING, or "" for a text that every tokenizer of CLIP takes as it is.
    """

    text: str
    trait: str = ""


_PLAIN = (
    "",
    " ",
    "a photo of a cat",
    "a photo of a dog.",
    "A PHOTO OF A CAT",
    "A Photo Of A Zebra, Grazing",
    "an aerial photograph of a river delta at low tide, with fishing boats",
    "a",
    "!",
    "   leading and trailing spaces   ",
    "many      spaces\tand\ttabs\nand\n\nlines",
    "no-break\u00a0space and thin\u2009space",
    "punctuation: (brackets) [more] {yet more} <angles> /slash/ \\back\\",
    "don't, can't, it's, we're, I've, I'm, he'll, she'd",
    "DON'T SHOUT, IT'S LATE",
    "'quoted' and \"double quoted\"",
    "1234567890",
    "3.14159, 1e-5, 50 %, $20.00, #42",
    "version2beta3 of the x86_64 build",
    "snake_case and CamelCase and kebab-case",
    "user@example.com at https://example.com/a?b=c",
    "ellipsis... and dashes -- and more --- !!! ???",
    "~`^*_=+|",
    "a+b=c; x<y; y>z",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "zzzzqqqqxxxxwwww jjjjkkkk",
    "ein Foto von einem Hund auf der Straße",
    "ÄRGER ÜBER ÖL: GRÖSSE",
    "une photo d'un chat à côté d'une fenêtre",
    "una foto de un niño con una piñata, ¿verdad?",
    "um cão e três maçãs no chão",
    "zdjęcie żółtej łódki",
    "příliš žluťoučký kůň",
    "bir fotoğraf: ışık ve gölge",
    "фотография кошки",
    "СОБАКА НА СНЕГУ",
    "μια γάτα",
    "一张猫的照片",
    "犬の写真です",
    "고양이 사진",
    "صورة قطة",
    "תמונה של חתול",
    "बिल्ली की तस्वीर",
    "รูปแมว",
    "ảnh một con mèo",
    "cafe\u0301 with a combining accent",
    "a\u030aa\u0308o\u0308 in the decomposed form",
    "x\u0301\u0323 with two marks that have no precomposed form",
    "a cat 🐱 and a dog 🐶",
    "🎉🎉🎉",
    "a family 👨\u200d👩\u200d👧 and a flag 🇩🇪",
    "thumbs up 👍🏽",
    "arrows → ← ↑ ↓ and boxes ■ □",
    "∑ of x² ≤ ∞",
    "a very long text " + "with the same words again and again " * 20,
    "cat " * 100,
    "dog" * 120,
    "Ж" * 90,
    "123 " * 40,
)
_CLEANED = (
    "fish &amp; chips &lt;3",
    "caf&eacute; &#9731; &amp;amp; twice",
    "\u2018curly\u2019 \u201cquotes\u201d",
    "schÃ¶n: UTF-8 that was read as Latin-1",
    "\ufb01ne \uff26\uff35\uff2c\uff2c width",
)


def check_texts() -> tuple[CheckText, ...]:
    """The 64 texts, always in the same order."""
    return (*map(CheckText, _PLAIN), *(CheckText(text, CLEANING) for text in _CLEANED))
