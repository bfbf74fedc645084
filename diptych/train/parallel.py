"""The two towers of a training step: in one process, replicated over ranks (DDP), or sharded over them (FSDP2).

Convention: the backward pass of a rank's loss leaves gradients whose mean over the ranks is the gradient of the global
loss. DDP and FSDP2 take that mean; `Towers.finish` takes it for the scalars, which belong to no tower.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from diptych import distributed
from diptych.model.clip import CLIP, normalised
from diptych.model.synchronised_batch_norm import synchronise_batch_norm
from diptych.model.towers import text_side_of, tower_of
from diptych.train.config import ParallelConfig
from diptych.train.precision import WorkingWeights


class _ImageTower(nn.Module):
    """The image tower as a separate module, so that DDP sees only its parameters."""

    def __init__(self, clip: CLIP, dtype: torch.dtype, sharded: bool) -> None:
        super().__init__()
        self.visual = clip.visual
        self._clip, self._dtype = (clip,), dtype  # in a tuple, so that it is not a submodule
        self.weights = None if sharded else WorkingWeights(self, dtype)

    def forward(self, images: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        if self.weights is not None:
            return self.weights.run("encode", images, kept)
        with torch.autocast(images.device.type, dtype=self._dtype, enabled=self._dtype.itemsize == 2):
            return self.encode(images, kept)

    def encode(self, images: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        return normalised(self._clip[0].encode_image(images, *(() if kept is None else (kept,))))


class _TextTower(nn.Module):
    """The text tower as a separate module: all of CLIP except the image tower and the scalars."""

    def __init__(self, clip: CLIP, dtype: torch.dtype, sharded: bool) -> None:
        super().__init__()
        for name, child in clip.named_children():
            if name != "visual":
                self.add_module(name, child)
        for name, parameter in clip.named_parameters(recurse=False):
            if parameter.ndim > 0:
                self.register_parameter(name, parameter)
        self._clip, self._dtype = (clip,), dtype
        self.weights = None if sharded else WorkingWeights(self, dtype)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if self.weights is not None:
            return self.weights.run("encode", tokens, lengths)
        with torch.autocast(tokens.device.type, dtype=self._dtype, enabled=self._dtype.itemsize == 2):
            return self.encode(tokens, lengths)

    def encode(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return normalised(self._clip[0].encode_text(tokens, lengths))


class Towers:
    """Both towers, ready for forward and backward passes.

    Args:
        clip: the network, on its device; for "sharded" its parameters become DTensors in place.
        config: how ranks share the work.
        dtype: of the products.
    """

    def __init__(self, clip: CLIP, config: ParallelConfig, dtype: torch.dtype) -> None:
        self.clip = clip
        if distributed.world_size() > 1 and config.batch_norm == "synchronised":
            synchronise_batch_norm(clip, clip.logit_scale.device)
        sharded = distributed.world_size() > 1 and config.weights == "sharded"
        if sharded:
            shard(clip)
        plain = _ImageTower(clip, dtype, sharded), _TextTower(clip, dtype, sharded)
        self._weights = [tower.weights for tower in plain if tower.weights is not None]
        alone = sharded or distributed.world_size() == 1
        self._image: nn.Module = plain[0] if alone else _replicated(plain[0])
        self._text: nn.Module = plain[1] if alone else _replicated(plain[1])

    def refresh(self) -> None:
        """Copy the optimizer's new weights; call it before each update."""
        for weights in self._weights:
            weights.refresh()

    def images(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised images (n, 3, R, R) -> (n, E), float32, unit norm; `kept` as in CLIP.encode_image."""
        return self._image(images, kept)

    def texts(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Tokens (n, L) and lengths (n,) -> (n, E), float32, unit norm."""
        return self._text(tokens, lengths)

    @contextlib.contextmanager
    def accumulating(self) -> Iterator[None]:
        """Within, gradients are accumulated without exchange; the first pass afterwards takes the mean of all."""
        with contextlib.ExitStack() as stack:
            for tower in (self._image, self._text):
                if isinstance(tower, DistributedDataParallel):
                    stack.enter_context(tower.no_sync())
            yield

    def finish(self) -> None:
        """Take the mean over ranks of the gradients of the scalars; call it after the last backward pass."""
        for parameter in self.clip.parameters(recurse=False):
            if parameter.ndim == 0 and parameter.grad is not None:
                parameter.grad = distributed.sum_over_ranks(parameter.grad) / distributed.world_size()


def _replicated(tower: nn.Module) -> nn.Module:
    """The tower under DDP; a locked tower is returned unchanged, since it has no gradients to exchange."""
    if not any(parameter.requires_grad for parameter in tower.parameters()):
        return tower
    # Running statistics need no broadcast: synchronized ones are equal, local ones are averaged when saved.
    known = inspect.signature(DistributedDataParallel).parameters
    name = (
        "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    )  # the latter up to torch 2.12
    option: dict[str, Any] = {name: False}
    return DistributedDataParallel(tower, gradient_as_bucket_view=True, **option)


def shard(clip: CLIP) -> None:
    """FSDP2: shard each block, then the rest, along the first dimension over all ranks; in place."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    scalars = {name: parameter for name, parameter in clip.named_parameters(recurse=False) if parameter.ndim == 0}
    for name in scalars:  # FSDP2 cannot shard scalars; they stay whole in every rank
        del clip._parameters[name]
    for parameter in clip.parameters():  # kernels are channels last; FSDP2 shards rows of contiguous tensors
        parameter.data = parameter.data.contiguous()
    for block in _blocks(clip):
        fully_shard(block)
        if hasattr(block, "read"):
            register_fsdp_forward_method(block, "read")
    fully_shard(clip)
    for method in ("encode_image", "encode_text", "image_features"):
        register_fsdp_forward_method(clip, method)
    for name, parameter in scalars.items():
        clip.register_parameter(name, parameter)


def _blocks(clip: CLIP) -> list[nn.Module]:
    """The modules that FSDP2 gathers one at a time: blocks of Transformers and of ResNets."""
    return [*text_side_of(clip.config.text).blocks(clip), *tower_of(clip.config.vision).blocks(clip.visual)]
