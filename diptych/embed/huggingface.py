"""hf:FOLDER_OR_ID: a CLIP or SigLIP whose preprocessing, tokenizer and network come from Hugging Face's transformers.

No code in a model's folder is executed; see diptych.embed.remote_code.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diptych.embed.library_encoder import LibraryEncoder, import_library, reason
from diptych.embed.model_description import HUGGINGFACE_WEIGHTS
from diptych.embed.model_folder import CONFIG, read_json
from diptych.embed.remote_code import RemoteCodeError, asked_code, no_remote_code, remote_code_sentence
from diptych.errors import DiptychError, WeightsError
from diptych.files import absence, expanded, is_there
from diptych.model.sharded import INDEX_SUFFIX, is_beside, read_index, whole_index
from diptych.model.weights import quiet_pickles, read_tensors

logger = logging.getLogger(__name__)

_ADAPTER = "adapter_config.json"
# Stated, because transformers 4 takes an image of one or three rows for one whose channels come first.
_CHANNELS = "channels_last"
_NAFLEX, _LOWER_CASED = "siglip2", ("siglip", "siglip2")
_MIN_VOCABULARY = 16  # transformers makes a smaller tokenizer if its files are missing
_VIDEO = ("xclip",)
_ROBERTA = ("altclip",)
_MAX_TOKENS = {"align": 64}  # its processor pads and truncates texts to this length


def open_huggingface(name: str, device: torch.device) -> LibraryEncoder:
    """A CLIP or SigLIP of transformers, from a folder or the hub.

    Raises:
        ConfigError: transformers is not installed.
        WeightsError: there is no such model, it is another kind of model, it is incomplete or lacks its preprocessor,
            or it needs its own code.
    """
    full_name, name = f"hf:{name}", str(expanded(name)) if name.startswith("~") else name
    _check_folder(full_name, name)
    transformers = import_library("transformers", "transformers")
    for library in ("transformers", "huggingface_hub"):
        logging.getLogger(library).propagate = False  # they print their own warnings
    with no_remote_code(full_name):
        config = _from_pretrained(full_name, transformers.AutoConfig, name)
        _check_config(full_name, config)
        _check_weights(Path(name), config)
        network = _network(full_name, transformers, name, config).to(device)
        processor = _from_pretrained(
            f"{full_name} cannot be loaded with its preprocessor", transformers.AutoImageProcessor, name, use_fast=False
        )
        tokenizer, problem = _tokenizer(transformers, name)
    if problem:
        logger.warning("%s: images can be encoded, texts cannot: %s", full_name, problem)
    vision: Any = network.vision_model
    embed: Any = network.get_image_features
    embed_text: Any = network.get_text_features
    tokenize, tokenizing = _text_preparation(network.config, tokenizer)

    def encode_texts(texts: Sequence[str]) -> torch.Tensor:
        tokens = tokenize(texts)
        return _tensor(embed_text(**{key: value.to(device) for key, value in tokens.items()}))

    encoder = LibraryEncoder(
        network,
        Path(name).name,
        prepare=lambda image: processor(images=image, return_tensors="pt", input_data_format=_CHANNELS)["pixel_values"][
            0
        ],
        keeps_center="shortest_edge" in dict(getattr(processor, "size", None) or {}),
        images=lambda pixels: _tensor(embed(pixel_values=pixels)),
        texts=encode_texts if tokenizer is not None else None,
        features=lambda pixels: vision(pixel_values=pixels).pooler_output,
        preprocessing=str(processor.to_dict()),
        tokenizing=tokenizing,
        no_texts=problem,
        library="transformers",
        tokenize=(lambda texts: tokenize(texts)["input_ids"]) if tokenizer is not None else None,
    )
    _check_encoding(full_name, encoder, texts=tokenizer is not None)
    return encoder


def _check_encoding(full_name: str, encoder: LibraryEncoder, *, texts: bool) -> None:
    """Encode an image and a text: the library detects a wrong configuration only then."""
    try:
        encoder.encode_images([Image.new("RGB", (64, 48), (128, 128, 128))])
        if texts:
            encoder.encode_texts(["a photo"])
    except Exception as error:
        raise WeightsError(f"{full_name} cannot encode: {reason(error)}") from error


def _check_folder(full_name: str, name: str) -> None:
    """Refuse a missing folder, and a folder that refers the library to another place."""
    folder = Path(name)
    if not folder.is_dir():
        if folder.is_absolute() or name.startswith(".") or name.count("/") > 1 or "\\" in name or folder.exists():
            raise WeightsError(f"{full_name}: there is no folder {name}")
        return
    if (folder / _ADAPTER).is_file():
        raise WeightsError(
            f"{full_name} holds an adapter ({_ADAPTER}) without its base model: merge the two and save the result"
        )
    if not (folder / CONFIG).is_file():
        if is_there(folder / CONFIG):
            raise WeightsError(absence(folder / CONFIG))
        raise WeightsError(f"{full_name} lacks {CONFIG}; a weight file is given by its own path, without hf:")


def _check_config(full_name: str, config: Any) -> None:
    """Refuse configurations that make the library download code, and kinds of models that are not supported."""
    for part in _configs(config):
        for key in ("_attn_implementation", "_experts_implementation"):
            if "/" in str(getattr(part, key, None) or ""):
                raise RemoteCodeError(remote_code_sentence(full_name, f"the kernel {getattr(part, key)!r}"))
    kind = getattr(config, "model_type", None)
    if kind == _NAFLEX:
        raise WeightsError(
            f"{full_name} is a SigLIP 2 of variable resolution (NaFlex), which is not supported: use one of fixed "
            "resolution, such as google/siglip2-base-patch16-224"
        )
    if kind in _VIDEO:
        raise WeightsError(f"{full_name} is a {kind}, which encodes videos; CLIP and SigLIP models can be measured")


def _check_weights(folder: Path, config: Any) -> None:
    """Refuse weights outside their folder, as FOLDER does: transformers reads any path that an index names."""
    if not folder.is_dir():
        return
    stated = getattr(config, "transformers_weights", None)
    if stated is not None and not is_beside(stated):
        raise WeightsError(
            f"{folder / CONFIG} names {stated!r:.80} as transformers_weights, which is no file beside it; "
            "it is not trusted"
        )
    for kind in ("safetensors", "bin"):
        for index in sorted(folder.glob(f"*.{kind}{INDEX_SUFFIX}")):
            if index.is_file():
                read_index(index)
    names = HUGGINGFACE_WEIGHTS if stated is None else (stated,)
    weights = next((folder / name for name in names if (folder / name).is_file()), None)
    if weights is None:
        if unreadable := [folder / name for name in names if is_there(folder / name)]:
            raise WeightsError(absence(unreadable[0]))
    elif weights.name.endswith(INDEX_SUFFIX):
        whole_index(weights)
        if not isinstance(json.loads(weights.read_bytes()).get("metadata"), dict):
            raise WeightsError(
                f"{weights} lacks the object metadata, which transformers requires in an index: add {{}}"
            )


def _configs(config: Any) -> Iterator[Any]:
    yield config
    for name in ("vision_config", "text_config"):
        if (part := getattr(config, name, None)) is not None:
            yield part


def _from_pretrained(problem: str, kind: Any, name: str, **options: Any) -> Any:
    """kind.from_pretrained, with its exceptions converted to Diptych's."""
    try:
        with quiet_pickles():
            return kind.from_pretrained(name, trust_remote_code=False, **options)
    except DiptychError:
        raise
    except Exception as error:  # with a damaged folder the library can raise anything
        raise _converted(problem, name, error) from error


