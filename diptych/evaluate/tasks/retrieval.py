"""Image-text retrieval in both directions, among all images and captions of a set (table 13).

Source: CLIP paper, appendix E.1. The paper prefixes each caption with "a photo of" and ranks by cosine; a caption that
describes several images counts as correct only for the image that it came with.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diptych.data.source import Source
from diptych.embed import Model
from diptych.embed.encoder import Encoder
from diptych.embed.neighbours import BLOCK, check_vectors, similarity_blocks
from diptych.errors import DataError, InputError, ShapeError, TextError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.card import Card
from diptych.evalsets.set_sources import PairsSource
from diptych.evaluate.encode_benchmark import MAX_BROKEN
from diptych.evaluate.encoded_set import Encoded, encode_set
from diptych.evaluate.metrics.score import COUNTED, Score
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.scored_results import make_result
from diptych.evaluate.tasks.task import Measurement, Setting, Task
from diptych.records import Result

PREFIXES = {"prefixed": "a photo of ", "bare": ""}
"""The prefix of each caption, by protocol."""
KS = (1, 5, 10)

_TEXTS_PER_BATCH = 1024

logger = logging.getLogger(__name__)


def retrieve(
    image_embeddings: np.ndarray,
    text_embeddings: np.ndarray,
    owner: np.ndarray,
    ks: Sequence[int] = KS,
    *,
    block: int = BLOCK,
) -> dict[str, Score]:
    """Recall at k in both directions; on ties the lower index is better.

    The similarity matrix is never held as a whole, only `block` rows of it; the results equal those of
    `ranking.recall_at_k` on the whole matrix.

    Args:
        image_embeddings: float (N, E), unit norm.
        text_embeddings: float (M, E), unit norm.
        owner: int (M,), the image that each text belongs to; each image has at least one.
        ks: values of k, each at least 1.
        block: number of images per block.
    Returns:
        "text_recall_at_1", ... (image to text), "image_recall_at_1", ... (text to image), each with its
        Clopper-Pearson interval over the queries.
    Raises:
        ShapeError: the arrays do not fit together.
        InputError: there is no text or no image, an image has no text, an owner is out of range, a k is below 1, or a
            vector is not finite.
    """
    images, texts, owner = np.asarray(image_embeddings), np.asarray(text_embeddings), np.asarray(owner)
    _check(images, texts, owner)
    if min(ks) < 1:
        raise InputError(f"k must be at least 1; got {list(ks)}")
    ranks = dict(zip(("text", "image"), _ranks(images, texts, owner, block), strict=True))
    return {f"{side}_recall_at_{k}": _recall(rank, k) for side, rank in ranks.items() for k in ks}


def measure_retrieval(
    encoder: Encoder,
    data: Benchmark | Source,
    *,
    name: str = "pairs",
    split: str = "test",
    protocols: Sequence[str] = tuple(PREFIXES),
    cache: Path | None = None,
    num_workers: int = 0,
) -> list[Result]:
    """Measure retrieval on images with captions: a set of the paper, or the held-out part of training pairs.

    Images without a caption are left out and counted in the Result's settings. Captions longer than the context of a
    Diptych model are truncated, as in training, and counted.

    Args:
        data: a Benchmark, or pairs as `open_source` opens them.
        name, split: dataset and split in the Results, if `data` are pairs.
        protocols: some of PREFIXES.
        cache: folder to cache the image embeddings; None caches nothing.
    Raises:
        DataError: no sample has a caption, or more than MAX_BROKEN of them have none.
        InputError: a protocol does not exist.
    """
    if unknown := set(protocols) - PREFIXES.keys():
        raise InputError(f"there is no protocol {sorted(unknown)}; there are {', '.join(PREFIXES)}")
    if isinstance(data, Benchmark):
        benchmark = data
    else:
        benchmark = Benchmark(name, split, (), (), PairsSource(data), data.fingerprint)
    encoded = encode_set(encoder, benchmark, cache=cache, num_workers=num_workers)
    where = f"{benchmark.name}/{benchmark.split}"
    kept, captions, owner = captions_of(encoded, where)
    images = np.asarray(encoded.vectors)[kept]
    results = []
    for protocol in protocols:
        embeddings, num_cut = encode_captions(encoder, [PREFIXES[protocol] + caption for caption in captions])
        settings = {"without_caption": len(encoded.keys) - len(kept), "cut_captions": num_cut}
        results += [
            make_result(
                *("retrieval", benchmark.name, benchmark.split, metric, value),
                protocol=protocol,
                encoder=encoder,
                fingerprint=benchmark.fingerprint,
                settings=settings,
            )
            for metric, value in retrieve(images, embeddings, owner).items()
        ]
    return results


def captions_of(encoded: Encoded, where: str = "the set") -> tuple[np.ndarray, list[str], np.ndarray]:
    """The indices of images with captions, int64 (N,); all M captions; and their images, int64 (M,) in [0, N).

    Raises:
        DataError: no image has a caption, or more than MAX_BROKEN of them have none.
    """
    texts = [[text.strip() for text in texts if text.strip()] for texts in encoded.texts]
    kept = np.array([place for place, captions in enumerate(texts) if captions], np.int64)
    num_without = len(texts) - len(kept)
    if num_without > MAX_BROKEN * len(texts) or not len(kept):
        raise DataError(
            f"{where}: {num_without} of {len(texts)} images have no caption; retrieval needs images with captions "
            "(a .txt file next to each image, a caption column, or captions in the set's own list)"
        )
    if num_without:
        logger.warning("%s: %d of %d images have no caption and are left out", where, num_without, len(texts))
    counts = [len(texts[place]) for place in kept]
    return kept, [text for place in kept for text in texts[place]], np.repeat(np.arange(len(kept)), counts)


def encode_captions(encoder: Encoder, texts: Sequence[str]) -> tuple[np.ndarray, int]:
    """Encode M texts: float32 (M, E) of unit norm, and the number of texts that were truncated to the context.

    Raises:
        InputError: an embedding is zero or not finite.
        ShapeError: the encoder returns another number of embeddings.
        TextError: a text is too long for an encoder that does not truncate texts.
    """
    unique = sorted(
        set(texts), key=lambda text: (len(text), text)
    )  # sorted by length: an encoder computes up to the longest text of a batch
    index_of = {text: number for number, text in enumerate(unique)}
    parts, truncated = [], set[str]()
    for start in range(0, len(unique), _TEXTS_PER_BATCH):
        batch = unique[start : start + _TEXTS_PER_BATCH]
        try:
            embeddings = encoder.encode_texts(batch)
        except TextError:
            if not isinstance(encoder, Model) or encoder.tokenizer is None:
                raise
            tokenizer = encoder.tokenizer
            truncated |= {text for text in batch if tokenizer.num_tokens(text) > tokenizer.context_length}
            embeddings = encoder.encode_texts(batch, truncate=True)
        if embeddings.ndim != 2 or len(embeddings) != len(batch):
            raise ShapeError(f"{encoder.name}: {len(batch)} texts gave embeddings of shape {tuple(embeddings.shape)}")
        parts.append(embeddings.float().cpu().numpy())
    vectors = np.concatenate(parts)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        unusable = unique[int(np.argmin((np.isfinite(norms) & (norms > 0))[:, 0]))]
        raise InputError(f"{encoder.name} gives no usable embedding (NaN or zero) for the text {unusable[:60]!r}")
    num_cut = sum(text in truncated for text in texts)
    if num_cut:
        logger.warning("%d of %d captions are longer than the context and were cut", num_cut, len(texts))
    return (vectors / norms).astype(np.float32)[[index_of[text] for text in texts]], num_cut


def _check(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> None:
    if not len(texts) or not len(images):
        raise InputError(f"there is nothing to retrieve: {len(images)} images and {len(texts)} captions")
    check_vectors(images, texts)
    if owner.shape != (len(texts),) or owner.dtype.kind not in "iu":
        raise ShapeError(f"owner must be int ({len(texts)},), one per text; got {owner.dtype} {owner.shape}")
    if owner.min() < 0 or owner.max() >= len(images):
        raise InputError(f"owners must lie in [0, {len(images)}); found {owner.min()} to {owner.max()}")
    without = np.flatnonzero(np.bincount(owner, minlength=len(images)) == 0)
    if len(without):
        raise InputError(f"{len(without)} of {len(images)} images have no caption, the first one is {without[0]}")
    for what, vectors in (("image", images), ("text", texts)):
        if broken := int((~np.isfinite(vectors)).any(axis=1).sum()):
            raise InputError(f"{broken} of {len(vectors)} {what} embeddings hold NaN or infinity; check the weights")


def _ranks(images: np.ndarray, texts: np.ndarray, owner: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """For each image, the number of wrong texts ranked before its best text; for each text, of wrong images: int64."""
    own = np.empty(len(texts), np.float32)
    for start in range(0, len(texts), block):
        rows = slice(start, start + block)
        pair = images[owner[rows]].astype(np.float64), texts[rows].astype(np.float64)
        own[rows] = np.einsum("me,me->m", *pair)
    best = np.full(len(images), -np.inf, np.float32)
    np.maximum.at(best, owner, own)
    place = np.full(len(images), len(texts))
    best_texts = np.flatnonzero(own == best[owner])
    np.minimum.at(place, owner[best_texts], best_texts)
    text_rank, image_rank = np.zeros(len(images), np.int64), np.zeros(len(texts), np.int64)
    for rows, columns, table in similarity_blocks(images, texts, block):
        inside = np.flatnonzero((owner[columns] >= rows.start) & (owner[columns] < rows.stop))
        # Sums may differ in the last bit with the order of summation; a text must not rank before itself.
        table[owner[columns][inside] - rows.start, inside] = own[columns][inside]
        text, image = np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop)
        best_score, own_score = best[rows, None], own[None, columns]
        before = (table > best_score) | ((table == best_score) & (text < place[rows, None]))
        text_rank[rows] += before.sum(axis=1)
        before = (table > own_score) | ((table == own_score) & (image[:, None] < owner[None, columns]))
        image_rank[columns] += before.sum(axis=0)
    return text_rank, image_rank


def _recall(rank: np.ndarray, k: int) -> Score:
    n, num_found = len(rank), int((rank < k).sum())
    return Score(num_found / n, n, *clopper_pearson(num_found, n), COUNTED)


def _measure(encoder: Encoder, card: Card, setting: Setting) -> Measurement:
    benchmark = setting.open(card)
    return Measurement(measure_retrieval(encoder, benchmark, cache=setting.cache, num_workers=setting.num_workers))


RETRIEVAL = Task("retrieval", lambda card: card.task == "retrieval", lambda card: ("test",), _measure)
"""Recall at 1, 5 and 10 on Flickr30k and MSCOCO."""
