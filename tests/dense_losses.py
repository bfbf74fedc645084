"""Both losses with the whole similarity matrix in memory, as in their papers: the reference for tests."""

import torch
from torch.nn import functional as F


def dense_contrastive_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor | float) -> torch.Tensor:
    """CLIP paper, figure 3, in float32 or the embeddings' higher precision."""
    dtype = torch.promote_types(images.dtype, torch.float32)
    logits = scale * (images.to(dtype) @ texts.to(dtype).T)
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def dense_sigmoid_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor | float, bias: torch.Tensor | float
) -> torch.Tensor:
    """SigLIP (arXiv 2303.15343), algorithm 1."""
    dtype = torch.promote_types(images.dtype, torch.float32)
    logits = scale * (images.to(dtype) @ texts.to(dtype).T) + bias
    labels = 2 * torch.eye(len(logits), dtype=dtype) - 1
    return -F.logsigmoid(labels * logits).sum() / len(logits)


def random_embeddings(
    num: int, width: int, *, likeness: float = 0.5, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and texts (num, width) of unit norm; a greater `likeness` moves matching pairs closer together."""
    generator = torch.Generator().manual_seed(seed)
    images, noise = torch.randn(2, num, width, generator=generator, dtype=torch.float64)
    return F.normalize(images, dim=1).to(dtype), F.normalize(likeness * images + noise, dim=1).to(dtype)


def with_gradients(loss, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """The loss's value and its gradients with respect to all inputs."""
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    value = loss(*leaves)
    value.backward()
    return [value.detach(), *(leaf.grad for leaf in leaves)]


def relative_error(ours: torch.Tensor, exact: torch.Tensor) -> float:
    """Norm of the difference divided by the norm of the exact value."""
    return ((ours.double() - exact.double()).norm() / exact.double().norm()).item()
