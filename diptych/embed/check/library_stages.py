"""The stages of models that open_clip or transformers run: by the library alone, or as Diptych's commands call it."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.embed.check.known_differences import known_in_computing, known_in_reading
from diptych.embed.check.stage_functions import Stages, open_by_pillow, version_of
from diptych.embed.library_encoder import LibraryEncoder

_BATCH_SIZE = 32
_PACKAGES = {"transformers": "transformers", "open_clip": "open_clip_torch", "openai": "clip"}
_OLD_END = 2  # in old configurations of transformers: the text is pooled at its largest id


def library_stages(encoder: LibraryEncoder, by_itself: bool) -> Stages:
    """The stages of a model of another library.

    Args:
        by_itself: files are read and prepared by the library alone, which makes it a reference. Otherwise they are read
            as Diptych's commands read them for this model.
    """
    parts, record = encoder.parts, encoder.about
    library = parts.library
    network: Any = parts.network
    bias = getattr(network, "logit_bias", None)
    known = {**(known_in_reading(library) if by_itself else {}), **known_in_computing(library)}

    def tower(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        def run(pixels: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                batches = pixels.to(encoder.device).split(_BATCH_SIZE)
                return torch.cat([function(batch).float().cpu() for batch in batches])

        return run

    def tokens(texts: Sequence[str]) -> list[np.ndarray]:
        assert parts.tokenize is not None
        return _as_read(parts.tokenize(texts).cpu().numpy(), library, network)

    return Stages(
        name=encoder.name,
        made_by=version_of(_PACKAGES.get(library, library)),
        library=library,
        open=_reader(library) if by_itself else decode_image,
        prepare=parts.prepare if by_itself else parts.guarded_prepare,
        features=None if parts.features is None else tower(parts.features),
        embed_pixels=tower(parts.images),
        tokens=None if parts.tokenize is None else tokens,
        embed_texts=encoder.encode_texts if record.no_texts is None else None,
        no_texts=record.no_texts,
        logit_scale=encoder.logit_scale,
        logit_bias=float(bias.detach()) if isinstance(bias, torch.Tensor) else None,
        known=known,
    )


def _reader(library: str) -> Callable[[bytes], Image.Image]:
    """How the library itself reads a file: by `load_image` of transformers, or by Pillow alone for open_clip."""
    if library != "transformers":
        return open_by_pillow
    load_image = importlib.import_module("transformers.image_utils").load_image
    return lambda data: load_image(open_by_pillow(data))


def _as_read(ids: np.ndarray, library: str, network: Any) -> list[np.ndarray]:
    """Each row up to the token at which the tower pools it, if no later token can change the result; else all of it.

    That is so behind a causal mask. What pads the row after it differs between libraries and means nothing.
    """
    end = _ENDS.get(library, _open_clip_end)(network)
    if end is None:
        return list(ids)
    places = ids.argmax(axis=1) if end < 0 else (ids == end).argmax(axis=1)
    return [row[: place + 1] for row, place in zip(ids, places, strict=True)]


_LARGEST = -1


def _transformers_end(network: Any) -> int | None:
    """The id at which transformers pools a text; _LARGEST for the largest id; None if it reads the whole row."""
    config = network.config
    if config.model_type != "clip":
        return None
    end = config.text_config.eos_token_id
    return _LARGEST if end == _OLD_END else end


def _open_clip_end(network: Any) -> int | None:
    """The same for open_clip."""
    text = getattr(network, "text", network)
    if getattr(text, "attn_mask", None) is None:
        return None
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    if pool == "argmax":
        return _LARGEST
    return getattr(text, "text_eos_id", getattr(text, "eos_id", None)) if pool == "eos" else None


_ENDS: dict[str, Callable[[Any], int | None]] = {"transformers": _transformers_end, "openai": lambda network: _LARGEST}
