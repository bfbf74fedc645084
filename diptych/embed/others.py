"""Models of other libraries, and objects of one's own, as Encoders: whatever fills the protocol can be measured.

    hf:FOLDER_OR_ID               any CLIP or SigLIP of Hugging Face's transformers
    open_clip:NAME[@PRETRAINED]   any model of open_clip; PRETRAINED is one of its tags or a weight file
    python:MODULE:NAME            an object (or a function that makes one) with encode_images and encode_texts

CLIP's own architectures are better loaded as files (`diptych.load`): faster, and with features before the projection.
"""

import contextlib
import hashlib
import importlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from diptych.embed.encoder import Encoder, Picture
from diptych.embed.folder import read_json
from diptych.embed.foreign import OPEN_CLIP_CONFIG
from diptych.embed.loading import load
from diptych.embed.model import Model
from diptych.embed.own import OwnEncoder
from diptych.embed.pictures import OnError, embed_pictures
from diptych.errors import ConfigError, InputError, WeightsError
from diptych.model.clip import normalised
from diptych.model.device import choose_device

logger = logging.getLogger(__name__)

BATCH_SIZE = 64
_ORIGINS = ("_name_or_path", "transformers_version")
_PREPARED = ("mean", "std", "interpolation", "resize_mode")  # of open_clip's preprocess_cfg; the size is the network's


def open_encoder(name: str | Path, device: str | torch.device | None = None, precision: str = "fp32") -> Encoder:
    """A model by its name on the command line: what `diptych.load` takes, or one of the prefixes above.

    Raises:
        WeightsError: there is no such model, or it came without what its numbers depend on.
        ConfigError: the library is not installed, or precision is another than fp32 for a foreign model.
    """
    library, _, rest = str(name).partition(":")
    openers: dict[str, Callable[[str, torch.device], Encoder]] = {
        "hf": open_huggingface,
        "open_clip": open_open_clip,
    }
    if library == "python" and rest:
        return open_python(rest)
    if library not in openers or not rest:
        return load(name, device, precision)
    if precision not in ("fp32", "auto"):
        raise ConfigError(f"models of other libraries compute in fp32 here, not in {precision}")
    return openers[library](rest, choose_device(device))


