"""One record of what an encoder can do and what its results depend on.

Evaluation calls `about(encoder)`. No other module inspects the optional attributes of an encoder.
"""

import dataclasses
from typing import Any

import torch

from diptych.data.library_tokenizer import AnyTokenizer
from diptych.embed.encoder import Encoder
from diptych.errors import InputError

_TEXTS_MISSING = "encodes no texts"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The capabilities and the identity of an encoder.

    Attributes:
        no_texts: why the encoder cannot encode texts; None if it can.
        has_features: whether it returns image features before the projection, which probes prefer.
        projects_features: whether it has `project_features`, which turns these features into embeddings.
        takes_pixels: whether it accepts the output of `evaluation_pixels`, so that worker processes can prepare images.
        logit_scale: exp(t), which multiplies cosines; None if unknown.
        logit_bias: added to the logits before SigLIP's sigmoid; None if the model has none, or unknown.
        image_fingerprint: changes whenever an image's vector could change; None if the encoder does not define one.
            Without it a stale cache could not be detected, so nothing is cached.
        text_fingerprint: changes whenever a text's embedding could change; None if unknown.
        gflops: billions of multiply-adds of the image tower for one image; None if unknown.
        precision: number format of the computation, such as "fp32"; None if unknown.
        backend: the library that computes, with its version; None for the installed torch.
        device: where the encoder computes; None if unknown.
        tokenizer: used to measure the length of texts before they are encoded; None if unknown.
        token: identifies this object within this process; used for encoders without a fingerprint.
    """

    no_texts: str | None = None
    has_features: bool = False
    projects_features: bool = False
    takes_pixels: bool = False
    logit_scale: float | None = None
    logit_bias: float | None = None
    image_fingerprint: str | None = None
    text_fingerprint: str | None = None
    gflops: float | None = None
    precision: str | None = None
    backend: str | None = None
    device: Any = None
    tokenizer: AnyTokenizer | None = None
    token: str | None = None

    @property
    def has_texts(self) -> bool:
        """Whether the encoder encodes texts."""
        return self.no_texts is None

    @property
    def probe_vectors(self) -> str:
        """The kind of vectors that probes learn from: "features" if the encoder gives them, else "embeddings"."""
        return "features" if self.has_features else "embeddings"


def about(encoder: Encoder | Any) -> About:
    """The `about` record of an encoder. A user-defined object without one gets a record made from its attributes."""
    record = getattr(encoder, "about", None)
    return record if isinstance(record, About) else about_object(encoder)


def about_object(encoder: Any) -> About:
    """Make the record from the attributes of any object with `encode_images`."""

    def has(*methods: str) -> bool:
        return all(callable(getattr(encoder, method, None)) for method in methods)

    scale, bias = getattr(encoder, "logit_scale", None), getattr(encoder, "logit_bias", None)
    tokenizer = getattr(encoder, "tokenizer", None)
    takes_pixels = has("encode_pixels") and hasattr(encoder, "preprocessing")
    return About(
        no_texts=None if has("encode_texts") else _TEXTS_MISSING,
        has_features=has("pixel_features" if takes_pixels else "image_features"),
        projects_features=has("project_features"),
        takes_pixels=takes_pixels,
        logit_scale=None if scale is None else float(scale),
        logit_bias=None if bias is None else float(bias),
        image_fingerprint=getattr(encoder, "image_fingerprint", None) or None,
        text_fingerprint=getattr(encoder, "fingerprint", None) or None,
        gflops=getattr(encoder, "gflops", None) or None,
        precision=getattr(encoder, "precision", None),
        device=getattr(encoder, "device", None),
        tokenizer=tokenizer if isinstance(tokenizer, AnyTokenizer) else None,
        token=getattr(encoder, "token", None),
    )


def required_logit_scale(encoder: Encoder | Any) -> float:
    """The logit scale of an encoder, for callers that need probabilities.

    Raises:
        InputError: the encoder does not define one, so its cosines cannot become probabilities.
    """
    scale = about(encoder).logit_scale
    if scale is None:
        raise InputError(
            f"{encoder.name} states no logit_scale, and without it cosines give no probabilities: define logit_scale, "
            "exp(t) (100 is the limit in CLIP's training)"
        )
    return scale


def ranking_scale(encoder: Encoder | Any) -> float:
    """The logit scale of an encoder, or 1 if unknown: the order of cosines does not depend on it."""
    scale = about(encoder).logit_scale
    return 1.0 if scale is None else scale


def weights_state(network: torch.nn.Module) -> tuple[Any, ...]:
    """A value that changes when a weight of a network changes, ten times faster than hashing.

    Version counters detect every edit except those through `.data` or NumPy; the sums detect those.
    """
    tensors = [*network.named_parameters(), *network.named_buffers()]
    return tuple(
        (
            name,
            tensor.data_ptr(),
            tensor.dtype,
            None if tensor.is_inference() else tensor._version,
            repr(tensor.detach().sum(dtype=torch.float32).item()),
        )
        for name, tensor in tensors
    )
