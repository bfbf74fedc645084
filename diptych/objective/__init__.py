"""What training minimises."""

from diptych.objective.contrastive import contrastive_loss

__all__ = ["contrastive_loss"]
