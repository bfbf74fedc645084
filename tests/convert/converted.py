"""Small models of each kind that a conversion must hold, and what the README of a converted folder computes."""

import contextlib
import dataclasses
import functools
import io
import logging
import re
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import packaging.version
import peers  # noqa: F401  (before open_clip, transformers and clip)
import tokenizers
import torch
import transformers
from embedding import small_tokenizer
from model_tools import random_clip
from pictures import noise
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from diptych.data.library_tokenizer import LibraryTokenizer, TextRules
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed import Model
from diptych.model.clip_config import CLIPConfig, ResNetConfig, SiglipViTConfig, TextConfig, ViTConfig

# OpenAI's code on the package index still asks setuptools for this module, which is no longer part of it.
sys.modules.setdefault(
    "pkg_resources",
    # pytest's syspath_prepend calls the second, if there is such a module.
    types.SimpleNamespace(packaging=packaging, fixup_namespace_packages=lambda path, parent=None: None),
)

ODD = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
HALVES = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize": "squash"}
CAPTIONS = ["A photo of a cat.", "two green dogs, and a very long tail!", "It's a snake_case [word]"] * 3
TEXT = "a photo of a cat"
LIBRARIES = ("", "transformers", "open_clip", "sentence_transformers", "huggingface_hub", "torch")
_PROGRESS = re.compile(r"^(Loading weights|Writing model shards|Batches|Fetching)\b")


def openai_vit() -> Model:
    """A small ViT in everything as OpenAI's; its matrices have the precision of fp16, as the published ones."""
    config = CLIPConfig(64, ViTConfig(48, 16, 128, 2), TextConfig(width=64, layers=2))
    return Model(_published(random_clip(config)), Tokenizer.openai(), Preprocessing(48), "openai-vit")


def _published(clip):
    """The network with the parts in fp16 that OpenAI's files have so: not norms, embeddings and the temperature."""
    for name, tensor in clip.state_dict().items():
        if not any(part in name for part in ("bn", "downsample.1", "ln_", "embedding", "logit_scale")):
            tensor.copy_(tensor.half())
    return clip


def openai_resnet() -> Model:
    """A small ModifiedResNet in everything as OpenAI's."""
    config = CLIPConfig(96, ResNetConfig(64, 16, (1, 2, 1, 1)), TextConfig(width=64, layers=2))
    return Model(_published(random_clip(config)), Tokenizer.openai(), Preprocessing(64), "openai-resnet")


def wide_vit() -> Model:
    """Gelu, one head of 128 channels, MLPs of another width, its own preprocessing and a vocabulary of 600."""
    vision, text = ViTConfig(48, 16, 128, 2, heads=1, mlp_ratio=4.3), TextConfig(24, 600, 96, 1, 2)
    images = Preprocessing(48, **ODD, interpolation="bilinear", resize="squash")
    return Model(random_clip(CLIPConfig(80, vision, text, "gelu")), small_tokenizer(), images, "wide-vit")


def floor_vit() -> Model:
    """A ViT as transformers prepares its images."""
    config = CLIPConfig(64, ViTConfig(48, 16, 128, 2), TextConfig(24, 600, 128, layers=2))
    return Model(random_clip(config), small_tokenizer(), Preprocessing(48, resize="shortest_floor"), "floor-vit")


def gelu_resnet() -> Model:
    """A ModifiedResNet with gelu in its text tower and a vocabulary of 600."""
    config = CLIPConfig(96, ResNetConfig(64, 16, (1, 1, 1, 1)), TextConfig(24, 600, 128, layers=2), "gelu")
    return Model(random_clip(config), small_tokenizer(), Preprocessing(64, **ODD), "gelu-resnet")


@functools.cache
def siglip_tokenizer() -> LibraryTokenizer:
    """As SigLIP's: pieces with a sign for spaces, an end that is also the padding, and no capitals or punctuation."""
    library = tokenizers.Tokenizer(models.Unigram())
    library.normalizer = normalizers.Sequence([normalizers.NFKC()])
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    letters = ["abcdefghijklmnopqrstuvwxyz 0123456789"]
    library.train_from_iterator([*(text.lower() for text in CAPTIONS), *letters], trainer)
    library.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return LibraryTokenizer(library.to_str(), 16, TextRules("siglip", pad_id=1))