def _converted(problem: str, name: str, error: Exception) -> WeightsError:
    """Convert an exception of the library, whose message may advise the user to disable a protection."""
    message = str(error)
    if "trust_remote_code" in message or "custom code" in message:
        return RemoteCodeError(remote_code_sentence(problem.split(" ")[0], _asked_code(name)))
    if "weights_only" in message or "pickle" in message.lower():
        for file in sorted(Path(name).glob("pytorch_model*.bin")):
            try:
                read_tensors(file)
            except WeightsError as weights_error:
                return weights_error
        return WeightsError(
            f"{problem}: its weights are a pickle that holds more than tensors; save them as safetensors"
        )
    joiner = ":" if "cannot" in problem else " cannot be loaded:"
    return WeightsError(f"{problem}{joiner} {reason(error)}")


def _asked_code(name: str) -> str:
    path = Path(name) / CONFIG
    return asked_code(read_json(path)) if path.is_file() else ""


def _network(full_name: str, transformers: Any, name: str, config: Any) -> torch.nn.Module:
    """The network; all of its weights must come from the files."""
    # By default newer versions compute in the half precision that many files state. FOLDER and other names use fp32.
    fp32 = {"dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype": torch.float32}
    network, report = _from_pretrained(
        full_name, transformers.AutoModel, name, config=config, output_loading_info=True, **fp32
    )
    if not hasattr(network, "get_image_features") or not hasattr(network, "vision_model"):
        raise WeightsError(f"{full_name} is a {type(network).__name__}; CLIP and SigLIP models can be measured")
    if missing := sorted(report["missing_keys"]):
        raise WeightsError(
            f"{full_name} is incomplete: {len(missing)} tensors of a {type(network).__name__} are missing, such as "
            f"{', '.join(missing[:3])}; the library would initialize them at random"
        )
    return network


