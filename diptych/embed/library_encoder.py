"""A model of another library as an Encoder: whatever fills the protocol can be measured."""

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
from diptych.embed.encoder import Picture
from diptych.embed.pictures import OnError, embed_pictures, guarded
from diptych.errors import ConfigError, WeightsError
from diptych.model.clip import normalised

BATCH_SIZE = 64
_LONGEST_STRIP = 32  # long sides over short ones; photographs have up to 3, panoramas 10
_TORCHVISION = "torchvision"
_ORIGINS = ("_name_or_path", "transformers_version")


class ForeignEncoder:
    """A model of another library, behind three functions of its own.

    Attributes:
        name: what results call it.
        device: where it computes.
        logit_scale: exp(t); None where the model has none.
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
        no_texts: str = "",
        keeps_centre: bool = False,
    ) -> None:
        """Wrap a network.

        Args:
            prepare: a PIL image in RGB -> (3, R, R) as the network takes it.
            images, features: (N, 3, R, R) on the device -> (N, E) and (N, W), of any norm; None for no features.
            texts: N texts -> (N, E), of any norm; None for a model of pictures alone.
            preprocessing: how pictures are prepared, in words that change whenever it does.
            tokenizing: the same of texts.
            no_texts: why there is no `texts`, for the message.
            keeps_centre: `prepare` scales the short side and keeps the centre square; a strip is cut to its middle.
        """
        self.name, self._network, self._no_texts = name, network.eval(), no_texts
        self._prepare = guarded((lambda picture: prepare(middle(picture))) if keeps_centre else prepare)
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
        self.logit_scale = _logit_scale(network)
        self.about = About(
            no_texts=None if texts is not None else self._why_no_texts(),
            has_features=features is not None,
            logit_scale=self.logit_scale,
            image_fingerprint=self.image_fingerprint,
            text_fingerprint=self.fingerprint,
            device=self.device,
        )

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
            raise WeightsError(f"{self.name} {self.about.no_texts}")
        with torch.inference_mode():
            parts = [self._texts(texts[at : at + BATCH_SIZE]).float().cpu() for at in range(0, len(texts), BATCH_SIZE)]
        return normalised(torch.cat(parts)).clone()

    def _why_no_texts(self) -> str:
        reason = self._no_texts and f" ({self._no_texts})"
        return f"encodes images alone{reason}: probes can measure it, zero-shot cannot"

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


def middle(picture: Image.Image) -> Image.Image:
    """A picture, of a strip its middle: libraries scale the whole of it, which of 700,000 x 1 pixels takes gigabytes.

    What is left is so long that no pixel of the centre square comes from the rest; its centre is where it was.
    """
    long, short = max(picture.size), min(picture.size)
    cut = (long - _LONGEST_STRIP * short) // 2
    if cut <= 0:
        return picture
    width, height = picture.size
    box = (cut, 0, width - cut, height) if width > height else (0, cut, width, height - cut)
    return picture.crop(box)


def import_library(module: str, package: str) -> Any:
    """An optional library.

    Raises:
        ConfigError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:  # of the library, or of another one that comes with it
        raise ConfigError(f"this model needs {package}: pip install {package}") from error
    except Exception as error:  # an installation that does not fit torch's fails with whatever it likes
        raise ConfigError(f"{package} is installed, but cannot be imported: {reason(error)}") from error


def _logit_scale(network: torch.nn.Module) -> float | None:
    """What cosines are multiplied with: exp(t); ALIGN divides by its temperature; None if nothing tells."""
    scale, temperature = (getattr(network, name, None) for name in ("logit_scale", "temperature"))
    if isinstance(scale, torch.Tensor):
        return float(scale.detach().exp())
    return 1 / float(temperature.detach()) if isinstance(temperature, torch.Tensor) else None


def _settings(network: torch.nn.Module) -> str:
    """What a network's configuration says, without where it came from."""
    config = getattr(network, "config", None)
    values = config.to_dict() if config is not None and hasattr(config, "to_dict") else {}
    return str(sorted((key, value) for key, value in values.items() if key not in _ORIGINS))


def first_line(error: BaseException) -> str:
    """The first line of what an exception says."""
    return str(error).strip().split("\n")[0]


def reason(error: BaseException) -> str:
    """Why something of another library failed, in one line: what it says, and the cause that it keeps to itself."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None and cause not in causes:
        causes.append(cause)
    said, root = (first_line(one) or repr(one) for one in (error, causes[-1]))
    if any(_TORCHVISION in Path(frame.filename).parts for frame in traceback.extract_tb(causes[-1].__traceback__)):
        return (
            f"{_TORCHVISION}{_version(_TORCHVISION)} does not work with torch {torch.__version__} ({root}): install "
            "the one that was built for this torch, from where torch came (https://pytorch.org/get-started), or "
            "uninstall it where no models but those of hf: are used"
        )
    return said if root in said else f"{said.rstrip('.')}: {root}"


def _version(package: str) -> str:
    try:
        return f" {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ""
