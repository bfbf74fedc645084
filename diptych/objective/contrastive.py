"""The symmetric contrastive objective of the paper."""

import torch
import torch.nn.functional as F

from diptych.errors import ShapeError


def contrastive_loss(
    image_embeddings: torch.Tensor, text_embeddings: torch.Tensor, scale: torch.Tensor | float
) -> torch.Tensor:
    """Mean symmetric cross-entropy of matching each image to its text and back.

    Args:
        image_embeddings: (N, E) float, unit L2 norm.
        text_embeddings: (N, E) float, unit L2 norm; row i belongs to image i.
        scale: () float, exp(t), at most 100.
    Returns:
        () float32 (float64 for float64 embeddings), nats per pair.
    Raises:
        ShapeError: the two sides differ in N or E, or are not matrices.
    Source: CLIP paper, section 2.3, figure 3.
    """
    if image_embeddings.ndim != 2 or image_embeddings.shape != text_embeddings.shape:
        raise ShapeError(
            f"contrastive_loss needs two (N, E) matrices of one shape; got {tuple(image_embeddings.shape)} "
            f"and {tuple(text_embeddings.shape)}"
        )
    # Under autocast the product would be rounded to bf16: at scale 100 a rounding of 2^-8 would move a logit by 0.4.
    with torch.autocast(image_embeddings.device.type, enabled=False):
        dtype = torch.promote_types(image_embeddings.dtype, torch.float32)
        logits_per_image = scale * (image_embeddings.to(dtype) @ text_embeddings.to(dtype).T)
        labels = torch.arange(len(logits_per_image), device=logits_per_image.device)
        return (F.cross_entropy(logits_per_image, labels) + F.cross_entropy(logits_per_image.T, labels)) / 2
