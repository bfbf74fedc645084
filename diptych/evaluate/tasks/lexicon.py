"""Zero-shot word recognition: each image has its own list of candidate words (IIIT5K, table 14).

The paper does not print its prompt; its other prompts for text quote the text, so this one does, too.

Source: CLIP paper, section 3.1.4 and appendix E.2.
"""

from collections.abc import Sequence

import numpy as np

from diptych.embed.encoder import Encoder
from diptych.errors import DataError, InputError, ShapeError
from diptych.evalsets.card import Card
from diptych.evaluate.encoded_set import Encoded, encode_set
from diptych.evaluate.metrics.score import COUNTED, Score
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.scored_results import make_result
from diptych.evaluate.tasks.retrieval import encode_captions
from diptych.evaluate.tasks.task import Measurement, Setting, Task
from diptych.evaluate.zero_shot.class_prompts import fill_template

TEMPLATE = 'a photo of the word: "{c}".'
PROTOCOL = "own_lexicon"


def choose_words(vectors: np.ndarray, word_vectors: np.ndarray, lexicons: Sequence[np.ndarray]) -> np.ndarray:
    """The index of the nearest word in the lexicon of each image; the first one on ties.

    Args:
        vectors: float (N, E), of unit norm and finite.
        word_vectors: float (W, E), vectors of all words.
        lexicons: for each of N images, the indices of its words, int64 (n,), at least one.
    Returns:
        int64 (N,).
    Raises:
        ShapeError: images, words and lexicons do not fit together.
        InputError: a lexicon is empty.
    """
    if len(vectors) != len(lexicons) or vectors.shape[1] != word_vectors.shape[1]:
        raise ShapeError(f"{vectors.shape} images, {word_vectors.shape} words and {len(lexicons)} lexicons do not fit")
    if empty := [row for row, words in enumerate(lexicons) if not len(words)]:
        raise InputError(f"the lexicons of {len(empty)} images are empty, the first one is {empty[0]}")
    wide = word_vectors.astype(np.float64)
    scores = (wide[words] @ np.asarray(vector, np.float64) for vector, words in zip(vectors, lexicons, strict=True))
    return np.array([similarities.astype(np.float32).argmax() for similarities in scores], np.int64)


def _lexicons(encoded: Encoded, where: str) -> list[tuple[str, ...]]:
    lexicons = []
    for key, label, facts in zip(encoded.keys, encoded.labels, encoded.metadata, strict=True):
        words = tuple(map(str, facts.get("lexicon", ())))
        if not 0 <= label < len(words):
            raise DataError(f"{where}: {key!r} has a lexicon of {len(words)} words, which has no word {label}")
        lexicons.append(words)
    return lexicons


def _measure(encoder: Encoder, card: Card, setting: Setting) -> Measurement:
    benchmark = setting.open(card)
    encoded = encode_set(encoder, benchmark, cache=setting.cache, num_workers=setting.num_workers)
    lexicons = _lexicons(encoded, f"{card.name}/test")
    words = {word: number for number, word in enumerate(sorted({word for words in lexicons for word in words}))}
    vectors, num_cut = encode_captions(encoder, [fill_template(TEMPLATE, word) for word in words])
    numbers = [np.array([words[word] for word in own], np.int64) for own in lexicons]
    chosen = choose_words(encoded.vectors, vectors, numbers)
    # A lexicon may repeat a word, or have it in another case: compare words, not indices.
    right = sum(
        own[best].lower() == own[label].lower()
        for own, best, label in zip(lexicons, chosen, encoded.labels, strict=True)
    )
    n = len(lexicons)
    result = make_result(
        *("lexicon", card.name, "test", "accuracy", Score(right / n, n, *clopper_pearson(right, n), COUNTED)),
        protocol=PROTOCOL,
        encoder=encoder,
        fingerprint=benchmark.fingerprint,
        settings={"template": TEMPLATE, "words": len(words), "cut": num_cut},
    )
    return Measurement([result])


LEXICON = Task("lexicon", lambda card: card.has_lexicons, lambda card: ("test",), _measure)
"""Accuracy on IIIT5K with its lexicons of 1,000 words."""
