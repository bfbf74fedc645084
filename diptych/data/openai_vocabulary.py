"""Finds OpenAI's vocabulary on this machine, in an installed package or a hub's cache; Diptych does not include it."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from diptych.errors import DataError
from diptych.files import cache_folder, expanded, hub_cache_folder

FILE = "bpe_simple_vocab_16e6.txt.gz"
VARIABLE = "DIPTYCH_OPENAI_VOCABULARY"
_PACKAGES = ("open_clip", "clip", "eva_clip", "mobileclip", "cn_clip", "longclip")
# Folders in the Hugging Face cache of models that use OpenAI's tokenizer.
_CACHED = ("models--openai--clip-*", "models--laion--CLIP-*", "models--timm--*clip*", "models--apple--*CLIP*")


def find_openai_vocabulary(folder: Path | None = None) -> Path:
    """A file with OpenAI's vocabulary: bpe_simple_vocab_16e6.txt.gz, a tokenizer.json, or a vocab.json with merges.txt.

    Searched in this order: the variable DIPTYCH_OPENAI_VOCABULARY, the folder of the weights, installed packages
    (without importing them), and the caches of clip and of the Hugging Face hub.

    Args:
        folder: the folder of the weights, if there is one.
    Raises:
        DataError: the vocabulary is not found; the message lists all ways to get it.
    """
    if named := os.environ.get(VARIABLE):
        if not expanded(named).is_file():
            raise DataError(
                f"{VARIABLE} is {named}, which is not a file: set it to {FILE} or a tokenizer.json of OpenAI's CLIP"
            )
        return expanded(named)
    for path in _places(folder):
        if path.is_file():
            return path
    raise DataError(
        f"OpenAI's vocabulary is not on this machine. Any of these provides it: pip install open_clip_torch (or "
        f"openai-clip); a model by OpenAI in the Hugging Face cache (hf download openai/clip-vit-base-patch32); "
        f"{FILE} or the model's tokenizer.json next to the weights; or {VARIABLE}=FILE"
    )


def _places(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder / FILE
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for location in (spec.submodule_search_locations or []) if spec else []:
            yield Path(location) / FILE
            yield Path(location) / "clip" / FILE
    if (caches := cache_folder()) is not None:
        yield caches / "clip" / FILE
        yield caches / "diptych" / FILE
    if (hub := hub_cache_folder()) is None:
        return
    for model in _CACHED:
        for name in ("tokenizer.json", "vocab.json"):
            yield from sorted(hub.glob(f"{model}/snapshots/*/{name}"))
