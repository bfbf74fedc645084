"""Wrap a model of another library as an Encoder."""

import dataclasses
import hashlib
import importlib
import importlib.metadata
import re
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diptych.embed.about import About
from diptych.embed.encoder import ImageInput
from diptych.embed.image_batches import OnError, embed_pictures, guarded
from diptych.errors import ConfigError, WeightsError
from diptych.model.clip import normalised

BATCH_SIZE = 64
_MAX_ASPECT_RATIO = 32  # photographs have up to 3, panoramas 10
_TORCHVISION = "torchvision"
_ORIGINS = ("_name_or_path", "transformers_version")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LibraryParts:
    """The functions of a library behind a LibraryEncoder, for a comparison stage by stage.

    Attributes:
        library: "transformers", "open_clip", or "" if unknown.
        prepare: the library's own preprocessing; guarded_prepare: as `encode_images` calls it.
        images, features: see LibraryEncoder.__init__.
        tokenize: N texts -> ids (N, L) as the text encoder takes them; None if they are not shown.
    """

    library: str
    network: torch.nn.Module
    prepare: Callable[[Any], torch.Tensor]
    guarded_prepare: Callable[[Any], torch.Tensor]
    images: Callable[[torch.Tensor], torch.Tensor]
    features: Callable[[torch.Tensor], torch.Tensor] | None
    tokenize: Callable[[Sequence[str]], torch.Tensor] | None


class LibraryEncoder:
    """A model of another library, behind three functions of that library.

    Attributes:
        name: name of the model in results.
        device: device of the network.
        logit_scale: exp(t); None if the model has none.
        fingerprint, image_fingerprint: change whenever the weights or the preparation of texts and images change.
        parts: the functions of the library, for `diptych check`.
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
        no_texts: str = "",
        keeps_center: bool = False,
        library: str = "",
        tokenize: Callable[[Sequence[str]], torch.Tensor] | None = None,
    ) -> None:
        """Wrap a network.

        Args:
            prepare: a PIL image in RGB -> (3, R, R) as the network takes it.
            images, features: (N, 3, R, R) on the device -> (N, E) and (N, W), of any norm; features may be None.
            texts: N texts -> (N, E), of any norm; None for a model without a text encoder.
            preprocessing: a string that changes whenever the preparation of images changes.
            tokenizing: a string that changes whenever the tokenization of texts changes.
            no_texts: why `texts` is None, for the message.
            keeps_center: `prepare` crops the center square; very long images are cropped before.
            library: the library's name.
            tokenize: N texts -> ids (N, L), as `texts` makes them.
        """
        self.name, self._network, self._no_texts = name, network.eval(), no_texts
        self._prepare = guarded((lambda image: prepare(crop_long_image(image))) if keeps_center else prepare)
        self._images, self._texts, self._features = images, texts, features
        self.parts = LibraryParts(
            library=library,
            network=network,
            prepare=prepare,
            guarded_prepare=self._prepare,
            images=images,
            features=features,
            tokenize=tokenize,
        )
        self.device = next(network.parameters()).device
        self.image_fingerprint = _digest(network, preprocessing)
        self.fingerprint = hashlib.sha256(f"{self.image_fingerprint} {tokenizing}".encode()).hexdigest()
        self.logit_scale = _logit_scale(network)
        self.about = About(
            no_texts=None if texts is not None else self._why_no_texts(),
            has_features=features is not None,
            logit_scale=self.logit_scale,
            logit_bias=_logit_bias(network),
            image_fingerprint=self.image_fingerprint,
            text_fingerprint=self.fingerprint,
            device=self.device,
        )

    def __repr__(self) -> str:
        parameters = sum(parameter.numel() for parameter in self._network.parameters())
        kind = type(self._network).__name__
        return f"{type(self).__name__}({self.name!r}, {kind}, {parameters / 1e6:.1f} M parameters, {self.device})"

    def encode_images(self, images: Iterable[ImageInput], /, *, on_error: OnError = "raise") -> torch.Tensor:
        """N images -> (N, E) float32 on the CPU, unit norm; `on_error` as in Model.encode_images."""
        return normalised(self._encode(self._images, images, on_error))

    @property
    def image_features(self) -> Callable[[Iterable[ImageInput]], torch.Tensor]:
        """N images -> (N, W) float32 on the CPU, before the projection.

        Models whose features are not accessible do not have this attribute; probes then use embeddings.
        """
        features = self._features
        if features is None:
            raise AttributeError(f"{self.name}: the features before the projection are not accessible in this model")
        return lambda images: self._encode(features, images)

    def encode_texts(self, texts: Sequence[str], /) -> torch.Tensor:
        """N texts -> (N, E) float32 on the CPU, unit norm.

        Raises:
            WeightsError: the model has no text encoder.
        """
        if self._texts is None:
            raise WeightsError(f"{self.name} {self.about.no_texts}")
        with torch.inference_mode():
            parts = [self._texts(texts[i : i + BATCH_SIZE]).float().cpu() for i in range(0, len(texts), BATCH_SIZE)]
        return normalised(torch.cat(parts)).clone()

    def _why_no_texts(self) -> str:
        reason = self._no_texts and f" ({self._no_texts})"
        return f"encodes images alone{reason}: probes can measure it, zero-shot cannot"

    def _encode(
        self,
        function: Callable[[torch.Tensor], torch.Tensor],
        images: Iterable[ImageInput],
        on_error: OnError = "raise",
    ) -> torch.Tensor:
        with torch.inference_mode():
            vectors = embed_pictures(
                images,
                self._prepare,
                lambda pixels: function(pixels.to(self.device)).float().cpu(),
                batch_size=BATCH_SIZE,
                on_error=on_error,
            )
        return vectors.clone()


def crop_long_image(image: Image.Image) -> Image.Image:
    """Crop an extremely long image to its middle; return other images unchanged.

    Libraries resize the whole image, which takes gigabytes for 700,000 x 1 pixels. The part that is kept has the same
    center and is so long that the center square does not change.
    """
    long, short = max(image.size), min(image.size)
    cut = (long - _MAX_ASPECT_RATIO * short) // 2
    if cut <= 0:
        return image
    width, height = image.size
    box = (cut, 0, width - cut, height) if width > height else (0, cut, width, height - cut)
    return image.crop(box)


def import_library(module: str, package: str) -> Any:
    """Import an optional library.

    Raises:
        ConfigError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:  # the library or one of its dependencies
        raise ConfigError(f"this model needs {package}: pip install {package}") from error
    except Exception as error:  # an installation built for another torch can raise anything
        raise ConfigError(f"{package} is installed, but cannot be imported: {reason(error)}") from error


