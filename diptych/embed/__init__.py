"""Models in use: pictures and texts in, embeddings out; folders that describe themselves."""

from diptych.embed.encoder import Encoder
from diptych.embed.folder import check_can_save
from diptych.embed.loading import load
from diptych.embed.model import Model

__all__ = ["Encoder", "Model", "check_can_save", "load"]
