"""hf:FOLDER_OR_ID, a CLIP or SigLIP of Hugging Face's transformers, with that library's own pixels, tokens and network.

Nothing in a model's folder runs: see diptych.embed.remote_code.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diptych.embed.described import HUGGINGFACE_WEIGHTS
from diptych.embed.folder import CONFIG, read_json
from diptych.embed.library_encoder import ForeignEncoder, import_library, reason
from diptych.embed.remote_code import RemoteCodeError, asked_code, no_remote_code, remote_code_sentence
from diptych.errors import DiptychError, WeightsError
from diptych.files import absence, expanded, is_there
from diptych.model.sharded import INDEX_SUFFIX, is_beside, read_index, whole_index
from diptych.model.weights import quiet_pickles, read_tensors

logger = logging.getLogger(__name__)

_ADAPTER = "adapter_config.json"
_NAFLEX, _LOWER_CASED = "siglip2", ("siglip", "siglip2")
_FEW_TOKENS = 16  # a tokenizer of fewer was made without its files
_VIDEO = ("xclip",)
_ROBERTA = ("altclip",)
_MOST_TOKENS = {"align": 64}  # to which its processor fills and cuts texts


def open_huggingface(name: str, device: torch.device) -> ForeignEncoder:
    """A CLIP or SigLIP of transformers, from a folder or the hub.

    Raises:
        ConfigError: transformers is not installed.
        WeightsError: there is no such model, it is neither kind, it is incomplete or lacks its preprocessor, or it
            needs code of its own.
    """
    shown, name = f"hf:{name}", str(expanded(name)) if name.startswith("~") else name
    _check_folder(shown, name)
    transformers = import_library("transformers", "transformers")
    for library in ("transformers", "huggingface_hub"):
        logging.getLogger(library).propagate = False  # they print their warnings themselves
    with no_remote_code(shown):
        config = _part(shown, transformers.AutoConfig, name)
        _check_config(shown, config)
        _check_weights(Path(name), config)
        network = _network(shown, transformers, name, config).to(device)
        processor = _part(
            f"{shown} cannot be loaded with its preprocessor", transformers.AutoImageProcessor, name, use_fast=False
        )
        tokenizer, problem = _tokenizer(transformers, name)
    if problem:
        logger.warning("%s: pictures can be encoded, texts cannot: %s", shown, problem)
    vision: Any = network.vision_model
    embed: Any = network.get_image_features
    encode, tokenizing = _text_encoder(network, tokenizer, device)
    encoder = ForeignEncoder(
        network,
        Path(name).name,
        prepare=lambda picture: processor(images=picture, return_tensors="pt")["pixel_values"][0],
        keeps_centre="shortest_edge" in dict(getattr(processor, "size", None) or {}),
        images=lambda pixels: _tensor(embed(pixel_values=pixels)),
        texts=encode,
        features=lambda pixels: vision(pixel_values=pixels).pooler_output,
        preprocessing=str(processor.to_dict()),
        tokenizing=tokenizing,
        no_texts=problem,
    )
    _try(shown, encoder, texts=encode is not None)
    return encoder


def _try(shown: str, encoder: ForeignEncoder, *, texts: bool) -> None:
    """Encode a picture and a text: the library finds out only then that its configuration does not fit."""
    try:
        encoder.encode_images([Image.new("RGB", (64, 48), (128, 128, 128))])
        if texts:
            encoder.encode_texts(["a photo"])
    except Exception as error:
        raise WeightsError(f"{shown} cannot encode: {reason(error)}") from error


def _check_folder(shown: str, name: str) -> None:
    """Refuse a folder that is not there, and one that would send the library elsewhere."""
    folder = Path(name)
    if not folder.is_dir():
        if folder.is_absolute() or name.startswith(".") or name.count("/") > 1 or "\\" in name or folder.exists():
            raise WeightsError(f"{shown}: there is no folder {name}")
        return
    if (folder / _ADAPTER).is_file():
        raise WeightsError(
            f"{shown} holds an adapter ({_ADAPTER}), whose base model lies elsewhere: merge the two and save that"
        )
    if not (folder / CONFIG).is_file():
        if is_there(folder / CONFIG):
            raise WeightsError(absence(folder / CONFIG))
        raise WeightsError(f"{shown} lacks {CONFIG}; a weight file is given by its own path, without hf:")


def _check_config(shown: str, config: Any) -> None:
    """Refuse what the library would fetch code for, and models whose numbers are not those of a CLIP."""
    for part in _parts(config):
        for key in ("_attn_implementation", "_experts_implementation"):
            if "/" in str(getattr(part, key, None) or ""):
                raise RemoteCodeError(remote_code_sentence(shown, f"the kernel {getattr(part, key)!r}"))
    kind = getattr(config, "model_type", None)
    if kind == _NAFLEX:
        raise WeightsError(
            f"{shown} is a SigLIP 2 of variable resolution (NaFlex), which is not read here: take one of fixed "
            "resolution, such as google/siglip2-base-patch16-224"
        )
    if kind in _VIDEO:
        raise WeightsError(f"{shown} is a {kind}, which encodes videos; CLIP and SigLIP models can be measured")


def _check_weights(folder: Path, config: Any) -> None:
    """Refuse weights outside their folder, as FOLDER does: transformers reads whatever path an index gives."""
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
    taken = next((folder / name for name in names if (folder / name).is_file()), None)
    if taken is None:
        if there := [folder / name for name in names if is_there(folder / name)]:
            raise WeightsError(absence(there[0]))
    elif taken.name.endswith(INDEX_SUFFIX):
        whole_index(taken)
        if not isinstance(json.loads(taken.read_bytes()).get("metadata"), dict):
            raise WeightsError(
                f"{taken} lacks the object metadata, without which transformers reads no index: add {{}}"
            )


def _parts(config: Any) -> Iterator[Any]:
    yield config
    for name in ("vision_config", "text_config"):
        if (part := getattr(config, name, None)) is not None:
            yield part


def _part(problem: str, kind: Any, name: str, **options: Any) -> Any:
    """kind.from_pretrained, with errors of ours."""
    try:
        with quiet_pickles():
            return kind.from_pretrained(name, trust_remote_code=False, **options)
    except DiptychError:
        raise
    except Exception as error:  # a damaged folder can raise anything in the library
        raise _refused(problem, name, error) from error


def _refused(problem: str, name: str, error: Exception) -> WeightsError:
    """The error to raise for one of the library's, whose words may advise to lift a protection."""
    message = str(error)
    if "trust_remote_code" in message or "custom code" in message:
        return RemoteCodeError(remote_code_sentence(problem.split(" ")[0], _asked_code(name)))
    if "weights_only" in message or "pickle" in message.lower():
        for file in sorted(Path(name).glob("pytorch_model*.bin")):
            try:
                read_tensors(file)
            except WeightsError as own:
                return own
        return WeightsError(
            f"{problem}: its weights are a pickle that holds more than tensors; save them as safetensors"
        )
    joint = ":" if "cannot" in problem else " cannot be loaded:"
    return WeightsError(f"{problem}{joint} {reason(error)}")