def _tokenizer(transformers: Any, name: str) -> tuple[Any, str]:
    """The tokenizer, or None and the reason why there is none."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except RemoteCodeError as error:
        return None, str(error)
    except Exception as error:
        return None, str(_converted("its tokenizer", name, error))
    if len(tokenizer) < _MIN_VOCABULARY:
        return None, "the files of its tokenizer are missing"
    return tokenizer, ""


def _text_preparation(config: Any, tokenizer: Any) -> tuple[Callable[[Sequence[str]], Mapping[str, torch.Tensor]], str]:
    """The function from N texts to the inputs of the text encoder, and its description for the fingerprint."""
    if tokenizer is None:
        return lambda texts: {}, ""
    length = getattr(config.text_config, "max_position_embeddings", 77)
    if config.model_type in _ROBERTA:  # its positions start after the padding's
        length -= (getattr(config.text_config, "pad_token_id", None) or 0) + 1
    length = min(length, _MAX_TOKENS.get(config.model_type, length))
    if isinstance(max_length := getattr(tokenizer, "model_max_length", None), int):  # a damaged file may hold anything
        length = min(length, max_length)
    # SigLIP was trained on lower-case texts that are padded to the full length. Only some of its tokenizers lower-case.
    siglip = config.model_type in _LOWER_CASED
    settings: Mapping[str, Any] = getattr(tokenizer, "init_kwargs", {})
    lower = siglip and getattr(tokenizer, "do_lower_case", settings.get("do_lower_case", True)) is not False

    def tokenize(texts: Sequence[str]) -> Mapping[str, torch.Tensor]:
        return tokenizer(
            [text.lower() if lower else text for text in texts],
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )

    return tokenize, f"{length} {lower} {_describe_tokenizer(tokenizer)}"


def _describe_tokenizer(tokenizer: Any) -> str:
    """A string that changes whenever the tokens of a text could change."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    return f"{type(tokenizer).__name__} {fast.to_str() if fast is not None else sorted(tokenizer.get_vocab().items())}"


def _tensor(output: Any) -> torch.Tensor:
    """The features, which newer versions of transformers wrap in an object."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output
