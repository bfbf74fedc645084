"""What training minimises."""

from diptych.objective.contrastive import contrastive_loss
from diptych.objective.sigmoid import sigmoid_loss

__all__ = ["contrastive_loss", "sigmoid_loss"]