def _asked_code(name: str) -> str:
    path = Path(name) / CONFIG
    return asked_code(read_json(path)) if path.is_file() else ""


def _network(shown: str, transformers: Any, name: str, config: Any) -> torch.nn.Module:
    """The network, all of whose weights come from the files."""
    # Else newer versions compute in the half precision that many files state, which FOLDER and others do not.
    fp32 = {"dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype": torch.float32}
    network, report = _part(shown, transformers.AutoModel, name, config=config, output_loading_info=True, **fp32)
    if not hasattr(network, "get_image_features") or not hasattr(network, "vision_model"):
        raise WeightsError(f"{shown} is a {type(network).__name__}; CLIP and SigLIP models can be measured")
    if missing := sorted(report["missing_keys"]):
        raise WeightsError(
            f"{shown} is incomplete: {len(missing)} tensors of a {type(network).__name__} are missing, such as "
            f"{', '.join(missing[:3])}; the library would have made them up"
        )
    return network


def _tokenizer(transformers: Any, name: str) -> tuple[Any, str]:
    """The tokenizer; or None, and why there is none."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except RemoteCodeError as error:
        return None, str(error)
    except Exception as error:
        refused = _refused("its tokenizer", name, error)
        return None, str(refused)
    if len(tokenizer) < _FEW_TOKENS:
        return None, "it came without the files of its tokenizer"
    return tokenizer, ""


def _text_encoder(
    network: Any, tokenizer: Any, device: torch.device
) -> tuple[Callable[[Sequence[str]], torch.Tensor] | None, str]:
    """N texts -> (N, E), and how texts become tokens, in words that change whenever that does."""
    if tokenizer is None:
        return None, ""
    config = network.config
    length = getattr(config.text_config, "max_position_embeddings", 77)
    if config.model_type in _ROBERTA:  # whose positions begin after that of the padding
        length -= (getattr(config.text_config, "pad_token_id", None) or 0) + 1
    length = min(length, _MOST_TOKENS.get(config.model_type, length))
    if isinstance(most := getattr(tokenizer, "model_max_length", None), int):  # else it is damaged
        length = min(length, most)
    # SigLIP learned on lower-cased texts that are filled up to the full length. Of its tokenizers only some lower case.
    siglip = config.model_type in _LOWER_CASED
    settings: Mapping[str, Any] = getattr(tokenizer, "init_kwargs", {})
    lower = siglip and getattr(tokenizer, "do_lower_case", settings.get("do_lower_case", True)) is not False

    def texts(some: Sequence[str]) -> torch.Tensor:
        tokens = tokenizer(
            [text.lower() if lower else text for text in some],
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        return _tensor(network.get_text_features(**{key: value.to(device) for key, value in tokens.items()}))

    return texts, f"{length} {lower} {_tokenizer_in_words(tokenizer)}"


def _tokenizer_in_words(tokenizer: Any) -> str:
    """Changes whenever a text's tokens could."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    return f"{type(tokenizer).__name__} {fast.to_str() if fast is not None else sorted(tokenizer.get_vocab().items())}"


def _tensor(output: Any) -> torch.Tensor:
    """The features: newer versions of transformers wrap them."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output
