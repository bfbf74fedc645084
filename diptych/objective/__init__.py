"""The objectives that training minimizes."""

from typing import TYPE_CHECKING

from diptych.lazy import lazy_names

if TYPE_CHECKING:
    from diptych.objective.contrastive import contrastive_loss
    from diptych.objective.sigmoid import sigmoid_loss

__all__ = ["contrastive_loss", "sigmoid_loss"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diptych.objective.contrastive": ("contrastive_loss",),
        "diptych.objective.sigmoid": ("sigmoid_loss",),
    },
)
