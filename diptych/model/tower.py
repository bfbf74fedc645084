"""The interface of image towers and text sides: the rows of the tables in diptych.model.towers.

A new image tower is one file with its config, its network and its Tower, and one row of TOWERS. A new text side is one
file with its TextSide, and one row of TEXT_SIDES. No other code tests for the kind of a tower. Configs are read without
torch: the file imports torch inside `build`, or keeps the network in a second file, as Diptych's own towers do.
"""

import dataclasses
import operator
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from diptych.model.clip_config import CLIPConfig


class ImageConfig(Protocol):
    """The config of an image tower: a frozen dataclass that validates itself when it is created."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def image_size(self) -> int:
        """Pixels along one side of an image."""

    @property
    def features_dim(self) -> int:
        """Channels of the image features before the projection."""

    @property
    def grid(self) -> int:
        """Patches, or positions of the last feature map, along one side."""

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower with its projection to embed_dim."""


class TextSideConfig(Protocol):
    """The config of a text side: a frozen dataclass that validates itself when it is created."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def context_length(self) -> int:
        """Tokens of the longest possible text, with its start and end."""

    @property
    def vocab_size(self) -> int:
        """Number of different tokens."""

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the side with its projection to, or from, embed_dim."""


@dataclasses.dataclass(frozen=True)
class Tower:
    """One kind of image tower.

    Its network has `features(images (N, 3, R, R)) -> (N, W)`, which also takes `kept` (N, K) if the tower masks
    patches, `project(features (N, W)) -> (N, E)`, and an attribute `checkpointing`: whether to recompute activations
    in the backward pass instead of keeping them.

    Attributes:
        kind: its name in config.json.
        title: its name in messages.
        config: the class of its configs, see ImageConfig.
        build: (config, embed_dim, activation) -> the network with fresh weights, including its projection to embed_dim.
        blocks: network -> the modules that are gathered one at a time when weights are sharded.
        depth: (name, config) -> layers above a parameter, for layer-wise learning rate decay; the name is relative to
            the network.
        flops: (config, embed_dim, patch_dropout) -> operations for one image, forward, projection included.
        first_weight: the parameter that multiplies the pixels. Images are cast to its type, and Muon leaves it to
            AdamW.
        positions: the parameter that is resampled for another image size, (1 + grid², W) or (grid², W); empty if there
            is none.
        masks_patches: whether patches of an image can be left out.
        layouts: other layouts that support this tower: "openai", "open_clip", "huggingface".
        family: what other libraries call the whole model with such a tower: "clip" or "siglip".
        omitted: field -> value that config.json omits, so that versions older than the field read the models that they
            can build.
        marker: a regular expression for a tensor's name that no other tower has; None if a weight file without a
            configuration is not recognized.
        check: (config, embed_dim) -> raises a ConfigError for an embed_dim that the tower cannot have.
        infer: (tensors, heads or 0) -> the config, inferred from a state dict's shapes; names begin with "visual.".
        assumed: what shapes do not determine, besides heads and activation, in words.
    """

    kind: str
    title: str
    config: type
    build: Callable[[Any, int, str], "nn.Module"]
    blocks: "Callable[[Any], list[nn.Module]]"
    depth: Callable[[str, Any], int]
    flops: Callable[[Any, int, float], float]
    first_weight: str = "conv1.weight"
    positions: str = ""
    masks_patches: bool = False
    layouts: tuple[str, ...] = ()
    family: str = "clip"
    omitted: Mapping[str, object] = dataclasses.field(default_factory=dict)
    marker: str | None = None
    check: Callable[[Any, int], None] = lambda config, embed_dim: None
    infer: "Callable[[Mapping[str, torch.Tensor], int], ImageConfig] | None" = None
    assumed: str = ""

    def dtype(self, network: "nn.Module") -> "torch.dtype":
        """The type that a network of this kind takes images in."""
        return operator.attrgetter(self.first_weight)(network).dtype

    def device(self, network: "nn.Module") -> "torch.device":
        """The device of a network of this kind."""
        return operator.attrgetter(self.first_weight)(network).device


@dataclasses.dataclass(frozen=True)
class TextSide:
    """One kind of text side.

    Its network is the whole model, including the image tower (diptych.model.image_half): a DualEncoder with
    `encode_text`, or a model that predicts captions, with `losses` and `text_scores`; see diptych.model.build.

    Attributes:
        kind: its name in config.json.
        config: the class of its configs, see TextSideConfig.
        build: the configuration of the whole model -> its network with fresh weights.
        predicts: whether it predicts captions: it has no temperature, and is trained with objective "prediction".
        images_only: whether the model has no text side: it compares images with images, at a fixed temperature.
        blocks: whole network -> the text side's modules that are gathered one at a time when weights are sharded.
        depth: (name, config) -> layers above a parameter, not counting the image tower.
        flops: (config, embed_dim, tokens) -> operations for one caption, forward; None if they are not counted.
        layouts: other layouts that support this text side: "openai", "open_clip", "huggingface".
        reads_templates: whether words of a prompt other than the class name change the scores.
        omitted, check: as in Tower.
    """

    kind: str
    config: type
    build: "Callable[[CLIPConfig], nn.Module]"
    depth: Callable[[str, Any], int]
    predicts: bool = False
    images_only: bool = False
    blocks: "Callable[[Any], list[nn.Module]]" = lambda network: []
    flops: Callable[[Any, int, float], float] | None = None
    layouts: tuple[str, ...] = ()
    reads_templates: bool = True
    omitted: Mapping[str, object] = dataclasses.field(default_factory=dict)
    check: Callable[[Any, int], None] = lambda config, embed_dim: None


def stack_depth(name: str, layers: int, block: str, below: str, first: int = 0) -> int:
    """Layers above a parameter in a stack; parameters neither in a block nor below the stack are on top of it.

    Args:
        layers: L, blocks of the stack.
        block: a regular expression for names within a block; its group 1 is the block's number i.
        below: a regular expression for the parameters before the stack.
        first: number of the lowest block.
    Returns:
        L - (i - first) in a block, L + 1 below the stack, otherwise 0.
    Source: BEiT (Bao et al. 2021, arXiv 2106.08254), after Clark et al. 2020 (ELECTRA).
    """
    if inside := re.match(block, name):
        return layers - (int(inside[1]) - first)
    return layers + 1 if re.match(below, name) else 0
