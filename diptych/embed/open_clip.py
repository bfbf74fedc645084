"""open_clip:NAME@PRETRAINED or open_clip:FOLDER: a model run by open_clip."""

import contextlib
import difflib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from diptych.embed.foreign_config import OPEN_CLIP_CONFIG
from diptych.embed.library_encoder import LibraryEncoder, import_library, reason
from diptych.embed.model_folder import read_json
from diptych.embed.remote_code import RemoteCodeError, no_remote_code, remote_code_sentence
from diptych.errors import DiptychError, WeightsError
from diptych.files import expanded
from diptych.model.file_kinds import refusal
from diptych.model.weights import quiet_pickles, read_tensors

logger = logging.getLogger(__name__)

# Keys of open_clip's preprocess_cfg; its size must be the network's.
_PREPROCESSING_KEYS = ("mean", "std", "interpolation", "resize_mode")


def open_open_clip(name: str, device: torch.device) -> LibraryEncoder:
    """A model of open_clip: NAME@PRETRAINED with one of its tags or a weight file, a FOLDER of open_clip, or hf-hub:ID.

    A tag defines the preprocessing, a weight file does not. For a file it comes from preprocess_cfg in an
    open_clip_config.json beside it. Values that are not stated are open_clip's defaults, with a warning; if all
    published weights of the architecture use another value (SigLIP's do), the file is refused.

    Raises:
        ConfigError: open_clip is not installed.
        WeightsError: there is no such model, the name has no weights, the open_clip_config.json is damaged or required
            and missing, or the model needs its own code.
    """
    full_name, architecture, pretrained = f"open_clip:{name}", *_split_name(name)
    open_clip = import_library("open_clip", "open_clip_torch")
    tagged = pretrained and open_clip.get_pretrained_cfg(architecture.replace("/", "-"), pretrained)
    from_file = not tagged and Path(pretrained).is_file()
    if pretrained:
        _check_names(open_clip, full_name, architecture.replace("/", "-"), "" if tagged or from_file else pretrained)
    if from_file and (reason := refusal(Path(pretrained))):
        raise WeightsError(f"{pretrained} cannot be read as weights: {reason}")
    stated = _stated_preprocessing(Path(pretrained).with_name(OPEN_CLIP_CONFIG)) if from_file else {}
    try:
        with no_remote_code(full_name), quiet_pickles():
            network, _, prepare = open_clip.create_model_and_transforms(
                architecture,
                pretrained=pretrained or None,
                device=device,
                **{f"image_{key}": stated[key] for key in _PREPROCESSING_KEYS if key in stated},
            )
            tokenize = open_clip.get_tokenizer(architecture)
    except DiptychError:
        raise
    except Exception as error:  # with a damaged file the library can raise anything
        raise _converted(full_name, pretrained, error) from error
    visual = network.visual
    if from_file:
        _check_preprocessing(pretrained, stated, visual.preprocess_cfg, _published(open_clip, architecture))

    def features(pixels: torch.Tensor) -> torch.Tensor:
        with _without_projection(visual):
            return network.encode_image(pixels)

    return LibraryEncoder(
        network,
        f"{architecture} {Path(pretrained).stem}" if pretrained else Path(architecture.partition(":")[2]).name,
        prepare=prepare,
        keeps_center=visual.preprocess_cfg.get("resize_mode", "shortest") == "shortest",
        images=network.encode_image,
        texts=lambda texts: network.encode_text(tokenize(list(texts)).to(device)),
        features=features if isinstance(getattr(visual, "proj", None), torch.nn.Parameter) else None,
        preprocessing=f"{architecture} {prepare}",
        tokenizing=f"{type(tokenize).__name__} {getattr(tokenize, 'context_length', None)}",
        library="open_clip",
        tokenize=lambda texts: tokenize(list(texts)),
    )


@contextlib.contextmanager
def _without_projection(visual: Any) -> Iterator[None]:
    projection, visual.proj = visual.proj, None
    try:
        yield
    finally:
        visual.proj = projection


def _split_name(name: str) -> tuple[str, str]:
    """Split a name into architecture and weights. For a folder or a hub ID, which hold both, the weights are empty."""
    if name.startswith("hf-hub:"):
        return name, ""
    name = name.removeprefix("local-dir:")
    name = str(expanded(name)) if name.startswith("~") else name
    if (Path(name) / OPEN_CLIP_CONFIG).is_file():
        return f"local-dir:{name}", ""
    architecture, _, pretrained = name.partition("@")
    if not pretrained:
        raise WeightsError(f"open_clip:{name} names no weights: add @TAG or @FILE, such as open_clip:ViT-B-32@openai")
    pretrained = str(expanded(pretrained)) if pretrained.startswith("~") else pretrained
    if Path(pretrained).is_dir() or (os.sep in pretrained and not Path(pretrained).exists()):
        raise WeightsError(f"open_clip:{name}: there is no weight file {pretrained}")
    return architecture, pretrained


