"""What the folders of graphs share: configuration, tokenizer and preprocessing beside the two towers."""

from pathlib import Path

from diptych.convert.options import Options
from diptych.convert.sidecar_files import required_tokenizer, write_json, write_preprocessor, write_tokenizer
from diptych.embed.graph_encoder import Graph, GraphEncoder
from diptych.embed.model import Model
from diptych.embed.model_folder import CONFIG
from diptych.embed.onnx_folder import OURS, read_about
from diptych.errors import ConfigError
from diptych.model.huggingface_config import is_siglip
from diptych.model.layouts import huggingface_config
from diptych.model.towers import text_side_of

PIXELS, TOKENS, IMAGES, TEXTS = "pixel_values", "input_ids", "image_embeds", "text_embeds"


def require_text_tower(model: Model) -> None:
    """Refuse a model without the Transformer as its text tower.

    Raises:
        ConfigError: the message names the side.
    """
    required_tokenizer(model)
    if "openai" not in (side := text_side_of(model.clip.config.text)).layouts:
        raise ConfigError(f"{model.name} has the text side {side.kind!r}, which no other library computes")


def write_beside(model: Model, folder: Path, options: Options) -> None:
    """Write config.json, preprocessor_config.json, tokenizer.json and tokenizer_config.json."""
    config = model.clip.config
    processor = "SiglipProcessor" if is_siglip(config) else "CLIPProcessor"
    try:
        values = huggingface_config(config)
    except ConfigError:  # transformers has no such model; its tokenizers and processors are loaded all the same
        values = {"model_type": "clip"}
    ours = {
        "model": config.to_dict(),
        "preprocessing": model.preprocessing.to_dict(),
        "logit_scale": model.logit_scale,
        "logit_bias": model.logit_bias,
        "precision": options.precision,
    }
    write_json(folder / CONFIG, values | {OURS: ours})
    write_preprocessor(folder, model.preprocessing, processor)
    write_tokenizer(folder, required_tokenizer(model), processor)


def graph_encoder(folder: Path, made_by: str, images: Graph, texts: Graph) -> GraphEncoder:
    """The encoder of two graphs and the files of `write_beside`."""
    return GraphEncoder(folder.name, made_by=made_by, images=images, texts=texts, **read_about(folder))
