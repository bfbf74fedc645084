"""Where OpenAI's vocabulary lies on this machine: a package or the cache of a hub has it; Diptych does not bring it."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from diptych.errors import DataError
from diptych.files import cache_folder, expanded

FILE = "bpe_simple_vocab_16e6.txt.gz"
VARIABLE = "DIPTYCH_OPENAI_VOCABULARY"
_PACKAGES = ("open_clip", "clip", "eva_clip", "mobileclip", "cn_clip", "longclip")
# Models on the Hugging Face hub that have OpenAI's tokenizer, as their folders are called in its cache.
_CACHED = ("models--openai--clip-*", "models--laion--CLIP-*", "models--timm--*clip*", "models--apple--*CLIP*")


def find_openai_vocabulary(beside: Path | None = None) -> Path:
    """A file with OpenAI's vocabulary: bpe_simple_vocab_16e6.txt.gz, a tokenizer.json, or a vocab.json with merges.txt.

    Asked in this order: the variable DIPTYCH_OPENAI_VOCABULARY, the folder of the weights, installed packages (which
    are not imported), and the caches of clip and of the Hugging Face hub.

    Args:
        beside: a folder to look into, too.
    Raises:
        DataError: it is nowhere; says all ways to get it.
    """
    if named := os.environ.get(VARIABLE):
        if not expanded(named).is_file():
            raise DataError(
                f"{VARIABLE} is {named}, which is no file: name {FILE} or a tokenizer.json of OpenAI's CLIP"
            )
        return expanded(named)
    for path in _places(beside):
        if path.is_file():
            return path
    raise DataError(
        f"OpenAI's vocabulary is not on this machine. Any of these brings it: pip install open_clip_torch (or "
        f"openai-clip); a model of OpenAI's in the Hugging Face cache (hf download openai/clip-vit-base-patch32); "
        f"{FILE} or the model's tokenizer.json beside the weights; or {VARIABLE}=FILE"
    )


def _places(beside: Path | None) -> Iterator[Path]:
    if beside is not None:
        yield beside / FILE
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            yield Path(folder) / FILE
            yield Path(folder) / "clip" / FILE
    if (caches := cache_folder()) is not None:
        yield caches / "clip" / FILE
        yield caches / "diptych" / FILE
    if named := os.environ.get("HF_HUB_CACHE"):
        hub = expanded(named)
    elif named := os.environ.get("HF_HOME"):
        hub = expanded(named) / "hub"
    elif caches is not None:
        hub = caches / "huggingface" / "hub"
    else:
        return
    for model in _CACHED:
        for name in ("tokenizer.json", "vocab.json"):
            yield from sorted(hub.glob(f"{model}/snapshots/*/{name}"))