def _check_names(open_clip: Any, full_name: str, architecture: str, tag: str) -> None:
    """Refuse an unknown architecture and an unknown tag; the message suggests similar names."""
    known = open_clip.list_models()
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, 3, 0.5)
        raise WeightsError(f"{full_name}: open_clip has no architecture {architecture}; {_suggestion(near, known)}")
    if tag:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        near = difflib.get_close_matches(tag.lower(), tags, 3, 0.5)
        raise WeightsError(f"{full_name}: {tag} is no file and none of its tags; {_suggestion(near, tags)}")


def _suggestion(near: Sequence[str], known: Sequence[str]) -> str:
    """The end of a message about an unknown name: similar names, or else some known names."""
    more = ", ..." if len(known) > 12 else ""
    return f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known[:12]) or 'none'}{more}"


def _converted(full_name: str, file: str, error: Exception) -> WeightsError:
    """Convert an exception of the library, whose message may advise the user to disable a protection."""
    message = str(error)
    if "trust_remote_code" in message or "custom code" in message:
        return RemoteCodeError(remote_code_sentence(full_name))
    if "weights_only" in message and Path(file).is_file():
        try:
            read_tensors(file)
        except WeightsError as weights_error:
            return weights_error
        return WeightsError(f"{full_name} cannot be loaded: {file} holds more than tensors; save its state dict alone")
    return WeightsError(f"{full_name} cannot be loaded: {reason(error)}")


def _stated_preprocessing(path: Path) -> dict[str, Any]:
    """The preprocess_cfg of an open_clip_config.json; {} if the file is missing."""
    if not path.is_file():
        return {}
    stated = read_json(path).get("preprocess_cfg")
    if not isinstance(stated, Mapping):
        raise WeightsError(f"{path} has no object preprocess_cfg")
    preprocessing = dict(stated)
    for key in {"mean", "std"} & set(stated):
        values = stated[key]
        if not isinstance(values, list) or len(values) != 3 or {type(value) for value in values} - {int, float}:
            raise WeightsError(f"{path}: preprocess_cfg.{key} is {values!r:.80}; it should be three numbers")
        # The library's type, so that equal values give equal fingerprints.
        preprocessing[key] = tuple(map(float, values))
    return preprocessing


def _published(open_clip: Any, architecture: str) -> list[Mapping[str, Any]]:
    """The preprocessing of each of the published weights of an architecture."""
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    return [open_clip.get_pretrained_cfg(architecture, tag) for tag in tags]


def _check_preprocessing(
    file: str, stated: Mapping[str, Any], taken: Mapping[str, Any], published: Sequence[Mapping[str, Any]]
) -> None:
    """Warn about assumed preprocessing. WeightsError if the size differs or an assumed value is probably wrong."""
    size = _size_text(taken["size"])
    if (other := _size_text(stated.get("size", size))) != size:
        raise WeightsError(
            f"{OPEN_CLIP_CONFIG} beside {file} states images of {other} pixels; this architecture takes {size}"
        )
    assumed = {key: taken[key] for key in _PREPROCESSING_KEYS if key not in stated}
    for key, value in assumed.items():
        if published and all(key in values and _as_list(values[key]) != _as_list(value) for values in published):
            usual = {name: stated.get(name, published[0].get(name, taken[name])) for name in _PREPROCESSING_KEYS}
            raise WeightsError(
                f"{file} does not say how its images were prepared, and all published weights of its architecture "
                f"take another {key} than the usual {value}: write {OPEN_CLIP_CONFIG} beside it, such as "
                f"{json.dumps({'preprocess_cfg': usual})}"
            )
    if assumed:
        logger.warning(
            "%s does not say how its images were prepared; assumed, at %s pixels: %s. If it was trained otherwise, "
            'write %s beside it, with the right values: {"preprocess_cfg": %s}',
            *(file, size, ", ".join(f"{key} {value}" for key, value in assumed.items())),
            *(OPEN_CLIP_CONFIG, json.dumps({key: taken[key] for key in _PREPROCESSING_KEYS})),
        )


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _size_text(size: Any) -> str:
    """ "224 x 224" for both 224 and [224, 224]."""
    sides = [size, size] if isinstance(size, int) else size
    return " x ".join(map(str, sides)) if isinstance(sides, list | tuple) else str(size)
