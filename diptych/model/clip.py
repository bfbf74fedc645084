"""The whole model: two towers into one space, and a temperature."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from diptych.errors import ConfigError, ShapeError
from diptych.model.compact_resnet import CompactResNet
from diptych.model.config import CLIPConfig, CompactResNetConfig, TextConfig, ViTConfig
from diptych.model.modified_resnet import ModifiedResNet
from diptych.model.text_transformer import TextTransformer
from diptych.model.vision_transformer import VisionTransformer

MAX_LOGIT_SCALE = 100.0
INITIAL_TEMPERATURE = 0.07


class CLIP(TextTransformer):
    """CLIP, with its parameters named as in OpenAI's and open_clip's files.

    Attributes:
        visual: the image tower.
        logit_scale: () t of the paper; logits are cosines times exp(t).
        logit_bias: () what SigLIP's sigmoid loss adds to the logits; None where the configuration has none.
    Source: CLIP paper, sections 2.3 to 2.5.
    """

    def __init__(self, config: CLIPConfig) -> None:
        if not isinstance(config.text, TextConfig):
            raise ConfigError(f"a CLIP needs a TextConfig as its text, not {config.text}: build_model builds all")
        super().__init__(config.text, config.embed_dim, config.activation)
        self.config = config
        self.visual: VisionTransformer | ModifiedResNet | CompactResNet
        if isinstance(config.vision, ViTConfig):
            self.visual = VisionTransformer(config.vision, config.embed_dim, config.activation)
        elif isinstance(config.vision, CompactResNetConfig):
            self.visual = CompactResNet(config.vision, config.embed_dim)
        else:
            self.visual = ModifiedResNet(config.vision, config.embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / INITIAL_TEMPERATURE)))
        bias = config.logit_bias
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))

    def image_features(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised images (N, 3, R, R) -> (N, W), the image tower's output before its projection.

        With `kept` see encode_image.
        """
        size = self.config.vision.image_size
        if images.shape[1:] != (3, size, size):
            raise ShapeError(f"images must have the shape (N, 3, {size}, {size}), not {tuple(images.shape)}")
        images = images.to(self.visual.conv1.weight.dtype)
        if kept is None:
            return self.visual.features(images)
        if not isinstance(self.visual, VisionTransformer):
            raise ConfigError("patches can be left out of a Vision Transformer only: a ResNet needs the whole picture")
        if kept.ndim != 2 or len(kept) != len(images):
            raise ShapeError(f"kept must be (N, K) for {len(images)} pictures, not {tuple(kept.shape)}")
        return self.visual.features(images, kept)

    def encode_image(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised images (N, 3, R, R) -> (N, E), points of the shared space, not yet of unit norm.

        Args:
            images: float (N, 3, R, R), normalised.
            kept: int64 (N, K), the patches of each picture that are computed, counted by rows from 0 (see
                draw_kept_patches); the others cost nothing. None for all.
        Raises:
            ConfigError: `kept` is given and the image tower is a ResNet.
            ShapeError: the sizes do not fit the architecture.
        """
        return self.visual.project(self.image_features(images, kept))

    def forward(
        self, images: torch.Tensor, tokens: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Both sides of a batch of pairs, ready for the loss.

        Args:
            images: float (N, 3, R, R), normalised.
            tokens: int (N, L).
            lengths: int (N,), see encode_text.
        Returns:
            image embeddings (N, E) and text embeddings (N, E), both of unit norm, in float32 or the images' higher
            precision, and the scale exp(t) ().
        """
        image_embeddings = normalised(self.encode_image(images))
        text_embeddings = normalised(self.encode_text(tokens, lengths))
        return image_embeddings, text_embeddings, self.logit_scale.exp()

    def checkpoint_activations(self, on: bool) -> None:
        """Keep no activations inside the blocks of both towers while training, and compute them again for gradients.

        The gradients are the same to the last bit in fp32; a step takes about a third longer.
        """
        self.transformer.checkpointing = on
        visual = self.visual
        (visual.transformer if isinstance(visual, VisionTransformer) else visual).checkpointing = on

    @torch.no_grad()
    def clip_logit_scale(self) -> None:
        """Clip t in place so that logits are never scaled by more than 100 (section 2.5); call after each update."""
        self.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))


def normalised(embeddings: torch.Tensor) -> torch.Tensor:
    """(N, E) of any float type -> (N, E) of unit norm in float32, or float64 where the input is."""
    return F.normalize(embeddings if embeddings.dtype == torch.float64 else embeddings.float(), dim=-1)
