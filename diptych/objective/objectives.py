"""The table of objectives: a new one is one file with its loss, and one row here.

Everything that a run needs to know about its objective is in the row: for the training step, the configuration's
checks, the profile, the validation loss and the hyper-parameter search, and the warning about runs that do not learn.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from diptych.errors import ConfigError
from diptych.model.clip_config import CLIPConfig
from diptych.model.towers import text_side_of
from diptych.objective.contrastive import contrastive_loss
from diptych.objective.sigmoid import sigmoid_loss

if TYPE_CHECKING:
    from diptych.model.clip import DualEncoder

PairLoss = Callable[[torch.Tensor, torch.Tensor, "DualEncoder"], torch.Tensor]
HeldOutLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | float], torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Chance:
    """The loss of a model that gives every pair the same score.

    Attributes:
        loss: pairs of a global batch -> nats.
        words: what that number is, for a message.
    """

    loss: Callable[[int], float]
    words: str


@dataclasses.dataclass(frozen=True)
class Objective:
    """One objective that training can minimize.

    Attributes:
        name: its name in `TrainConfig.objective`.
        loss: (image embeddings (N, E), text embeddings (N, E), the dual encoder with its scalars) -> the loss () of the
            global batch; ranks and gradients as in contrastive_loss. None if the model itself predicts captions and
            has `losses(images, tokens, lengths) -> (N,)`, whose mean is the loss.
        parameters: scalars of the model that the loss reads; only a loss that reads it has a model with `logit_bias`.
        chance: the loss of guessing, to warn about a run that stays there; None if it depends on the data.
        sharded: whether it can train weights that are sharded over the ranks (FSDP2).
        held_out: (image embeddings (N, E), text embeddings (N, E), scale) -> the validation loss () of held-out pairs:
            nats per pair, ln N for a model that gives all pairs the same score. All rows use the contrastive loss, so
            that runs with different objectives can be compared.
        copies: whether a pair is an image and a changed copy of it, instead of an image and a caption.
        check: raises a ConfigError for any other reason why a model does not suit the objective.
    """

    name: str
    loss: PairLoss | None
    parameters: tuple[str, ...] = ("logit_scale",)
    chance: Chance | None = None
    sharded: bool = True
    held_out: HeldOutLoss = contrastive_loss
    copies: bool = False
    check: Callable[[CLIPConfig], None] = lambda model: None

    def check_model(self, model: CLIPConfig) -> None:
        """Refuse a model that this objective cannot train.

        Raises:
            ConfigError: the objective compares embeddings and the model predicts captions, or the reverse; the model
                has a bias that the objective does not read, or lacks one; or `check` refuses it.
        """
        side = text_side_of(model.text)
        if side.predicts != (self.loss is None) or side.images_only != self.copies:
            kind = type(model.text).__name__
            raise ConfigError(f"objective {self.name} does not suit a model whose text side is a {kind}")
        if ("logit_bias" in self.parameters) != (model.logit_bias is not None):
            raise ConfigError(
                f"objective is {self.name} and model.logit_bias is {model.logit_bias}: the sigmoid loss needs a "
                "bias (it starts at -10), and the others have none; see the recipe siglip"
            )
        self.check(model)


def _contrastive(images: torch.Tensor, texts: torch.Tensor, network: "DualEncoder") -> torch.Tensor:
    return contrastive_loss(images, texts, network.logit_scale.exp())


def _sigmoid(images: torch.Tensor, texts: torch.Tensor, network: "DualEncoder") -> torch.Tensor:
    assert network.logit_bias is not None  # check_model has checked it
    return sigmoid_loss(images, texts, network.logit_scale.exp(), network.logit_bias)


def _copies(images: torch.Tensor, copies: torch.Tensor, network: "DualEncoder") -> torch.Tensor:
    return contrastive_loss(images, copies, network.logit_scale.exp())


OBJECTIVES: dict[str, Objective] = {
    row.name: row
    for row in (
        # A model that gives every pair the same score has the loss ln N in a batch of N pairs (CLIP paper, figure 3).
        Objective("contrastive", _contrastive, chance=Chance(math.log, "ln of the batch size")),
        Objective("sigmoid", _sigmoid, parameters=("logit_scale", "logit_bias")),
        Objective("prediction", None, parameters=(), sharded=False),
        # The copy detector's: contrastive between an image and its copy, at a fixed temperature (appendix C).
        Objective("copies", _copies, chance=Chance(math.log, "ln of the batch size"), copies=True),
    )
}
"""Objectives by the names that `TrainConfig.objective` takes."""
