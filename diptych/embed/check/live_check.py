"""Run the 32 images and 64 texts through two models, and compare them stage by stage.

A stage is compared on equal input: both towers get the reference's pixels, so a wrong preprocessing does not hide a
wrong activation. Then each model runs by itself from file to vector, which is what a user gets.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.embed.check.check_images import CheckImage
from diptych.embed.check.check_texts import CheckText
from diptych.embed.check.differences import Items, Row, are_equal, compare
from diptych.embed.check.known_differences import Known, explained_at
from diptych.embed.check.stage_functions import Stages
from diptych.embed.check.tolerances import (
    DECODED,
    FEATURES,
    IMAGES,
    PIXELS,
    PROBABILITIES,
    TEXTS,
    TOKENS,
    Limit,
)
from diptych.model.clip import normalised

Limits = Mapping[str, Limit]
Opened = list[Image.Image | None]


def text_items(texts: Sequence[CheckText]) -> Items:
    """Names and traits of the texts; a name is the text itself, shortened and in quotes."""
    return Items(
        names=[f"{place}: {text.text[:30]!r}" for place, text in enumerate(texts, start=1)],
        traits=[text.trait for text in texts],
    )


def image_items(images: Sequence[CheckImage]) -> Items:
    """Names and traits of the images."""
    return Items(names=[image.name for image in images], traits=[image.trait for image in images])


class LiveCheck:
    """Compares two models that both run on this machine.

    Attributes:
        rows: the stages on equal input, in the order of STAGES.
        whole_path: the stages at which each model ran by itself, from file or text.
    """

    def __init__(
        self,
        model: Stages,
        reference: Stages,
        images: Sequence[CheckImage],
        texts: Sequence[CheckText],
        limits: Limits,
        *,
        strict: bool = False,
    ) -> None:
        self._model, self._reference, self._limits = model, reference, limits
        self._known: Known = {} if strict else {**model.known, **reference.known}
        self.rows: list[Row] = []
        self.whole_path: list[Row] = []
        their_images = self._compare_images(images)
        their_texts = self._compare_texts(texts)
        self._compare_probabilities(image_items(images), their_images, their_texts)
        self.rows.sort(key=lambda row: list(limits).index(row.stage))

    def _explains(self, stage: str) -> list[str]:
        return explained_at(self._known, stage)

    def _compare_images(self, images: Sequence[CheckImage]) -> np.ndarray:
        """All stages of the images; returns the reference's embeddings, float32 (n, E) of unit norm."""
        items = image_items(images)
        opened, their_opened = (_open_all(side, images) for side in (self._model, self._reference))
        decoded, their_decoded = _decoded(opened), _decoded(their_opened)
        self.rows.append(
            compare(DECODED, self._limits[DECODED], items, decoded, their_decoded, explains=self._explains(DECODED))
        )
        shared = [
            Image.fromarray(_ours(image) if array is None else array)
            for image, array in zip(images, their_decoded, strict=True)
        ]
        pixels, their_pixels = (_prepare_all(side, shared) for side in (self._model, self._reference))
        if pixels is None or their_pixels is None:
            self._skip(self._shows("preprocessing", pixels, their_pixels), PIXELS, FEATURES)
            return self._compare_vectors(items, shared, pixels, their_pixels)[1]
        self.rows.append(
            compare(PIXELS, self._limits[PIXELS], items, pixels, their_pixels, explains=self._explains(PIXELS))
        )
        fed = their_pixels if pixels[0].shape == their_pixels[0].shape else pixels
        self._compare_features(items, fed, their_pixels)
        vectors = self._compare_vectors(items, shared, fed, their_pixels)
        self._compare_whole_path(items, (opened, their_opened), (fed, their_pixels), vectors)
        return vectors[1]

    def _compare_features(self, items: Items, fed: list[np.ndarray], their_fed: list[np.ndarray]) -> None:
        functions = (self._model.features, self._reference.features)
        if functions[0] is None or functions[1] is None:
            self._skip(self._shows("features", *functions), FEATURES)
            return
        mine, theirs = (_run(run, pixels) for run, pixels in zip(functions, (fed, their_fed), strict=True) if run)
        self.rows.append(compare(FEATURES, self._limits[FEATURES], items, mine, theirs))

    def _compare_vectors(
        self,
        items: Items,
        shared: list[Image.Image],
        fed: list[np.ndarray] | None,
        their_fed: list[np.ndarray] | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        mine = _embed(self._model, shared, fed)
        theirs = _embed(self._reference, shared, their_fed)
        # Without both models' pixels, each prepares the images by itself, and a long strip may differ already.
        explains = [] if fed is not None and their_fed is not None else self._explains(PIXELS)
        self.rows.append(compare(IMAGES, self._limits[IMAGES], items, mine, theirs, explains=explains))
        return mine, theirs

    def _compare_whole_path(
        self,
        items: Items,
        opened: tuple[Opened, Opened],
        fed: tuple[list[np.ndarray], list[np.ndarray]],
        vectors: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Each model by itself, from the files on."""
        sides = zip((self._model, self._reference), opened, fed, vectors, strict=True)
        (my_pixels, my_rows), (their_pixels, their_rows) = (_whole_path(*side) for side in sides)
        explains = list(self._known)
        self.whole_path += [
            compare(PIXELS, self._limits[PIXELS], items, my_pixels, their_pixels, explains=explains),
            compare(IMAGES, self._limits[IMAGES], items, my_rows, their_rows, explains=explains),
        ]

    def _compare_texts(self, texts: Sequence[CheckText]) -> np.ndarray | None:
        """All stages of the texts; returns the reference's embeddings, float32 (m, E) of unit norm."""
        items, words = text_items(texts), [text.text for text in texts]
        sides = (self._model, self._reference)
        if reason := next((f"{side.name} {side.no_texts}" for side in sides if side.embed_texts is None), ""):
            self._skip(reason, TOKENS, TEXTS)
            return None
        mask = None
        if self._model.tokens is None or self._reference.tokens is None:
            self._skip(self._shows("tokens", self._model.tokens, self._reference.tokens), TOKENS)
        else:
            tokens = self._model.tokens(words), self._reference.tokens(words)
            row = compare(TOKENS, self._limits[TOKENS], items, *tokens, explains=self._explains(TOKENS), ids=True)
            self.rows.append(row)
            mask = are_equal(row, items)
        mine, theirs = (_unit(side.embed_texts(words)) for side in sides if side.embed_texts is not None)
        explains = self._explains(TOKENS)
        limit = self._limits[TEXTS]
        self.rows.append(
            compare(TEXTS, limit, items, mine, theirs, mask=mask, explains=[] if mask is not None else explains)
        )
        self.whole_path.append(compare(TEXTS, limit, items, mine, theirs, explains=explains))
        return theirs

    def _compare_probabilities(self, items: Items, images: np.ndarray, texts: np.ndarray | None) -> None:
        """From the reference's embeddings, so that what differs is the scale, the bias or the kind of probability."""
        sides = (self._model, self._reference)
        if texts is None or images.shape[1:] != texts.shape[1:]:
            self._skip("it needs the embeddings of texts", PROBABILITIES)
            return
        if reason := next((f"{side.name} states no logit_scale" for side in sides if side.logit_scale is None), ""):
            self._skip(reason, PROBABILITIES)
            return
        mine, theirs = (probabilities(images, texts, side.logit_scale or 1, side.logit_bias) for side in sides)
        self.rows.append(compare(PROBABILITIES, self._limits[PROBABILITIES], items, mine, theirs))

    def _skip(self, reason: str, *stages: str) -> None:
        self.rows += [Row(stage=stage, limit=self._limits[stage], not_compared=reason) for stage in stages]

    def _shows(self, what: str, mine: object, theirs: object) -> str:
        """Why a stage is not compared."""
        silent = [side.name for side, value in ((self._model, mine), (self._reference, theirs)) if value is None]
        return f"{' and '.join(dict.fromkeys(silent))} {'does' if len(silent) == 1 else 'do'} not show its {what}"


def probabilities(images: np.ndarray, texts: np.ndarray, scale: float, bias: float | None) -> np.ndarray:
    """(n, E) and (m, E) of unit norm -> (n, m): softmax over the texts, or with a bias SigLIP's sigmoid; float64."""
    logits = scale * images.astype(np.float64) @ texts.astype(np.float64).T
    if bias is not None:
        return 1 / (1 + np.exp(-(logits + bias)))
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _open_all(side: Stages, images: Sequence[CheckImage]) -> Opened:
    """The images as a model opens them; None where it cannot."""
    opened: Opened = []
    for image in images:
        try:
            opened.append(side.open(image.data))
        except Exception:  # another library can raise anything
            opened.append(None)
    return opened


def _decoded(opened: Opened) -> list[np.ndarray | None]:
    return [None if image is None else np.asarray(image.convert("RGB")) for image in opened]


def _ours(image: CheckImage) -> np.ndarray:
    return np.asarray(decode_image(image.data))


def _prepare_all(side: Stages, images: Sequence[Image.Image]) -> list[np.ndarray] | None:
    """The network's inputs; None for a model that does not show its preprocessing."""
    if side.prepare is None or side.embed_pixels is None:
        return None
    return [side.prepare(image).float().numpy() for image in images]


def _prepare_opened(side: Stages, opened: Opened) -> list[np.ndarray | None]:
    """The network's inputs, of the images as the model opened them; None where it cannot open or prepare one."""
    prepared: list[np.ndarray | None] = []
    for image in opened:
        try:
            assert side.prepare is not None
            prepared.append(None if image is None else side.prepare(image).float().numpy())
        except Exception:  # another library can raise anything
            prepared.append(None)
    return prepared


def _whole_path(
    side: Stages, opened: Opened, fed: list[np.ndarray], rows: np.ndarray
) -> tuple[list[np.ndarray | None], list[np.ndarray | None]]:
    """Pixels and embeddings of the images as a model opened them; pixels that it was fed above have `rows` already."""
    pixels = _prepare_opened(side, opened)
    embeddings = [None if array is None else row for array, row in zip(pixels, rows, strict=True)]
    other = {
        place: array
        for place, array in enumerate(pixels)
        if array is not None and not np.array_equal(array, fed[place])
    }
    if other:
        for place, row in zip(other, _embed(side, [], list(other.values())), strict=True):
            embeddings[place] = row
    return pixels, embeddings


def _run(function: object, pixels: Sequence[np.ndarray]) -> np.ndarray:
    assert callable(function)
    return function(torch.from_numpy(np.stack(pixels))).float().cpu().numpy()


def _embed(side: Stages, images: list[Image.Image], pixels: list[np.ndarray] | None) -> np.ndarray:
    """Embeddings float32 (n, E) of unit norm: of pixels, or of images for a model that takes no pixels."""
    if pixels is not None and side.embed_pixels is not None:
        return _unit(side.embed_pixels(torch.from_numpy(np.stack(pixels))))
    assert side.embed_images is not None
    return _unit(side.embed_images(images))


def _unit(vectors: torch.Tensor) -> np.ndarray:
    return normalised(vectors.detach().float().cpu()).numpy()
