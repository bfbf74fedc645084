"""Which files of a model repository are needed: one weight file, its configuration, tokenizer and preprocessor."""

import re
from collections.abc import Collection
from typing import Literal

from diptych.errors import WeightsError

Layout = Literal["open_clip", "huggingface"]

_OPEN_CLIP_CONFIG, _CONFIG = "open_clip_config.json", "config.json"
# The preferred one first. Safetensors cannot hold code, and are read without a copy.
_OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_TOKENIZER_PARTS = (
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
_PREPROCESSOR = ("preprocessor_config.json", "processor_config.json")
MAX_SMALL_BYTES = 200_000_000  # of a file other than weights; the tokenizer of SigLIP 2 has 34 MB


def layout_of(names: Collection[str]) -> Layout:
    """The layout of a repository. open_clip's is preferred: config.json beside it may describe an image tower."""
    return "open_clip" if _OPEN_CLIP_CONFIG in names else "huggingface"


def wanted_files(names: Collection[str], layout: Layout, repository: str) -> list[str]:
    """The files to fetch, all of them at the top of the repository.

    Raises:
        WeightsError: it holds no model of this layout; the message says what is there.
    """
    here = {name for name in names if "/" not in name and "\\" not in name}
    config = _OPEN_CLIP_CONFIG if layout == "open_clip" else _CONFIG
    weights = _weights(here, layout)
    if config not in here or not weights:
        lacking = config if config not in here else "weights (safetensors or .bin)"
        known = ", ".join(sorted(here)[:6]) or "nothing"
        raise WeightsError(
            f"{repository} lacks {lacking}, so it is no CLIP in {layout}'s layout; it has {known}"
            f"{', ...' if len(here) > 6 else ''}"
        )
    tokenizer = [name for name in _TOKENIZER if name in here]
    if "tokenizer.json" not in here:
        tokenizer += [name for name in _TOKENIZER_PARTS if name in here]
    others = [name for name in _PREPROCESSOR if name in here] if layout == "huggingface" else []
    return [config, *others, *tokenizer, *weights]


def is_weights(name: str) -> bool:
    """Whether a file holds weights, which may be large."""
    return name.endswith((".safetensors", ".bin"))


def _weights(names: Collection[str], layout: Layout) -> list[str]:
    """The weight file, or the shards and their index."""
    for name in _OPEN_CLIP_WEIGHTS if layout == "open_clip" else _WEIGHTS:
        if name in names:
            return [name]
        stem, _, suffix = name.rpartition(".")
        shards = sorted(n for n in names if re.fullmatch(rf"{re.escape(stem)}-\d{{5}}-of-\d{{5}}\.{suffix}", n))
        if shards and f"{name}.index.json" in names:
            return [f"{name}.index.json", *shards]
    return []
