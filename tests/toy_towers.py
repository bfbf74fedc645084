"""A toy image tower, text side and objective, each of which is one file and one row of a table, as in user code."""

import dataclasses
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from diptych.model.clip import DualEncoder
from diptych.model.clip_config import CLIPConfig
from diptych.model.recompute import recomputed
from diptych.model.shapes import count_numbers, grid_of, shape_of
from diptych.model.sizes import check_size
from diptych.model.tower import TextSide, Tower, stack_depth
from diptych.model.towers import TEXT_SIDES, TOWERS
from diptych.objective.objectives import OBJECTIVES, Chance, Objective

CELL, GUESSING = 8, 0.5

# ------------------------------------------------------------------ an image tower


@dataclasses.dataclass(frozen=True, slots=True)
class CellsConfig:
    """The mean over cells of 8 x 8 pixels, and layers on top of it; `gain` scales the pixels."""

    image_size: int
    width: int
    layers: int
    gain: float = 1.0

    def __post_init__(self) -> None:
        for name in ("image_size", "width", "layers"):
            check_size("vision", name, getattr(self, name))

    @property
    def features_dim(self) -> int:
        return self.width

    @property
    def grid(self) -> int:
        return self.image_size // CELL

    def num_parameters(self, embed_dim: int) -> int:
        outside = self.width * (3 * CELL**2 + 1 + self.grid**2 + 1 + embed_dim)
        return outside + self.layers * self.width * (self.width + 1)


class Cells(nn.Module):
    def __init__(self, config: CellsConfig, embed_dim: int) -> None:
        super().__init__()
        self.gain, self.checkpointing = config.gain, False
        self.cells = nn.Linear(3 * CELL**2, config.width)
        self.places = nn.Parameter(0.1 * torch.randn(1 + config.grid**2, config.width))
        self.stack = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(config.layers))
        self.out = nn.Linear(config.width, embed_dim, bias=False)

    def features(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        cells = F.unfold(self.gain * images.contiguous(), CELL, stride=CELL).transpose(1, 2)
        places = self.places[1:].expand(len(images), -1, -1)
        if kept is not None:
            rows = torch.arange(len(images))[:, None]
            cells, places = cells[rows, kept], places[rows, kept]
        x = self.places[0] + (F.relu(self.cells(cells)) + places).mean(dim=1)
        for block in self.stack:
            x = x + F.relu(recomputed(block, x) if self.checkpointing else block(x))
        return x

    def project(self, features: torch.Tensor) -> torch.Tensor:
        return self.out(features)


def cells_flops(config: CellsConfig, embed_dim: int, patch_dropout: float) -> float:
    cells = config.grid**2 - int(patch_dropout * config.grid**2)
    return 2 * config.width * (3 * CELL**2 * cells + config.layers * config.width + embed_dim)


def infer_cells(tensors: dict[str, torch.Tensor], heads: int) -> CellsConfig:
    grid, (width, _) = grid_of(tensors, "visual.places"), shape_of(tensors, "visual.cells.weight", 2)
    return CellsConfig(grid * CELL, width, count_numbers(tensors, "visual.stack"))


CELLS = Tower(
    kind="cells",
    title="mosaic",
    config=CellsConfig,
    build=lambda config, embed_dim, activation: Cells(config, embed_dim),
    blocks=lambda network: list(network.stack),
    depth=lambda name, config: stack_depth(name, config.layers, r"stack\.(\d+)\.", r"cells\.|places$"),
    flops=cells_flops,
    first_weight="cells.weight",
    positions="places",
    masks_patches=True,
    omitted={"gain": 1.0},
    marker=r"visual\.cells\.weight",
    infer=infer_cells,
    assumed="a gain of 1",
)

# ------------------------------------------------------------------ a text side


@dataclasses.dataclass(frozen=True, slots=True)
class MeanWordsConfig:
    """The mean of a caption's token vectors, and layers on top of it."""

    context_length: int = 32
    vocab_size: int = 560
    width: int = 24
    depth: int = 2

    def num_parameters(self, embed_dim: int) -> int:
        return self.width * (self.vocab_size + embed_dim) + self.depth * self.width * (self.width + 1)


class MeanWords(DualEncoder):
    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self._add_images_and_temperature(config)
        text = config.text
        self.words = nn.Embedding(text.vocab_size, text.width)
        self.upper = nn.ModuleList(nn.Linear(text.width, text.width) for _ in range(text.depth))
        self.text_out = nn.Linear(text.width, config.embed_dim, bias=False)

    def encode_text(self, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        lengths = tokens.argmax(dim=-1) + 1 if lengths is None else lengths.to(tokens.device)
        inside = (torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None])[..., None]
        x = torch.where(inside, self.words(tokens), 0).sum(dim=1) / lengths[:, None]
        x = x.to(self.text_out.weight.dtype)
        for block in self.upper:
            x = x + F.relu(block(x))
        return self.text_out(x)


def mean_words_flops(config: MeanWordsConfig, embed_dim: int, tokens: float) -> float:
    return 2 * config.width * (config.depth * config.width + embed_dim)


MEAN_WORDS = TextSide(
    kind="mean_words",
    config=MeanWordsConfig,
    build=MeanWords,
    depth=lambda name, config: stack_depth(name, config.depth, r"upper\.(\d+)\.", r"words\."),
    blocks=lambda network: list(network.upper),
    flops=mean_words_flops,
)

# ------------------------------------------------------------------ an objective


def squared(images: torch.Tensor, texts: torch.Tensor, network: DualEncoder) -> torch.Tensor:
    """Squared distances of cosines, on one rank: from 1 where a pair matches, from 0 where it does not."""
    squares = (images @ texts.T - torch.eye(len(images))).square()
    matching, others = squares.diagonal().mean(), squares.sum() - squares.diagonal().sum()
    return matching + others / (len(images) * (len(images) - 1))


SQUARED = Objective("squared", squared, parameters=(), chance=Chance(lambda pairs: GUESSING, "with cosines of 1/2 it"))

# ------------------------------------------------------------------ the rows


def add_rows(set_item: Callable[[dict, str, object], None] = dict.__setitem__) -> None:
    """Add one row to each table; `monkeypatch.setitem` removes it again."""
    set_item(TOWERS, "cells", CELLS)
    set_item(TEXT_SIDES, "mean_words", MEAN_WORDS)
    set_item(OBJECTIVES, "squared", SQUARED)


def toy_model(**vision: object) -> CLIPConfig:
    """A model of the toys; their rows must be registered."""
    return CLIPConfig(16, CellsConfig(**{"image_size": 32, "width": 24, "layers": 2} | vision), MeanWordsConfig())
