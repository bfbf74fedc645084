"""Model inference: images and texts in, embeddings out; self-describing model folders."""

from typing import TYPE_CHECKING

from diptych.lazy import lazy_names

if TYPE_CHECKING:
    from diptych.embed.embed_inputs import embed_images, embed_texts
    from diptych.embed.encoder import Encoder
    from diptych.embed.image_embedder import ImageEmbedder
    from diptych.embed.model import Model
    from diptych.embed.model_folder import check_can_save
    from diptych.embed.resolver import load, load_model

__all__ = ["Encoder", "ImageEmbedder", "Model", "check_can_save", "embed_images", "embed_texts", "load", "load_model"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diptych.embed.embed_inputs": ("embed_images", "embed_texts"),
        "diptych.embed.encoder": ("Encoder",),
        "diptych.embed.image_embedder": ("ImageEmbedder",),
        "diptych.embed.model_folder": ("check_can_save",),
        "diptych.embed.model": ("Model",),
        "diptych.embed.resolver": ("load", "load_model"),
    },
)
