"""From an encoder to its stages. A new kind of encoder adds a row to ADAPTERS."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image

from diptych.embed.about import about
from diptych.embed.check.graph_stages import graph_stages
from diptych.embed.check.library_stages import library_stages
from diptych.embed.check.native_stages import native_stages
from diptych.embed.check.stage_functions import Stages
from diptych.embed.encoder import Encoder
from diptych.embed.graph_encoder import GraphEncoder
from diptych.embed.library_encoder import LibraryEncoder
from diptych.embed.model import Model
from diptych.embed.wrapped_encoder import WrappedEncoder

ADAPTERS: dict[type, Callable[[Any, bool], Stages]] = {
    Model: lambda model, by_itself: native_stages(model),
    LibraryEncoder: library_stages,
    GraphEncoder: lambda encoder, by_itself: graph_stages(encoder),
}
"""For each class of encoder, the function of (encoder, by_itself) that gives its stages."""


def stages_of(encoder: Encoder | Any, *, by_itself: bool = False) -> Stages:
    """The stages of an encoder. Of an encoder of an unknown class only embeddings and probabilities are compared.

    Args:
        encoder: any Encoder.
        by_itself: it is the reference: another library reads and prepares files in its own way, not in Diptych's.
    """
    for kind, adapt in ADAPTERS.items():
        if isinstance(encoder, kind):
            return adapt(encoder, by_itself)
    return _opaque_stages(encoder)


def _opaque_stages(encoder: Any) -> Stages:
    """The stages of an object of which nothing is known but encode_images and encode_texts."""
    record = about(encoder)
    own = encoder.own if isinstance(encoder, WrappedEncoder) else encoder

    def embed_images(images: Sequence[Image.Image]) -> torch.Tensor:
        return torch.as_tensor(encoder.encode_images(list(images)))

    return Stages(
        name=encoder.name,
        made_by=type(own).__name__,
        embed_images=embed_images,
        embed_texts=encoder.encode_texts if record.no_texts is None else None,
        no_texts=record.no_texts,
        logit_scale=record.logit_scale,
    )
