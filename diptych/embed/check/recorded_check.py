"""Record what a model gives, and compare a model with such a record."""

import contextlib
import hashlib
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from diptych.embed.check.check_images import CheckImage
from diptych.embed.check.check_texts import CheckText
from diptych.embed.check.differences import Row, are_equal, compare
from diptych.embed.check.known_differences import explained_at, known_in_computing
from diptych.embed.check.live_check import Limits, image_items, probabilities, text_items
from diptych.embed.check.reference_file import Reference, inputs_digest, sampled
from diptych.embed.check.stage_functions import Stages
from diptych.embed.check.tolerances import DECODED, FEATURES, IMAGES, PIXELS, PROBABILITIES, TEXTS, TOKENS
from diptych.embed.library_encoder import LibraryEncoder
from diptych.embed.model import Model
from diptych.errors import ConfigError, DiptychError, InputError
from diptych.model.clip import normalised
from diptych.model.layouts import to_diptych

_PACKAGES = ("diptych", "torch", "numpy", "pillow", "tokenizers", "transformers", "open_clip_torch")


def weights_digest(encoder: Any) -> str | None:
    """A digest of the weights in fp32, the same for all layouts of a CLIP that Diptych knows; None if they are hidden.

    Neither the preprocessing nor the activation is part of it, so that a model with the right weights and a wrong
    activation is compared with the right vectors.
    """
    if isinstance(encoder, Model):
        tensors = dict(encoder.clip.state_dict())
    elif isinstance(encoder, LibraryEncoder):
        tensors = dict(encoder.parts.network.state_dict())
        with contextlib.suppress(DiptychError):  # another kind of model keeps its own names
            tensors = dict(to_diptych(tensors))
    else:
        return None
    digest = hashlib.sha256()
    for name in sorted(tensors):
        content = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(content.shape)} {content.dtype}".encode())
        digest.update(content.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def record(
    model: Stages, weights: str | None, precision: str, images: Sequence[CheckImage], texts: Sequence[CheckText]
) -> Reference:
    """Run the images and texts through a model.

    Raises:
        ConfigError: the model does not show its preprocessing or its weights.
    """
    if model.prepare is None or model.embed_pixels is None or weights is None:
        raise ConfigError(
            f"{model.name} shows neither its preprocessing nor its weights, so its vectors cannot be recorded: record "
            "a model folder, a weight file, hf: or open_clip:"
        )
    opened = [model.open(image.data) for image in images]
    prepared = [model.prepare(image).float() for image in opened]
    pixels, words = torch.stack(prepared), [text.text for text in texts]
    return Reference(
        name=model.name,
        made_by=model.made_by,
        library=model.library,
        precision=precision,
        weights=weights,
        versions=_versions(),
        decoded=[_digest(np.asarray(image)) for image in opened],
        pixel_shape=list(pixels.shape[1:]),
        pixels=np.stack([sampled(array.numpy()) for array in prepared]),
        features=None if model.features is None else model.features(pixels).numpy(),
        images=normalised(model.embed_pixels(pixels)).numpy(),
        texts=None if model.embed_texts is None else normalised(model.embed_texts(words)).numpy(),
        tokens=None if model.tokens is None else [np.asarray(ids, np.int64) for ids in model.tokens(words)],
        logit_scale=model.logit_scale,
        logit_bias=model.logit_bias,
        inputs=inputs_digest(images, texts),
    )


def compare_with_record(
    mine: Reference,
    recorded: Reference,
    images: Sequence[CheckImage],
    texts: Sequence[CheckText],
    limits: Limits,
    *,
    strict: bool = False,
) -> list[Row]:
    """Compare what a model gives with a record, in the order of the stages.

    An item whose input differs already is left out of the later stages, because the record holds no other input.

    Raises:
        InputError: the record was made of other images or texts.
    """
    if recorded.inputs != inputs_digest(images, texts) or len(recorded.decoded) != len(images):
        raise InputError(
            f"the vectors of {recorded.name} were recorded of other images and texts "
            f"({recorded.versions.get('diptych', 'another version')} of Diptych, this is "
            f"{mine.versions['diptych']}): record them again"
        )
    known = {} if strict else known_in_computing(recorded.library, mine.library)
    explains = {stage: explained_at(known, stage) for stage in limits}
    items, rows = image_items(images), []
    digests = [[np.array([int(word, 16)], object) for word in side.decoded] for side in (mine, recorded)]
    rows.append(compare(DECODED, limits[DECODED], items, *digests, ids=True))
    mask = are_equal(rows[-1], items)
    same_size = list(mine.pixel_shape) == list(recorded.pixel_shape)
    pixels = list(mine.pixels) if same_size else [None] * len(images)
    rows.append(compare(PIXELS, limits[PIXELS], items, pixels, recorded.pixels, mask=mask, explains=explains[PIXELS]))
    mask = [one and other for one, other in zip(mask, are_equal(rows[-1], items), strict=True)]
    text_rows, texts_there = _compare_texts(mine, recorded, texts, limits, explains[TOKENS])
    if mine.features is None or recorded.features is None:
        rows.append(Row(stage=FEATURES, limit=limits[FEATURES], not_compared="not all of both are shown"))
    else:
        rows.append(compare(FEATURES, limits[FEATURES], items, mine.features, recorded.features, mask=mask))
    rows.append(compare(IMAGES, limits[IMAGES], items, mine.images, recorded.images, mask=mask))
    rows += text_rows
    if texts_there is None or mine.logit_scale is None or recorded.logit_scale is None:
        rows.append(Row(stage=PROBABILITIES, limit=limits[PROBABILITIES], not_compared="a logit scale or texts lack"))
    else:
        from_mine, from_theirs = (
            probabilities(recorded.images, texts_there, side.logit_scale or 1, side.logit_bias)
            for side in (mine, recorded)
        )
        rows.append(compare(PROBABILITIES, limits[PROBABILITIES], items, from_mine, from_theirs))
    return sorted(rows, key=lambda row: list(limits).index(row.stage))


def _compare_texts(
    mine: Reference, recorded: Reference, texts: Sequence[CheckText], limits: Limits, explains: Sequence[str]
) -> tuple[list[Row], np.ndarray | None]:
    if mine.texts is None or recorded.texts is None or len(recorded.texts) != len(texts):
        reason = "one of the two has no texts"
        return [Row(stage=stage, limit=limits[stage], not_compared=reason) for stage in (TOKENS, TEXTS)], None
    items, mask = text_items(texts), None
    rows = [Row(stage=TOKENS, limit=limits[TOKENS], not_compared="not both show their tokens")]
    if mine.tokens is not None and recorded.tokens is not None and len(recorded.tokens) == len(texts):
        rows = [compare(TOKENS, limits[TOKENS], items, mine.tokens, recorded.tokens, ids=True, explains=explains)]
        mask = are_equal(rows[0], items)
    rows.append(compare(TEXTS, limits[TEXTS], items, mine.texts, recorded.texts, mask=mask))
    return rows, recorded.texts


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()


def _versions() -> dict[str, str]:
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
