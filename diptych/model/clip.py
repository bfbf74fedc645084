"""The whole model: two towers, one embedding space, and a temperature."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from diptych.errors import ConfigError
from diptych.model.clip_config import CLIPConfig, TextConfig
from diptych.model.image_half import ImageHalf, build_image_tower
from diptych.model.text_transformer import TextTransformer

MAX_LOGIT_SCALE = 100.0
INITIAL_TEMPERATURE = 0.07
SIGMOID_SCALE = 10.0


class DualEncoder(ImageHalf):
    """Abstract base: the image tower and a temperature. A subclass adds `encode_text`.

    Attributes:
        logit_scale: () the paper's t; logits are cosines times exp(t).
        logit_bias: () added to the logits by SigLIP's sigmoid loss; None if the configuration has none.
    """

    def _add_images_and_temperature(self, config: CLIPConfig) -> None:
        self.config = config
        self.visual = build_image_tower(config)
        bias = config.logit_bias
        # A model with a bias is a SigLIP (arXiv 2303.15343, section 3.2), which starts with a scale of 10.
        scale = 1 / INITIAL_TEMPERATURE if bias is None else SIGMOID_SCALE
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))

    def encode_text(self, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens int (N, L), lengths int (N,) -> (N, E) features in the shared space, not normalized."""
        raise NotImplementedError

    def forward(
        self, images: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Both sides of a batch of pairs, ready for the loss.

        Args:
            images: float (N, 3, R, R), normalized.
            tokens: int (N, L).
            lengths: int (N,), see encode_text.
        Returns:
            image embeddings (N, E) and text embeddings (N, E), both of unit norm, in float32 (float64 for float64
            models), and the scale exp(t) ().
        """
        image_embeddings = normalised(self.encode_image(images))
        text_embeddings = normalised(self.encode_text(tokens, lengths))
        return image_embeddings, text_embeddings, self.logit_scale.exp()

    @torch.no_grad()
    def clip_logit_scale(self) -> None:
        """Clip t in place so that the scale never exceeds 100 (section 2.5); call after each update."""
        self.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))


class CLIP(TextTransformer, DualEncoder):
    """CLIP, with its parameters named as in OpenAI's and open_clip's files.

    Attributes:
        visual: the image tower.
        logit_scale, logit_bias: see DualEncoder.
    Source: CLIP paper, sections 2.3 to 2.5.
    """

    def __init__(self, config: CLIPConfig) -> None:
        if not isinstance(config.text, TextConfig):
            raise ConfigError(f"a CLIP needs a TextConfig as its text, not {config.text}: build_model builds all")
        super().__init__(config.text, config.embed_dim, config.text.activation or config.activation)
        self._add_images_and_temperature(config)


def normalised(embeddings: torch.Tensor) -> torch.Tensor:
    """(N, E) of any float type -> (N, E) of unit norm in float32; float64 stays float64."""
    return F.normalize(embeddings if embeddings.dtype == torch.float64 else embeddings.float(), dim=-1)