class ForeignEncoder:
    """A model of another library, behind three functions of its own.

    Attributes:
        name: what results call it.
        device: where it computes.
        logit_scale: exp(t); 100 where the model has none.
        fingerprint, image_fingerprint: of its weights, and of how pictures are prepared.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        name: str,
        *,
        prepare: Callable[[Any], torch.Tensor],
        images: Callable[[torch.Tensor], torch.Tensor],
        texts: Callable[[Sequence[str]], torch.Tensor] | None,
        features: Callable[[torch.Tensor], torch.Tensor] | None,
        preprocessing: str,
        tokenizing: str = "",
    ) -> None:
        """Wrap a network.

        Args:
            prepare: a PIL image in RGB -> (3, R, R) as the network takes it.
            images, features: (N, 3, R, R) on the device -> (N, E) and (N, W), of any norm; None for no features.
            texts: N texts -> (N, E), of any norm; None for a model of pictures alone.
            preprocessing: how pictures are prepared, in words that change whenever it does.
            tokenizing: the same of texts.
        """
        self.name, self._network, self._prepare = name, network.eval(), prepare
        self._images, self._texts, self._features = images, texts, features
        self.device = next(network.parameters()).device
        # Equal weights are not equal models: the network in words tells its activation, which no weight does.
        about = f"{preprocessing} {network} {_settings(network)}"
        digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", about).encode())
        for key, tensor in network.state_dict().items():
            digest.update(f"{key} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        self.image_fingerprint = digest.hexdigest()
        self.fingerprint = hashlib.sha256(f"{self.image_fingerprint} {tokenizing}".encode()).hexdigest()
        scale = getattr(network, "logit_scale", None)
        self.logit_scale = float(scale.detach().exp()) if isinstance(scale, torch.Tensor) else 100.0

    def __repr__(self) -> str:
        parameters = sum(parameter.numel() for parameter in self._network.parameters())
        kind = type(self._network).__name__
        return f"{type(self).__name__}({self.name!r}, {kind}, {parameters / 1e6:.1f} M parameters, {self.device})"

    def encode_images(self, pictures: Iterable[Picture], /, *, on_error: OnError = "raise") -> torch.Tensor:
        """N pictures -> (N, E) float32 on the CPU, unit norm; `on_error` as Model.encode_images has it."""
        return normalised(self._each(self._images, pictures, on_error))

    @property
    def image_features(self) -> Callable[[Iterable[Picture]], torch.Tensor]:
        """N pictures -> (N, W) float32 on the CPU, before the projection.

        Models of which the way to them is not known here do not have it: `hasattr` tells, and probes take embeddings.
        """
        features = self._features
        if features is None:
            raise AttributeError(f"{self.name}: features before the projection are not to be had of this model")
        return lambda pictures: self._each(features, pictures)

    def encode_texts(self, texts: Sequence[str], /) -> torch.Tensor:
        """N texts -> (N, E) float32 on the CPU, unit norm.

        Raises:
            WeightsError: it is a model of pictures alone.
        """
        if self._texts is None:
            raise WeightsError(f"{self.name} encodes pictures alone: probes can measure it, zero-shot cannot")
        with torch.inference_mode():
            parts = [self._texts(texts[at : at + BATCH_SIZE]).float().cpu() for at in range(0, len(texts), BATCH_SIZE)]
        return normalised(torch.cat(parts)).clone()

    def _each(
        self,
        function: Callable[[torch.Tensor], torch.Tensor],
        pictures: Iterable[Picture],
        on_error: OnError = "raise",
    ) -> torch.Tensor:
        with torch.inference_mode():
            vectors = embed_pictures(
                pictures,
                self._prepare,
                lambda pixels: function(pixels.to(self.device)).float().cpu(),
                batch_size=BATCH_SIZE,
                on_error=on_error,
            )
        return vectors.clone()


def open_huggingface(name: str, device: torch.device) -> ForeignEncoder:
    """A CLIP or SigLIP of transformers, from a folder or the hub.

    Raises:
        ConfigError: transformers is not installed.
        WeightsError: there is no such model, it is neither kind, or it lacks its preprocessor.
    """
    transformers = _library("transformers", "transformers")
    for library in ("transformers", "huggingface_hub"):
        logging.getLogger(library).propagate = False  # they print their warnings themselves
    try:
        network = transformers.AutoModel.from_pretrained(name).to(device)
        processor = transformers.AutoImageProcessor.from_pretrained(name, use_fast=False)
    except (OSError, ValueError) as error:
        raise WeightsError(f"hf:{name} cannot be loaded with its preprocessor: {_first_line(error)}") from error
    if not hasattr(network, "get_image_features") or not hasattr(network, "vision_model"):
        raise WeightsError(f"hf:{name} is a {type(network).__name__}; CLIP and SigLIP models can be measured")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, TypeError):
        tokenizer = None
    length = getattr(network.config.text_config, "max_position_embeddings", 77)

    def texts(some: Sequence[str]) -> torch.Tensor:
        # SigLIP learned on texts that are filled up to the full length.
        tokens = tokenizer(list(some), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return _tensor(network.get_text_features(**{key: value.to(device) for key, value in tokens.items()}))

    return ForeignEncoder(
        network,
        Path(name).name,
        prepare=lambda picture: processor(images=picture, return_tensors="pt")["pixel_values"][0],
        images=lambda pixels: _tensor(network.get_image_features(pixel_values=pixels)),
        texts=None if tokenizer is None else texts,
        features=lambda pixels: network.vision_model(pixel_values=pixels).pooler_output,
        preprocessing=str(processor.to_dict()),
        tokenizing=f"{length} {_tokenizer_in_words(tokenizer)}",
    )


def open_open_clip(name: str, device: torch.device) -> ForeignEncoder:
    """A model of open_clip: NAME@PRETRAINED with one of its tags or a weight file.

    A tag says how its pictures were prepared, a file does not: an open_clip_config.json beside it may, whose
    preprocess_cfg is taken. What nobody states is open_clip's default, with a notice; where all published weights of
    the architecture take something else (SigLIP's), the file is refused.

    Raises:
        ConfigError: open_clip is not installed.
        WeightsError: there is no such model, no weights are named, the file beside them is damaged or needed.
    """
    architecture, _, pretrained = name.partition("@")
    if not pretrained:
        raise WeightsError(f"open_clip:{name} names no weights: add @TAG or @FILE, such as open_clip:ViT-B-32@openai")
    open_clip = _library("open_clip", "open_clip_torch")
    tagged = open_clip.get_pretrained_cfg(architecture.replace("/", "-"), pretrained)
    from_file = not tagged and Path(pretrained).is_file()
    stated = _stated_preprocessing(Path(pretrained).with_name(OPEN_CLIP_CONFIG)) if from_file else {}
    try:
        network, _, prepare = open_clip.create_model_and_transforms(
            architecture,
            pretrained=pretrained,
            device=device,
            **{f"image_{key}": stated[key] for key in _PREPARED if key in stated},
        )
        tokenize = open_clip.get_tokenizer(architecture)
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError) as error:
        raise WeightsError(f"open_clip:{name} cannot be loaded: {_first_line(error) or repr(error)}") from error
    visual = network.visual
    if from_file:
        _check_preprocessing(pretrained, stated, visual.preprocess_cfg, _published(open_clip, architecture))

    @contextlib.contextmanager
    def without_projection() -> Iterator[None]:
        projection, visual.proj = visual.proj, None
        try:
            yield
        finally:
            visual.proj = projection

    def features(pixels: torch.Tensor) -> torch.Tensor:
        with without_projection():
            return network.encode_image(pixels)

    return ForeignEncoder(
        network,
        f"{architecture} {Path(pretrained).stem}",
        prepare=prepare,
        images=network.encode_image,
        texts=lambda some: network.encode_text(tokenize(list(some)).to(device)),
        features=features if isinstance(getattr(visual, "proj", None), torch.nn.Parameter) else None,
        preprocessing=f"{architecture} {prepare}",
        tokenizing=f"{type(tokenize).__name__} {getattr(tokenize, 'context_length', None)}",
    )


def _stated_preprocessing(path: Path) -> dict[str, Any]:
    """The preprocess_cfg of an open_clip_config.json; empty where there is no such file."""
    if not path.is_file():
        return {}
    stated = read_json(path).get("preprocess_cfg")
    if not isinstance(stated, Mapping):
        raise WeightsError(f"{path} has no object preprocess_cfg")
    found = dict(stated)
    for key in {"mean", "std"} & set(stated):
        values = stated[key]
        if not isinstance(values, list) or len(values) != 3 or {type(value) for value in values} - {int, float}:
            raise WeightsError(f"{path}: preprocess_cfg.{key} is {values!r:.80}; it should be three numbers")
        found[key] = tuple(map(float, values))  # as the library's own are, so that equal ones have equal fingerprints
    return found


def _published(open_clip: Any, architecture: str) -> list[Mapping[str, Any]]:
    """How pictures are prepared for each of the published weights of an architecture."""
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    return [open_clip.get_pretrained_cfg(architecture, tag) for tag in tags]


def _check_preprocessing(
    file: str, stated: Mapping[str, Any], taken: Mapping[str, Any], published: Sequence[Mapping[str, Any]]
) -> None:
    """A notice of what is assumed about pictures; WeightsError where that is another size, or most likely wrong."""
    size = _sides(taken["size"])
    if (other := _sides(stated.get("size", size))) != size:
        raise WeightsError(
            f"{OPEN_CLIP_CONFIG} beside {file} states pictures of {other} pixels; this architecture takes {size}"
        )
    assumed = {key: taken[key] for key in _PREPARED if key not in stated}
    for key, value in assumed.items():
        if published and all(key in one and _listed(one[key]) != _listed(value) for one in published):
            usual = {name: stated.get(name, published[0].get(name, taken[name])) for name in _PREPARED}
            raise WeightsError(
                f"{file} does not say how its pictures were prepared, and all published weights of its architecture "
                f"take another {key} than the usual {value}: write {OPEN_CLIP_CONFIG} beside it, such as "
                f"{json.dumps({'preprocess_cfg': usual})}"
            )
    if assumed:
        logger.warning(
            "%s does not say how its pictures were prepared; assumed, at %s pixels: %s. If it was trained otherwise, "
            'write %s beside it, with what is right: {"preprocess_cfg": %s}',
            *(file, size, ", ".join(f"{key} {value}" for key, value in assumed.items())),
            *(OPEN_CLIP_CONFIG, json.dumps({key: taken[key] for key in _PREPARED})),
        )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _sides(size: Any) -> str:
    """224 and [224, 224] say the same: "224 x 224"."""
    sides = [size, size] if isinstance(size, int) else size
    return " x ".join(map(str, sides)) if isinstance(sides, list | tuple) else str(size)


def open_python(name: str) -> Encoder:
    """The object MODULE:NAME, or what the function of that name returns; MODULE is found from the working folder too.

    Raises:
        InputError: there is none, or it has no encode_images.
    """
    module, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"python:{name} is not there ({error}); write python:MODULE:NAME") from error
    try:
        encoder = found() if callable(found) and not hasattr(found, "encode_images") else found
        encoder = encoder() if isinstance(encoder, type) else encoder
    except TypeError as error:
        raise InputError(f"python:{name} cannot be called without arguments: {_first_line(error)}") from error
    if not hasattr(encoder, "encode_images"):
        raise InputError(f"python:{name} is a {type(encoder).__name__} without encode_images(pictures)")
    return as_encoder(encoder, attribute)


def as_encoder(encoder: Any, name: str | None = None) -> Encoder:
    """An Encoder whose vectors can be relied on: one of Diptych's as it is, an object of one's own in an OwnEncoder.

    Args:
        encoder: with `encode_images`, and what else it has of an Encoder.
        name: of an object that has none.
    Raises:
        InputError: it has no `encode_images`.
    """
    if isinstance(encoder, Model | ForeignEncoder | OwnEncoder):
        return encoder
    return OwnEncoder(encoder, name)


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"this model needs {package}: pip install {package}") from error
    except Exception as error:  # an installation that does not fit torch's fails with whatever it likes
        raise ConfigError(f"{package} is installed, but cannot be imported: {_first_line(error)}") from error


def _settings(network: torch.nn.Module) -> str:
    """What a network's configuration says, without where it came from."""
    config = getattr(network, "config", None)
    values = config.to_dict() if config is not None and hasattr(config, "to_dict") else {}
    return str(sorted((key, value) for key, value in values.items() if key not in _ORIGINS))


def _tokenizer_in_words(tokenizer: Any) -> str:
    """Changes whenever a text's tokens could."""
    if tokenizer is None:
        return ""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    return f"{type(tokenizer).__name__} {fast.to_str() if fast is not None else sorted(tokenizer.get_vocab().items())}"


def _tensor(found: Any) -> torch.Tensor:
    """The features: newer versions of transformers wrap them."""
    return found if isinstance(found, torch.Tensor) else found.pooler_output


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
