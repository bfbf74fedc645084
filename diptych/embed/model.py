"""A CLIP model with everything its results depend on: weights, tokenizer, preprocessing."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any, cast

import torch

from diptych.data.library_tokenizer import AnyTokenizer
from diptych.data.transforms import Preprocessing, evaluation_pixels, normalise
from diptych.embed.about import About, weights_state
from diptych.embed.encoder import ImageInput
from diptych.embed.image_batches import OnError, embed_pictures
from diptych.embed.model_folder import write_folder
from diptych.errors import ConfigError, ShapeError, WeightsError
from diptych.files import expanded, shown
from diptych.model.clip import CLIP, normalised
from diptych.model.flops import image_flops
from diptych.model.presets import architecture_name
from diptych.model.towers import text_side_of

BATCH_SIZE = 256
PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_PREDICTS = "predicts captions and embeds none: measure it with PredictiveZeroShot"
_IMAGES_ONLY = "has no text side: it compares images with images"
_NO_TOKENIZER = "came without a tokenizer: put its tokenizer.json beside the weights"


class Model:
    """Encodes images and texts; implements the Encoder protocol.

    Attributes:
        clip: the network, on `device`; it computes in the number format of its weights.
        tokenizer: None if the weights came without one; then encode_texts raises.
        preprocessing: how an image becomes the network's input.
        name: name of the model in results.
    Raises:
        WeightsError: the tokenizer or the preprocessing does not fit the network.
    """

    def __init__(
        self, clip: CLIP, tokenizer: AnyTokenizer | None, preprocessing: Preprocessing, name: str = "model"
    ) -> None:
        if not isinstance(clip, torch.nn.Module) or not hasattr(clip, "config"):
            raise WeightsError(f"{name}: a Model is made of a network of diptych.model, not of {shown(clip)}")
        if not isinstance(preprocessing, Preprocessing) or not isinstance(tokenizer, AnyTokenizer | None):
            wrong = tokenizer if isinstance(preprocessing, Preprocessing) else preprocessing
            raise WeightsError(f"{name}: a Model needs a Preprocessing and a Tokenizer or None, not {shown(wrong)}")
        size, text = clip.config.vision.image_size, cast(Any, clip.config.text)
        if preprocessing.image_size != size:
            raise WeightsError(
                f"{name}: the preprocessing makes {preprocessing.image_size} pixels, the network needs {size}"
            )
        if tokenizer is not None and tokenizer.vocab_size > text.vocab_size:
            raise WeightsError(f"{name}: the tokenizer has {tokenizer.vocab_size} ids, the network {text.vocab_size}")
        if tokenizer is not None and tokenizer.context_length > text.context_length:
            raise WeightsError(
                f"{name}: the tokenizer's texts have up to {tokenizer.context_length} tokens, "
                f"the network's context {text.context_length}"
            )
        if tokenizer and not getattr(text, "ignores_padding", True) and tokenizer.pad_id != text.pad_id:
            raise WeightsError(
                f"{name}: the tokenizer pads texts with the token {tokenizer.pad_id}, the network with {text.pad_id}"
            )
        # Always the same memory format: another one could select other kernels, whose results differ in the last bit.
        self.clip = clip.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.tokenizer = tokenizer
        self.preprocessing = preprocessing
        self.name = name
        self._about: tuple[Any, About] | None = None

    def __repr__(self) -> str:
        """Name, architecture, size, device and number format."""
        config = self.clip.config
        dtype = str(self.clip.dtype).removeprefix("torch.")
        return (
            f"Model({self.name!r}, {architecture_name(config)}, {config.num_parameters() / 1e6:.1f} M parameters, "
            f"{self.preprocessing.image_size} px, {config.embed_dim}-d, {self.device}, {dtype})"
        )

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.clip.device

    @property
    def logit_scale(self) -> float:
        """exp(t), the factor from cosines to logits."""
        return self.clip.logit_scale.detach().double().exp().item()

    @property
    def logit_bias(self) -> float | None:
        """The bias of SigLIP's logits; None if the model has none.

        The sigmoid of logit_scale times a cosine plus logit_bias is the probability that an image and a text belong
        together.
        """
        bias = getattr(self.clip, "logit_bias", None)
        return None if bias is None else bias.detach().double().item()

    @property
    def about(self) -> About:
        """What the model can do and what its results depend on; recomputed only after its weights changed."""
        state = (weights_state(self.clip), self.preprocessing, self.tokenizer)
        if self._about is None or self._about[0] != state:
            self._about = (state, self._describe())
        return self._about[1]

    @property
    def fingerprint(self) -> str | None:
        """Changes whenever a text's embedding could change (weights of the text tower, tokenizer, precision).

        None without a tokenizer.
        """
        return self.about.text_fingerprint

    @property
    def image_fingerprint(self) -> str | None:
        """Changes whenever an image's embedding could change (weights of the image tower, preprocessing, precision)."""
        return self.about.image_fingerprint

    @property
    def gflops(self) -> float:
        """Billions of multiply-adds of the image tower for one image, the unit of the paper's figures."""
        return image_flops(self.clip.config) / 2e9

    def encode_images(
        self, images: Iterable[ImageInput], batch_size: int = BATCH_SIZE, *, on_error: OnError = "raise"
    ) -> torch.Tensor:
        """Embed images.

        Args:
            images: list, array or generator of PIL images, paths, encoded bytes, or uint8 arrays (height, width, 3).
            batch_size: images decoded and encoded at a time.
            on_error: "raise"; or "skip": an image that cannot be decoded is logged and its row is NaN, so that row i
                always belongs to image i; or a function of index and error, which is called instead of logging.
        Returns:
            (N, E) float32 on the CPU, unit norm; (0, E) for no images.
        Raises:
            ImageError: an image cannot be decoded; the message has its index.
        """
        return self._encode_images(images, self._image_embeddings, batch_size, on_error)

    def encode_pixels(self, images: torch.Tensor, batch_size: int = BATCH_SIZE) -> torch.Tensor:
        """Embed the output of `evaluation_pixels`: uint8 (N, 3, R, R) -> (N, E) float32 on the CPU, unit norm."""
        if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8:
            got = images.dtype if isinstance(images, torch.Tensor) else shown(images)
            raise ShapeError(f"encode_pixels takes uint8 pixels in a tensor, not {got}")
        batches = _batches(images, batch_size)
        return self._embed(batches, self._image_embeddings, self.clip.config.embed_dim)

    def pixel_features(self, images: torch.Tensor, batch_size: int = BATCH_SIZE) -> torch.Tensor:
        """Features of the output of `evaluation_pixels`: uint8 (N, 3, R, R) -> (N, W) float32 on the CPU."""
        batches = _batches(images, batch_size)
        return self._embed(batches, self._image_features, self.clip.config.vision.features_dim)

    def project_features(self, features: torch.Tensor, batch_size: int = 16 * BATCH_SIZE) -> torch.Tensor:
        """Project image features (N, W) to the embeddings (N, E) of encode_images: float32 on the CPU, unit norm."""
        batches = (batch.to(self.device, self.clip.dtype) for batch in _batches(features, batch_size))
        return self._embed(batches, lambda x: normalised(self.clip.visual.project(x)), self.clip.config.embed_dim)

    def image_features(
        self, images: Iterable[ImageInput], batch_size: int = BATCH_SIZE, *, on_error: OnError = "raise"
    ) -> torch.Tensor:
        """N images -> (N, W) float32 on the CPU: the image tower's output before the projection, for probes."""
        return self._encode_images(images, self._image_features, batch_size, on_error)

    def encode_texts(self, texts: Sequence[str], truncate: bool = False, batch_size: int = BATCH_SIZE) -> torch.Tensor:
        """Embed texts. Each batch holds texts of similar length and is computed only up to its longest text.

        Args:
            truncate: truncate texts that are longer than the context, instead of raising.
        Returns:
            (N, E) float32 on the CPU, unit norm.
        Raises:
            TextError: a text is longer than the context.
            WeightsError: the model has no tokenizer.
            ConfigError: the model predicts captions and does not embed them.
        """
        if not self._embeds_texts:
            raise ConfigError(f"{self.name} {self._no_texts}")
        if self.tokenizer is None:
            raise WeightsError(f"{self.name} {_NO_TOKENIZER}")
        tokens, lengths = self.tokenizer(texts, truncate=truncate)
        order = lengths.argsort(stable=True)
        batches = ((tokens[rows], lengths[rows]) for rows in _batches(order, batch_size))
        embeddings = self._embed(batches, self._text_embeddings, self.clip.config.embed_dim)
        return embeddings[order.argsort()]

    def save(self, folder: str | Path, precision: str = "fp32") -> None:
        """Write a model folder for `load`: config.json, model.safetensors, tokenizer.json and README.md.

        The folder is written atomically and replaces an older model folder of that name. If a save is killed, `load`
        still reads the older one.

        Args:
            precision: "fp32" keeps each number. "fp16" halves the file: matrices, kernels and embeddings are rounded;
                gains, biases and statistics are not. `load` computes in fp32 from both.
        Raises:
            WeightsError: the folder holds other files or cannot be written, or a weight is too large for fp16.
            ConfigError: the precision is unknown.
        """
        write_folder(expanded(folder), self.clip, self.tokenizer, self.preprocessing, precision)

    @property
    def _embeds_texts(self) -> bool:
        """False for the predictive models of figure 2 and for copy detectors, which have no text tower."""
        return hasattr(self.clip, "encode_text")

    @property
    def _no_texts(self) -> str | None:
        """Why the model encodes no texts; None if it does."""
        if self._embeds_texts:
            return _NO_TOKENIZER if self.tokenizer is None else None
        return _PREDICTS if text_side_of(self.clip.config.text).predicts else _IMAGES_ONLY

    def _describe(self) -> About:
        about = About(
            no_texts=self._no_texts,
            has_features=True,
            projects_features=True,
            takes_pixels=True,
            logit_scale=self.logit_scale if hasattr(self.clip, "logit_scale") else None,
            logit_bias=self.logit_bias,
            image_fingerprint=_digest(f"{self.preprocessing} {self.clip.config}", self.clip.visual.state_dict()),
            gflops=self.gflops,
            precision=PRECISIONS.get(self.clip.dtype, str(self.clip.dtype)),
            device=self.device,
            tokenizer=self.tokenizer,
        )
        if self.tokenizer is None:
            return about
        text = {key: value for key, value in self.clip.state_dict().items() if not key.startswith("visual.")}
        fingerprint = _digest(f"{self.tokenizer.fingerprint} {self.clip.config}", text)
        return dataclasses.replace(about, text_fingerprint=fingerprint)

    def _encode_images(
        self,
        images: Iterable[ImageInput],
        function: Callable[[torch.Tensor], torch.Tensor],
        batch_size: int,
        on_error: OnError,
    ) -> torch.Tensor:
        with evaluating(self.clip), torch.inference_mode():
            vectors = embed_pictures(
                images,
                lambda image: evaluation_pixels(image, self.preprocessing),
                lambda pixels: function(pixels).float().cpu(),
                batch_size=_checked(batch_size),
                on_error=on_error,
            )
        return vectors.clone()  # as in _embed

    def _image_embeddings(self, images: torch.Tensor) -> torch.Tensor:
        return normalised(self.clip.encode_image(self._normalize(images)))

    def _image_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.clip.image_features(self._normalize(images))

    def _text_embeddings(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        tokens, lengths = batch
        return normalised(self.clip.encode_text(tokens.to(self.device), lengths))

    def _normalize(self, images: torch.Tensor) -> torch.Tensor:
        images = normalise(images.to(self.device, non_blocking=True), self.preprocessing, self.clip.dtype)
        return images.contiguous(memory_format=torch.channels_last)

    def _embed(self, batches: Iterator, function: Callable[..., torch.Tensor], dim: int) -> torch.Tensor:
        """Apply a function to each batch and concatenate the results, float32 on the CPU."""
        with evaluating(self.clip), torch.inference_mode():
            parts = [function(batch).float().cpu() for batch in batches]
        # Callers may train on the result. A clone can be used in autograd; tensors made in inference mode cannot.
        return torch.cat(parts).clone() if parts else torch.empty(0, dim)


def _digest(description: str, weights: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(description.encode())
    for name, tensor in weights.items():
        digest.update(name.encode() + str(tensor.dtype).encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _batches(rows: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
    return (batch for batch in rows.split(_checked(batch_size)) if len(batch))


def _checked(batch_size: int) -> int:
    """The batch size as int; ConfigError if it is not a whole number >= 1."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise ConfigError(f"batch_size must be a whole number, at least 1, not {shown(batch_size)}")
    return int(batch_size)


@contextmanager
def evaluating(clip: CLIP) -> Iterator[None]:
    """Put the network into evaluation mode; restore its mode afterwards."""
    was_training = clip.training
    clip.eval()
    try:
        yield
    finally:
        clip.train(was_training)
