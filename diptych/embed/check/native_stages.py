"""The stages of Diptych's own models: data/transforms.py, the tokenizer, and the towers of model/."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from diptych.data.transforms import evaluation_pixels, normalise
from diptych.embed.check.stage_functions import Stages, tokens_as_read, version_of
from diptych.embed.model import Model, evaluating

_BATCH_SIZE = 32


def native_stages(model: Model) -> Stages:
    """The stages of a Model. Preprocessed pixels are float32; the towers cast them to their own precision."""
    clip, record = model.clip, model.about
    bias = getattr(clip, "logit_bias", None)

    def tower(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        def run(pixels: torch.Tensor) -> torch.Tensor:
            with evaluating(clip), torch.inference_mode():
                batches = pixels.to(model.device, clip.dtype).split(_BATCH_SIZE)
                return torch.cat([_channels_last(function, batch) for batch in batches])

        return run

    def tokens(texts: Sequence[str]) -> list[np.ndarray]:
        assert model.tokenizer is not None
        reads_padding = not getattr(clip.config.text, "ignores_padding", True)
        return tokens_as_read(model.tokenizer, texts, reads_padding=reads_padding)

    has_texts = record.no_texts is None
    return Stages(
        name=model.name,
        made_by=version_of("diptych"),
        library="diptych",
        prepare=lambda image: normalise(evaluation_pixels(image, model.preprocessing), model.preprocessing),
        features=tower(clip.image_features),
        embed_pixels=tower(clip.encode_image),
        tokens=tokens if has_texts else None,
        embed_texts=(lambda texts: model.encode_texts(texts, truncate=True)) if has_texts else None,
        no_texts=record.no_texts,
        logit_scale=record.logit_scale,
        logit_bias=None if bias is None else float(bias.detach()),
    )


def _channels_last(function: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
    """As Model computes, so that the result is the same to the last bit."""
    return function(batch.contiguous(memory_format=torch.channels_last)).float().cpu()
