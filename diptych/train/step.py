"""The gradient of one global batch, whether or not it fits into memory at once.

If the batch fits, both towers encode it and the loss is backpropagated through them. A larger batch takes two passes
(gradient caching, Gao et al. 2021, arXiv 2101.06983). First, all embeddings are computed without a graph, micro-batch
by micro-batch, and the loss over the whole global batch gives their gradients. Then each micro-batch is encoded again
with its graph, and its embeddings' gradients are backpropagated to the weights. The result is the gradient of the whole
batch. The towers use no random numbers except the choice of patches, which is drawn once per step for both passes.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from diptych import distributed
from diptych.data.transforms import normalise
from diptych.model.patch_dropout import draw_kept_patches
from diptych.model.recompute import untracked_statistics
from diptych.model.synchronised_batch_norm import synchronise_batch_norm
from diptych.objective.objectives import OBJECTIVES
from diptych.records import Batch
from diptych.train.config import TrainConfig
from diptych.train.parallel import Towers


class ContrastiveStep:
    """Computes the gradients of a batch, for a dual encoder and an objective that compares embeddings.

    Args:
        towers: both towers of the network.
        config: objective, micro-batches, patch dropout, preprocessing.
    """

    def __init__(self, towers: Towers, config: TrainConfig) -> None:
        self._towers, self._config, self._clip = towers, config, towers.clip
        self._device = towers.clip.logit_scale.device
        loss = OBJECTIVES[config.objective].loss
        assert loss is not None  # build_step has checked it
        self._pair_loss = loss
        self._second = self._copies if OBJECTIVES[config.objective].copies else self._texts
        kinds = nn.modules.batchnorm._BatchNorm
        self._batch_norms = [norm for norm in self._clip.modules() if isinstance(norm, kinds) and norm.training]

    def __call__(self, batch: Batch, step: int) -> torch.Tensor:
        """Add the gradient of the global batch's loss to the parameters' gradients.

        Args:
            batch: this rank's share of the global batch.
            step: number of the update, from 0; it seeds patch dropout.
        Returns:
            () the loss of the global batch, the same in every rank, detached.
        """
        self._towers.refresh()
        num_pieces = _num_pieces(len(batch), self._config.micro_batch_size)
        kept = self._draw_patches(len(batch), step)
        pieces = torch.arange(len(batch)).tensor_split(num_pieces)
        # Group captions of similar length: each micro-batch of texts is only as long as its longest.
        text_pieces = batch.lengths.sort(stable=True).indices.tensor_split(num_pieces)
        if num_pieces == 1:
            loss = self._loss(self._images(batch, pieces[0], kept), self._second(batch, text_pieces[0]), text_pieces[0])
            loss.backward()
        else:
            loss = self._in_two_passes(batch, list(zip(pieces, text_pieces, strict=True)), kept)
        self._towers.finish()
        return loss.detach()

    def _in_two_passes(
        self, batch: Batch, pieces: list[tuple[torch.Tensor, torch.Tensor]], kept: torch.Tensor | None
    ) -> torch.Tensor:
        with torch.no_grad():
            embeddings = []
            for rows, text_rows in self._counting_once(pieces):
                embeddings.append((self._images(batch, rows, kept), self._second(batch, text_rows)))
        images, texts = (torch.cat(parts).requires_grad_() for parts in zip(*embeddings, strict=True))
        loss = self._loss(images, texts, torch.cat([text_rows for _, text_rows in pieces]))
        loss.backward()
        assert images.grad is not None and texts.grad is not None
        image_gradients = images.grad.split([len(rows) for rows, _ in pieces])
        text_gradients = texts.grad.split([len(rows) for _, rows in pieces])
        with untracked_statistics(self._clip):  # the first pass has updated them
            for number, (rows, text_rows) in enumerate(pieces):
                with self._towers.accumulating() if number < len(pieces) - 1 else contextlib.nullcontext():
                    _backward(self._images(batch, rows, kept), image_gradients[number])
                    _backward(self._second(batch, text_rows), text_gradients[number])
        return loss

    def _loss(self, images: torch.Tensor, texts: torch.Tensor, text_rows: torch.Tensor) -> torch.Tensor:
        """The loss of image embeddings in the batch's order and text embeddings in the order of `text_rows`."""
        texts = torch.empty_like(texts).index_copy(0, text_rows.to(texts.device), texts)
        return self._pair_loss(images, texts, self._clip)

    def _images(self, batch: Batch, rows: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        images = self._normalized(_rows(batch.images, rows))
        return self._towers.images(images, None if kept is None else kept[rows].to(self._device, non_blocking=True))

    def _copies(self, batch: Batch, rows: torch.Tensor) -> torch.Tensor:
        """Copies of the images, in the place of captions; all have the length 0, so that `rows` are in order."""
        assert batch.copies is not None  # TrainConfig has checked it
        return self._towers.images(self._normalized(_rows(batch.copies, rows)))

    def _normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        pixels = pixels.to(self._device, non_blocking=True)
        return normalise(pixels, self._config.preprocessing).contiguous(memory_format=torch.channels_last)

    def _texts(self, batch: Batch, rows: torch.Tensor) -> torch.Tensor:
        lengths = batch.lengths[rows]
        tokens = batch.tokens[rows, : int(lengths.max()) if len(rows) else 0]
        return self._towers.texts(tokens.to(self._device, non_blocking=True), lengths)

    def _draw_patches(self, n: int, step: int) -> torch.Tensor | None:
        """The patches of each image that are computed, int64 (n, K); None for all."""
        dropout, vision = self._config.patch_dropout, self._config.model.vision
        masked_steps = round(self._config.num_steps * (1 - dropout.unmasked_share))
        if dropout.share == 0 or step >= masked_steps:
            return None
        # Drawn for the whole global batch, so that the number of ranks does not matter; this rank takes its rows.
        counts = distributed.gather_counts(n)
        before = sum(counts[: distributed.rank()])
        # torch's generator uses only 32 bits of a seed: both numbers are hashed into them.
        seed = int(np.random.SeedSequence([self._config.seed, step]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        return draw_kept_patches(sum(counts), vision.grid**2, dropout.share, generator)[before : before + n]

    def _counting_once(self, pieces: list[Any]) -> Iterator[Any]:
        """Yield the pieces, with a BatchNorm momentum such that all pieces together advance its statistics by one step.

        After K micro-batches r becomes (1 - m) r + m · (their mean weighted by size), as one whole batch would give.
        """
        total, seen = sum(len(rows) for rows, _ in pieces), 0
        usual = [norm.momentum for norm in self._batch_norms]
        try:
            for rows, text_rows in pieces:
                seen += len(rows)
                for norm, momentum in zip(self._batch_norms, usual, strict=True):
                    share = 0.1 if momentum is None else momentum
                    norm.momentum = share * len(rows) / (total - share * (total - seen))
                yield rows, text_rows
        finally:
            for norm, momentum in zip(self._batch_norms, usual, strict=True):
                norm.momentum = momentum
                if norm.num_batches_tracked is not None:
                    norm.num_batches_tracked.sub_(len(pieces) - 1)


class PredictiveStep:
    """Computes the gradients of a batch, for a model whose loss is a sum over pairs (the baselines of figure 2).

    Args:
        model: has `losses(images, tokens, lengths) -> (n,)`, nats per pair.
        config: micro-batches, preprocessing.
        dtype: of the products.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, dtype: torch.dtype) -> None:
        self._model, self._config, self._dtype = model, config, dtype
        self._device = next(model.parameters()).device
        if distributed.world_size() > 1 and config.parallel.batch_norm == "synchronised":
            synchronise_batch_norm(model, self._device)

    def __call__(self, batch: Batch, step: int) -> torch.Tensor:
        """Add the gradient of the global batch's mean loss to the parameters' gradients; returns that loss ()."""
        total = distributed.world_size() * len(batch) / sum(distributed.gather_counts(len(batch)))
        loss = torch.zeros((), device=self._device)
        for rows in torch.arange(len(batch)).tensor_split(_num_pieces(len(batch), self._config.micro_batch_size)):
            pixels = _rows(batch.images, rows).to(self._device, non_blocking=True)
            images = normalise(pixels, self._config.preprocessing).contiguous(memory_format=torch.channels_last)
            lengths = batch.lengths[rows]
            tokens = batch.tokens[rows, : int(lengths.max())].to(self._device, non_blocking=True)
            with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype.itemsize == 2):
                losses = self._model.losses(images, tokens, lengths)  # type: ignore[operator]
            part = losses.sum() * total / len(batch)
            part.backward()
            loss += part.detach()
        if distributed.world_size() > 1:
            for parameter in self._model.parameters():
                if parameter.grad is not None:
                    parameter.grad = distributed.sum_over_ranks(parameter.grad) / distributed.world_size()
        return distributed.sum_over_ranks(loss) / distributed.world_size()


def _num_pieces(n: int, micro_batch_size: int | None) -> int:
    """Number of micro-batches of a step; the same in all ranks, because all ranks gather sharded towers together.

    No micro-batch is empty in any rank: if one rank has very few pairs, the others' micro-batches grow.
    """
    if micro_batch_size is None:
        return 1
    counts = distributed.gather_counts(n)
    return max(1, min(-(-max(counts) // micro_batch_size), *counts))


def _rows(tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Consecutive rows, without a copy; pinned memory stays pinned."""
    return tensor[int(rows[0]) : int(rows[-1]) + 1] if len(rows) else tensor[:0]


def _backward(embeddings: torch.Tensor, gradient: torch.Tensor) -> None:
    """Backpropagate from embeddings to weights; a locked tower has none."""
    if embeddings.requires_grad:
        embeddings.backward(gradient)
