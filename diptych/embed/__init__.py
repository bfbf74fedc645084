"""Models in use: pictures and texts in, embeddings out; folders that describe themselves."""

from typing import TYPE_CHECKING

from diptych.lazy import lazy_names

if TYPE_CHECKING:
    from diptych.embed.encoder import Encoder
    from diptych.embed.folder import check_can_save
    from diptych.embed.loading import load
    from diptych.embed.model import Model

__all__ = ["Encoder", "Model", "check_can_save", "load"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diptych.embed.encoder": ("Encoder",),
        "diptych.embed.folder": ("check_can_save",),
        "diptych.embed.loading": ("load",),
        "diptych.embed.model": ("Model",),
    },
)
