"""An object of one's own as an Encoder: whatever arrays its methods give become checked tensors.

What an object leaves wrong would otherwise be a wrong number later, or an error that does not name the model.
"""

import itertools
import logging
import traceback
import uuid
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from diptych.data.decoding import decode_image
from diptych.embed.about import About, about_object
from diptych.embed.encoder import Picture
from diptych.embed.pictures import OnError, blank_picture, encode_apart, error_reporter, in_batches, in_short, scattered
from diptych.errors import DiptychError, ImageError, InputError, ShapeError

_UNIT = ("encode_images", "encode_texts", "encode_pixels", "project_features")
_FREE = ("image_features", "pixel_features")
_FAR = 1e-3  # of a norm from 1: half precision stays within

_TOKENS: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_log = logging.getLogger(__name__)


class OwnEncoder:
    """An object with `encode_images`, and what else of an Encoder it has.

    Its embeddings may be arrays, lists or tensors of any device and precision: here they are float32 on the CPU, one
    row per item, of unit norm. What else it has (`fingerprint`, `logit_scale`, ...) is passed through.

    Attributes:
        own: the object itself.
        name: what results call it.
        token: of the object, in this process alone: it marks what was measured of one that has no fingerprint.
    """

    def __init__(self, own: Any, name: str | None = None) -> None:
        """Wrap an object.

        Args:
            own: the object.
            name: for one that has none.
        Raises:
            InputError: it has no `encode_images`, or a `logit_scale` that is no number above 0.
        """
        if not callable(getattr(own, "encode_images", None)):
            raise InputError(f"{name or own!r} is a {type(own).__name__} without encode_images(pictures)")
        self.own, self.token = own, _token(own)
        self.name = str(getattr(own, "name", None) or name or type(own).__name__)
        self._has_told = False
        getattr(self, "logit_scale", None)  # a wrong one is an error now, not after hours of encoding
        # As attributes of its own: protocols that are checked at run time look for them without asking __getattr__.
        for method in (*_UNIT, *_FREE):
            if callable(function := getattr(own, method, None)):
                checked = self._checked(function, method)
                setattr(self, method, self._with_on_error(checked) if method == "encode_images" else checked)
        if hasattr(own, "preprocessing"):
            self.preprocessing = own.preprocessing

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {type(self.own).__name__})"

    @property
    def about(self) -> About:
        """What the object can do: its own record if it has one, otherwise what its attributes tell."""
        stated = getattr(self.own, "about", None)
        return stated if isinstance(stated, About) else about_object(self)

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "own" or attribute in (*_UNIT, *_FREE):  # own: not yet there, as while it is being copied
            raise AttributeError(attribute)
        found = getattr(self.own, attribute)
        return _scale(found, self.name) if attribute == "logit_scale" else found

    def _checked(self, function: Callable[..., Any], method: str) -> Callable[..., torch.Tensor]:
        def checked(items: Sequence[Picture] | Sequence[str] | torch.Tensor, /, **options: Any) -> torch.Tensor:
            try:
                found = function(items, **options)
            except DiptychError:
                raise
            except Exception as error:  # it is somebody else's code: the other sets are measured all the same
                last = traceback.extract_tb(error.__traceback__)[-1]
                raise InputError(
                    f"{self.name}: {method} of {len(items)} failed with {type(error).__name__}: {error} "
                    f"({last.filename}, line {last.lineno})"
                ) from error
            vectors = _tensor(found, f"{self.name}: {method}", len(items))
            return self._unit(vectors, method) if method in _UNIT else vectors

        return checked

    def _with_on_error(self, encode: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """encode_images with Diptych's on_error, which the object itself need not know."""

        def encode_images(
            pictures: Iterable[Picture], /, *, on_error: OnError = "raise", **options: Any
        ) -> torch.Tensor:
            if on_error == "raise":
                return encode(pictures, **options)
            report, sound, number = error_reporter(on_error), {}, 0
            for number, picture in enumerate(itertools.chain.from_iterable(in_batches(pictures, 1)), start=1):
                try:
                    sound[number - 1] = decode_image(picture)
                except ImageError as error:
                    report(number - 1, error)
            rows, places = None, list(sound)
            if sound:
                rows, failed = encode_apart(lambda some: encode(some, **options), list(sound.values()))
                for place, problem in failed.items():
                    report(places[place], ImageError(in_short(problem)))
                places = [one for place, one in enumerate(places) if place not in failed]
            if rows is None:  # a blank picture tells how wide a row is, or that no picture can be encoded
                rows = encode([blank_picture()], **options)[:0]
            return scattered(rows, places, number)

        return encode_images

    def _unit(self, vectors: torch.Tensor, method: str) -> torch.Tensor:
        """Rows of unit norm; NaN stays, for whoever knows the sample's name to find it."""
        norms = vectors.double().norm(dim=1, keepdim=True)
        if zeros := int((norms == 0).sum()):
            raise InputError(f"{self.name}: {method} gave {zeros} of {len(vectors)} vectors that are zero")
        off = (norms - 1).abs()
        if not bool((off > _FAR).any()):
            return vectors
        if not self._has_told:
            worst = float(norms[off.nan_to_num().argmax()])
            _log.warning("%s: %s gave vectors of norm %.3g; they are scaled to 1 here", self.name, method, worst)
            self._has_told = True
        return (vectors / norms).float()


def _token(own: Any) -> str:
    """The same for the same object, and for no other one, of this process or another."""
    try:
        return _TOKENS.setdefault(own, uuid.uuid4().hex)
    except TypeError:  # it cannot be hashed, or not referred to weakly
        return uuid.uuid4().hex


def _scale(found: Any, name: str) -> float:
    """exp(t), which multiplies cosines."""
    try:
        scale = float(found)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: its logit_scale is no number, but {found!r:.60}: exp(t) is needed") from error
    if not 0 < scale < float("inf"):
        raise InputError(f"{name}: its logit_scale is {scale:g}; it multiplies cosines, so it must be above 0: exp(t)")
    return scale


def _tensor(found: Any, what: str, number: int) -> torch.Tensor:
    try:
        vectors = _numbers(found).detach().float().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} gave a {type(found).__name__} that is no array of numbers: {error}") from error
    if vectors.ndim != 2 or len(vectors) != number or not vectors.shape[1]:
        raise ShapeError(f"{what} gave an array of shape {tuple(vectors.shape)} for {number}; it must be ({number}, E)")
    return vectors


def _numbers(found: Any) -> torch.Tensor:
    """Whatever holds real numbers and leaves none of them out."""
    if isinstance(found, list | tuple) and found and all(isinstance(one, torch.Tensor) for one in found):
        found = torch.stack(list(found))
    if isinstance(found, torch.Tensor):
        if found.layout != torch.strided or found.is_complex():
            raise TypeError(f"it is {found.dtype}, {found.layout}")
        return found
    array = np.asanyarray(found)
    if array.dtype.kind not in "fiub" or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"it is a {type(array).__name__} of {array.dtype}")
    return torch.from_numpy(np.array(array, np.float32))  # of any byte order and any strides
