"""Shared tools of the tokenizer tests: the reference tokenizer, texts to compare on, and the comparison."""

import functools
import importlib.util
import itertools
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch

from diptych.data.tokenizer import Tokenizer

PAPER = Path(__file__).resolve().parents[2] / "shared" / "paper"

FRAGMENTS = [
    *[
        "",
        "a photo of a cat",
        "Two DOGS!!",
        "don't we'll I'VE she's they're I'm he'd",
        "'S 'T 'RE",
        "rock 'n' roll",
        "'",
    ],
    *[
        "😀",
        "👩‍👩‍👧‍👦",
        "🏳️‍🌈",
        "❤️",
        "猫の写真",
        "一只猫",
        "고양이",
        "กขค",
        "नमस्ते",
        "שלום",
        "مرحبا",
        "café",
        "cafe\u0301",
    ],
    *[
        "&amp;",
        "&amp;amp;",
        "&amp;amp;amp;",
        "&lt;b&gt;",
        "&eacute;",
        "&#39;",
        "&#x1F600;",
        "&#0;",
        "&#x9f;",
        "&nbsp;",
        "&amp;nbsp;",
    ],
    *[
        "AT&T",
        "black & white",
        "&",
        "& ",
        "&&",
        "&copy",
        "&notit;",
        "a&#769;",
        "a&amp;#769;",
        "<br>&eacute;",
        "&amp;#1;",
        "&#xD800;",
    ],
    *[
        "Ã©tÃ©",
        "schÃ¶n",
        "â€œquotedâ€\x9d",
        "âœ” No problems",
        "l’humanitÃ©",
        "ã\x83\x84",
        "Ð¿Ñ€Ð¸Ð²ÐµÑ‚",
        "\x85\x91\x92",
    ],
    *[
        "a\xa0b",
        "a\u3000b",
        "a\u200bb",
        "a\u2028b",
        "a\x1fb",
        "\x1c\x1d",
        "a\tb",
        "a\r\nb",
        "\n",
        "a\x0bb\x0cc",
        "\u180e",
        "\ufeff",
        "a\x85b",
        "\x85",
    ],
    *[
        "\x00",
        "\x07bell",
        "\x1b[31mred\x1b[0m",
        "\x7f",
        "\x9b",
        "ﬁne ﬂoor",
        "ﬅart",
        "Ĳssel",
        "ŉ",
        "ＦＵＬＬ　ｗｉｄｔｈ",
        "ｱｲｳ",
        "“curly” ‘quotes’",
    ],
    *[
        "<|endoftext|>",
        "<|EndOfText|>",
        "<|startoftext|>",
        "<start_of_text>",
        "<END_of_Text>",
        "x<end_of_text>y",
        "!<end_of_text>",
    ],
    *[
        "<ſtart_of_text>",
        "<ﬅart_of_text>",
        "'ſ",
        "it'ſ",
        "İstanbul",
        "ıI",
        "ΣΊΣΥΦΟΣ",
        "ΟΔΟΣ.",
        "ΑΣ\u0301",
        "Σ",
        "ß ẞ",
        "K Å",
        "ǅ",
    ],
    *[
        "１２３",
        "٣٤",
        "½",
        "Ⅷ",
        "x²",
        "123abc456",
        "3.14",
        "snake_case_word",
        "__",
        "a-b--c",
        "</w>",
        "</w",
        "a</w>b",
        "\\N{x}",
        "%s {c} {0}",
    ],
    *[
        "𝒻𝒶𝓃𝒸𝓎",
        "\U000323b0a",
        "a\u0558b",
        "\ud83d",
        "\ud83d\ude00",
        "\udc80x",
        "\uffff",
        "\U0010ffff",
        "e\u0323\u0302",
        "ﷺ",
        "Ω",
        "z̸͔̈́",
    ],
    *["a" * 300, "!" * 90, "word " * 80, "12345 " * 20, "é" * 100, "猫" * 60, "a.b" * 40],
]


@functools.cache
def openai() -> Tokenizer:
    return Tokenizer.openai()


@functools.cache
def small() -> Tokenizer:
    """Pairs by frequency: (a, b</w>) 4, (b, c</w>) 3, then (a, bc</w>) 2; (x, bc</w>) occurs once only."""
    return Tokenizer.train(["ab " * 4, "ABC abc", "xbc"], vocab_size=600, context_length=8)


@functools.cache
def open_clip_module() -> ModuleType:
    """open_clip's tokenizer module on its own; the whole package would import torchvision and timm as well."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        pytest.skip("open_clip is not installed")
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", Path(package.origin).with_name("tokenizer.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_same(ours: Tokenizer, theirs, texts: Sequence[str]) -> None:
    """The ids of a batch equal open_clip's; lengths give the pooling position: the first with the largest id."""
    tokens, lengths = ours(texts, truncate=True, pad_to=77)
    expected = theirs(list(texts))
    assert tokens.dtype == torch.int32 and lengths.dtype == torch.int64
    wrong = (tokens != expected).any(dim=1).nonzero()[:, 0].tolist()
    assert not wrong, [(texts[i], tokens[i, : lengths[i]].tolist(), theirs.encode(texts[i])) for i in wrong[:3]]
    assert lengths.tolist() == (expected.argmax(dim=1) + 1).tolist()


def prompts() -> Iterable[str]:
    """Every class name and template of the paper's sets, and every combination of them."""
    sets = json.loads((PAPER / "prompts.json").read_text(encoding="utf-8"))
    templates = json.loads((PAPER / "imagenet_templates.json").read_text(encoding="utf-8"))
    classes = (PAPER / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    for names, forms in [*((s["classes"], s["templates"]) for s in sets.values()), (classes, templates)]:
        names = [alias for name in names for alias in ([name] if isinstance(name, str) else name)]
        yield from (*names, *forms)
        yield from (form.replace("{}", name) for form, name in itertools.product(forms, names))


def captions(count: int) -> list[str]:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdeéß猫", k=rng.randint(1, 6))) for _ in range(2_000)]
    return [" ".join(rng.choices(words, k=6)) for _ in range(count)]