def _digest(network: torch.nn.Module, preprocessing: str) -> str:
    """A digest of what an image's vector depends on.

    Models with equal weights can differ: the printed network shows the activation, which is in no weight.
    """
    description = f"{preprocessing} {network} {_settings(network)}"
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", description).encode())
    for key, tensor in network.state_dict().items():
        digest.update(f"{key} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _logit_scale(network: torch.nn.Module) -> float | None:
    """The factor exp(t) of cosines. ALIGN divides by its temperature. None if the network has neither."""
    scale, temperature = (getattr(network, name, None) for name in ("logit_scale", "temperature"))
    if isinstance(scale, torch.Tensor):
        return float(scale.detach().exp())
    return 1 / float(temperature.detach()) if isinstance(temperature, torch.Tensor) else None


def _logit_bias(network: torch.nn.Module) -> float | None:
    """The bias of SigLIP's logits; None if the network has none."""
    bias = getattr(network, "logit_bias", None)
    return float(bias.detach()) if isinstance(bias, torch.Tensor) else None


def _settings(network: torch.nn.Module) -> str:
    """A network's configuration as text, without the fields that name its origin."""
    config = getattr(network, "config", None)
    values = config.to_dict() if config is not None and hasattr(config, "to_dict") else {}
    return str(sorted((key, value) for key, value in values.items() if key not in _ORIGINS))


def first_line(error: BaseException) -> str:
    """The first line of an exception's message."""
    return str(error).strip().split("\n")[0]


def reason(error: BaseException) -> str:
    """Why another library failed, in one line: the message of its exception and of the root cause."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None and cause not in causes:
        causes.append(cause)
    message, root = (first_line(exception) or repr(exception) for exception in (error, causes[-1]))
    if any(_TORCHVISION in Path(frame.filename).parts for frame in traceback.extract_tb(causes[-1].__traceback__)):
        return (
            f"{_TORCHVISION}{_version(_TORCHVISION)} does not work with torch {torch.__version__} ({root}): install "
            "the one that was built for this torch, from where torch came (https://pytorch.org/get-started), or "
            "uninstall it if you use only models of hf:"
        )
    return message if root in message else f"{message.rstrip('.')}: {root}"


def _version(package: str) -> str:
    try:
        return f" {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ""
