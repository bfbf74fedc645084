"""The stages of a GraphEncoder: Diptych's preprocessing and tokenizer, another runtime's towers."""

from collections.abc import Sequence

import numpy as np

from diptych.data.transforms import evaluation_pixels, normalise
from diptych.embed.check.stage_functions import Stages, tokens_as_read
from diptych.embed.graph_encoder import GraphEncoder


def graph_stages(encoder: GraphEncoder) -> Stages:
    """The stages of an encoder of graphs. A graph that normalizes pixels itself does not show them."""
    record, preprocessing = encoder.about, encoder.preprocessing
    has_texts, shows_pixels = record.no_texts is None, not encoder.takes_uint8

    def tokens(texts: Sequence[str]) -> list[np.ndarray]:
        assert encoder.tokenizer is not None
        return tokens_as_read(encoder.tokenizer, texts, reads_padding=encoder.reads_padding)

    return Stages(
        name=encoder.name,
        made_by=encoder.made_by,
        library="diptych",
        prepare=(lambda image: normalise(evaluation_pixels(image, preprocessing), preprocessing))
        if shows_pixels
        else None,
        embed_pixels=encoder.embed_inputs if shows_pixels else None,
        embed_images=lambda images: encoder.encode_images(list(images)),
        tokens=tokens if has_texts else None,
        embed_texts=(lambda texts: encoder.encode_texts(texts, truncate=True)) if has_texts else None,
        no_texts=record.no_texts,
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
    )
