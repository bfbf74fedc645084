"""The table of objectives: a new one is one file with its loss, and one row here.

What a run asks of its objective it asks of the row: the training step, the configuration's checks, the profile, the
validation loss and the search on held-out pairs, and the watch over runs that do not learn.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from diptych.errors import ConfigError
from diptych.model.config import CLIPConfig
from diptych.model.towers import text_side_of
from diptych.objective.contrastive import contrastive_loss
from diptych.objective.sigmoid import sigmoid_loss

if TYPE_CHECKING:
    from diptych.model.clip import DualEncoder

PairLoss = Callable[[torch.Tensor, torch.Tensor, "DualEncoder"], torch.Tensor]
HeldOutLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | float], torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Chance:
    """The loss of a model that says the same about every pair.

    Attributes:
        loss: pairs of a global batch -> nats.
        words: what that number is, for a message.
    """

    loss: Callable[[int], float]
    words: str


@dataclasses.dataclass(frozen=True)
class Objective:
    """One thing that training can minimise.

    Attributes:
        name: what `TrainConfig.objective` says.
        loss: (image embeddings (N, E), text embeddings (N, E), the dual encoder with its scalars) -> the loss () of the
            global batch; ranks and gradients as in contrastive_loss. None where the model itself predicts captions and
            has `losses(images, tokens, lengths) -> (N,)`, whose mean is the loss.
        parameters: scalars of the model that the loss reads; a model has a `logit_bias` only for one that does.
        chance: the loss of guessing, to warn of a run that does not leave it; None where it depends on the data.
        sharded: whether it trains weights that are cut up over the ranks (FSDP2).
        held_out: (image embeddings (N, E), text embeddings (N, E), scale) -> the validation loss () of pairs held out:
            nats per pair, ln N for a model that says the same about all. The contrastive one, so that runs of several
            objectives compare.
        check: refuses with a ConfigError what else does not suit it of a model.
    """

    name: str
    loss: PairLoss | None
    parameters: tuple[str, ...] = ("logit_scale",)
    chance: Chance | None = None
    sharded: bool = True
    held_out: HeldOutLoss = contrastive_loss
    check: Callable[[CLIPConfig], None] = lambda model: None

    def check_model(self, model: CLIPConfig) -> None:
        """Refuse a model that this objective cannot train.

        Raises:
            ConfigError: the objective compares embeddings and the model predicts captions, or the other way round; the
                model has a bias that the objective does not read, or lacks it; or `check` refuses it.
        """
        if text_side_of(model.text).predicts != (self.loss is None):
            kind = type(model.text).__name__
            raise ConfigError(f"objective {self.name} does not suit a model whose text side is a {kind}")
        if ("logit_bias" in self.parameters) != (model.logit_bias is not None):
            raise ConfigError(
                f"objective is {self.name} and model.logit_bias {model.logit_bias}: the sigmoid loss needs a "
                "bias (it begins with -10), and the others have none; see the recipe siglip"
            )
        self.check(model)


def _contrastive(images: torch.Tensor, texts: torch.Tensor, network: "DualEncoder") -> torch.Tensor:
    return contrastive_loss(images, texts, network.logit_scale.exp())


def _sigmoid(images: torch.Tensor, texts: torch.Tensor, network: "DualEncoder") -> torch.Tensor:
    assert network.logit_bias is not None  # check_model has seen to it
    return sigmoid_loss(images, texts, network.logit_scale.exp(), network.logit_bias)


OBJECTIVES: dict[str, Objective] = {
    row.name: row
    for row in (
        # A model that says the same about every pair has the loss ln N in a batch of N pairs (CLIP paper, figure 3).
        Objective("contrastive", _contrastive, chance=Chance(math.log, "ln of the batch size")),
        Objective("sigmoid", _sigmoid, parameters=("logit_scale", "logit_bias")),
        Objective("prediction", None, parameters=(), sharded=False),
    )
}
"""Objectives by the names that `TrainConfig.objective` takes."""
