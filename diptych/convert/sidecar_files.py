"""The files beside the weights: tokenizer, preprocessing and README, as Hugging Face's libraries read them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.convert.targets import Target
from diptych.data.library_tokenizer import SETTINGS, AnyTokenizer, LibraryTokenizer
from diptych.data.preprocessing import Preprocessing
from diptych.data.vocabulary import EOT, SOT
from diptych.embed.foreign_config import PREPROCESSOR
from diptych.embed.model import Model
from diptych.embed.model_folder import CARD, TOKENIZER
from diptych.errors import ConfigError
from diptych.files import utf8
from diptych.model.presets import architecture_name

_PIL_FILTERS = {"bilinear": 2, "bicubic": 3}
_CARD = """---
pipeline_tag: zero-shot-image-classification
---
# {name}, for {title}

Converted by `diptych convert`, and checked against the original model: the same images and texts give the same
embeddings.

| | |
| --- | --- |
| architecture | {architecture}, {activation} |
| embedding | {embed_dim} dimensions |
| weights | {precision} |
| images | {size} x {size} pixels, {resize}, {interpolation}, mean {mean}, standard deviation {std} |
| texts | up to {context} tokens, vocabulary of {vocab} |
| logit scale | {scale:.6g}{bias} |

```python
folder = "path/to/this/folder"
{loading}
```
"""


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file that people can read."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_readme(folder: Path, model: Model, target: Target, precision: str, loading: str) -> None:
    """Write the README: what the model is, and the lines that load it."""
    config, images, bias = model.clip.config, model.preprocessing, model.logit_bias
    text: Any = config.text
    card = _CARD.format(
        name=utf8(model.name),
        title=target.title,
        architecture=architecture_name(config),
        activation=config.activation,
        embed_dim=config.embed_dim,
        precision=precision,
        size=images.image_size,
        resize="both sides resized" if images.resize == "squash" else "short side resized, center cropped",
        interpolation=images.interpolation,
        mean=list(images.mean),
        std=list(images.std),
        context=text.context_length,
        vocab=f"{text.vocab_size:,}",
        scale=model.logit_scale,
        bias="" if bias is None else f", bias {bias:.6g}",
        loading=loading.strip(),
    )
    (folder / CARD).write_text(card, encoding="utf-8")


def write_preprocessor(folder: Path, preprocessing: Preprocessing, processor: str) -> None:
    """Write preprocessor_config.json.

    Args:
        processor: the class of transformers that joins it with the tokenizer: CLIPProcessor or SiglipProcessor.
    """
    size, squash = preprocessing.image_size, preprocessing.resize == "squash"
    square = {"height": size, "width": size}
    # Siglip's class resizes both sides and crops nothing; CLIP's does both, as it is told.
    kind = "Siglip" if squash and processor.startswith("Siglip") else "CLIP"
    values: dict[str, Any] = {
        "image_processor_type": f"{kind}ImageProcessor",
        "processor_class": processor,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": square if squash else {"shortest_edge": size},
        "resample": _PIL_FILTERS[preprocessing.interpolation],
        "do_center_crop": not squash,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
    write_json(folder / PREPROCESSOR, values)


def write_tokenizer(folder: Path, tokenizer: AnyTokenizer, processor: str | None = None) -> None:
    """Write tokenizer.json and tokenizer_config.json for the tokenizers library and transformers.

    Args:
        processor: the class of transformers that joins it with the preprocessing.
    """
    settings: dict[str, Any] = {"model_max_length": tokenizer.context_length, "padding_side": "right"}
    if processor is not None:
        settings["processor_class"] = processor
    tokenizer.save(folder / TOKENIZER)
    if isinstance(tokenizer, LibraryTokenizer):
        # Only the ids: SigLIP and CLIPA read the padding, too, and a mask would hide it.
        settings |= json.loads((folder / SETTINGS).read_text(encoding="utf-8")) | {"model_input_names": ["input_ids"]}
        if (zeroed := tokenizer.rules.zeroed) is not None:
            settings["sep_token"] = tokenizer.token(zeroed)
        (folder / TOKENIZER).write_text(tokenizer.self_contained(), encoding="utf-8")
    else:
        settings |= {"tokenizer_class": "CLIPTokenizer", "bos_token": SOT, "eos_token": EOT}
        # Not the token 0, which Diptych pads with: it is a word's piece, and a special token would be cut out of texts.
        settings |= {"pad_token": EOT, "unk_token": EOT, "model_input_names": ["input_ids", "attention_mask"]}
    write_json(folder / SETTINGS, settings)


def required_tokenizer(model: Model) -> AnyTokenizer:
    """The model's tokenizer.

    Raises:
        ConfigError: it came without one.
    """
    if model.tokenizer is None:
        raise ConfigError(
            f"{model.name} came without a tokenizer, so a converted model could not read texts: put its tokenizer.json "
            "beside the weights"
        )
    return model.tokenizer