@functools.cache
def clipa_tokenizer() -> LibraryTokenizer:
    """As CLIPA's: a WordPiece of BERT, whose separator becomes 0."""
    library = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(lowercase=True)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    library.train_from_iterator([*CAPTIONS, *("abcdefghijklmnopqrstuvwxyz0123456789_.,!?'[]")], trainer)
    pieces = [(token, special.index(token)) for token in ("[CLS]", "[SEP]")]
    library.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=pieces)
    return LibraryTokenizer(library.to_str(), 16, TextRules("canonicalize", pad_id=0, zeroed=3))


def siglip() -> Model:
    """A small SigLIP, with gelu_tanh."""
    text = TextConfig(16, 100, 128, 2, 2, causal=False, pooling="last", projection="biased", norm_eps=1e-6, pad_id=1)
    config = CLIPConfig(128, SiglipViTConfig(40, 8, 128, 2), text, "gelu_tanh", logit_bias=-10.0)
    return Model(random_clip(config), siglip_tokenizer(), Preprocessing(40, **HALVES), "siglip")


def clipa() -> Model:
    """A small CLIPA: averaged patches, texts without a mask that are pooled at the last position."""
    vision = ViTConfig(48, 16, 128, 2, pooling="mean", ln_pre=False)
    text = TextConfig(16, 120, 64, 1, 2, causal=False, pooling="last")
    images = Preprocessing(48, **HALVES)
    return Model(random_clip(CLIPConfig(64, vision, text, "gelu")), clipa_tokenizer(), images, "clipa")


def rounded(model: Model) -> Model:
    """The model with all numbers that a fp16 file would round, rounded."""
    clip = random_clip(model.clip.config)
    clip.load_state_dict({k: t.half().to(t.dtype) if t.ndim >= 2 else t for k, t in model.clip.state_dict().items()})
    return Model(clip, model.tokenizer, model.preprocessing, model.name)


def read_me(folder: Path, *, text: str = TEXT) -> str:
    """The lines of a converted folder's README, for this folder."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert 'folder = "path/to/this/folder"' in code and TEXT in code
    return code.replace("path/to/this/folder", str(folder)).replace(TEXT, text)


@dataclasses.dataclass
class Noise:
    """What was said while a block ran: warnings, log records from level warning on, and lines on stderr."""

    said: list[str]


@contextlib.contextmanager
def listening() -> Iterator[Noise]:
    """Collect warnings, log records and lines on stderr; bars of progress are no lines.

    What transformers says once in a process, it says again here.
    """
    transformers.utils.logging.warning_once.cache_clear()
    noise_, records, stream = Noise([]), [], io.StringIO()
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stderr(stream):
            warnings.simplefilter("always")
            yield noise_
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    noise_.said += [str(one.message) for one in caught] + [record.getMessage() for record in records]
    lines = re.split(r"[\r\n]", stream.getvalue())
    noise_.said += [line for line in lines if line.strip() and not _PROGRESS.match(line)]


def of_siglips_defaults() -> list[str]:
    """What transformers says of its own SiglipConfig when it prints one, which every loading of a SigLIP does."""
    with listening() as heard:
        repr(transformers.SiglipConfig())
    return heard.said


def unit(vectors) -> np.ndarray:
    """(N, E) of unit norm, float64."""
    values = np.asarray(vectors.detach() if isinstance(vectors, torch.Tensor) else vectors, dtype=np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def write_photo(folder: Path, width: int = 100, height: int = 60) -> Path:
    """photo.jpg, whose long side has an even number of pixels more than the short one at 48 and 64 pixels."""
    noise(width, height, 5).save(folder / "photo.jpg", quality=90)
    return folder / "photo.jpg"
