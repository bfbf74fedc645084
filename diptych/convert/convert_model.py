"""Convert a model: write it, load it in its own library, check it, measure it; only then is the folder there."""

import dataclasses
import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from diptych.convert import (
    write_huggingface,
    write_onnx,
    write_open_clip,
    write_openai,
    write_openvino,
    write_sentence_transformers,
    write_torch_export,
)
from diptych.convert.accuracy_change import AccuracyChange, measure_change, open_measured_set
from diptych.convert.conversion_check import as_prepared_by, check_conversion
from diptych.convert.options import Options
from diptych.convert.sidecar_files import write_readme
from diptych.convert.targets import Target, check_options, get_target
from diptych.embed.check.check_report import verdict
from diptych.embed.check.run_check import Check
from diptych.embed.library_encoder import reason
from diptych.embed.model import Model
from diptych.embed.resolver import load_model
from diptych.errors import ConfigError, ConversionError, DiptychError, InputError
from diptych.files import expanded, is_there, new_folder, writing

logger = logging.getLogger(__name__)

MAX_LOSS = 0.5
"""The largest loss of accuracy, in percentage points, that is accepted unless told otherwise."""
_UNMEASURED = (
    "int8 can lose accuracy, and how much depends on the weights: give --dataset DIR, an evaluation set of your kind "
    "of images, to measure it; or --unmeasured, to write the model without knowing"
)
_MODULES: dict[str, ModuleType] = {
    "openai": write_openai,
    "open_clip": write_open_clip,
    "huggingface": write_huggingface,
    "sentence-transformers": write_sentence_transformers,
    "onnx": write_onnx,
    "torch-export": write_torch_export,
    "openvino": write_openvino,
}
_UINT8 = 'prepare(images=[Image.open("photo.jpg")], do_rescale=False, do_normalize=False, return_tensors="np")'


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A converted model.

    Attributes:
        folder: where it is.
        target: the value of --to.
        check: the comparison with the original, as the target's library computes it.
        accuracy: what changed on the user's evaluation set; None if none was given.
    """

    folder: Path
    target: str
    check: Check
    accuracy: AccuracyChange | None = None


def convert(
    model: str | Path | Model,
    target: str,
    folder: str | Path,
    *,
    precision: str = "fp32",
    pixels: str = "float32",
    dataset: str | Path | None = None,
    split: str = "test",
    max_loss: float = MAX_LOSS,
    unmeasured: bool = False,
    num_workers: int = 0,
    report: Callable[[Check], None] | None = None,
) -> Conversion:
    """Write a model for another library, with its activation, preprocessing and tokenizer.

    The folder appears only after that library has loaded it and gave the original's embeddings for 32 images and 64
    texts.

    Args:
        model: a loaded Model in fp32, or a name that `diptych.load` takes, without the prefix of another library.
        target: a key of TARGETS, such as "huggingface" or "onnx".
        folder: a new folder, or an empty one; files are never replaced.
        precision: "fp32"; "fp16" halves the files and is computed in fp32; "int8" (onnx) is the fastest on processors.
        pixels: "float32"; or "uint8" (onnx): the image graph normalizes pixels itself.
        dataset: an evaluation set, as `diptych evaluate` takes it: both models are measured on the same images.
        split: of the evaluation set.
        max_loss: the largest loss of accuracy on it, in percentage points.
        unmeasured: write int8 without a measurement.
        num_workers: processes that decode the images of the set.
        report: called with the check, also if it failed.
    Raises:
        ConversionError: the converted model differs from the original, or loses more accuracy than max_loss.
        ConfigError: the target or an option does not exist, the target cannot hold this model, its library is not
            installed, or int8 would not be measured.
        WeightsError, DataError, InputError: the model or the set cannot be opened, or the folder is in use.
    """
    row = get_target(target)
    check_options(row, precision, pixels)
    if precision == "int8" and dataset is None and not unmeasured:
        raise ConfigError(_UNMEASURED)
    place = _new_place(folder)
    _require_libraries(row)
    benchmark = None if dataset is None else open_measured_set(dataset, split)
    original, note = as_prepared_by(_loaded(model), row)
    accuracy = None
    with writing(place), new_folder(place) as unfinished:
        _MODULES[row.name].write(original, unfinished, Options(precision, pixels))
        write_readme(unfinished, original, row, precision, _loading(row, pixels))
        converted, check = _checked(unfinished, place, original, row, precision, note)
        if report is not None:
            report(check)
        if not check.is_equal:
            raise ConversionError(f"{verdict(check)}. Nothing was written to {place}")
        if benchmark is not None:
            accuracy = measure_change(original, converted, benchmark, num_workers)
            _refuse_loss(accuracy, max_loss, place)
        del converted  # some runtimes keep the files of the folder open
    return Conversion(place, row.name, check, accuracy)


def _checked(
    unfinished: Path, place: Path, original: Model, target: Target, precision: str, note: str | None
) -> tuple[Any, Check]:
    """The converted model as its library loads it, and its comparison with the original.

    Raises:
        ConversionError: the library cannot compute it.
    """
    try:
        converted = _MODULES[target.name].open_again(unfinished)
        converted.name = place.name
        notes = () if note is None else (note,)
        return converted, check_conversion(converted, original, target, place, precision, notes)
    except DiptychError:
        raise
    except Exception as error:  # another library can raise anything
        raise ConversionError(
            f"{target.title} cannot compute the converted model: {reason(error)}. Nothing was written to {place}"
        ) from error


def _refuse_loss(accuracy: AccuracyChange, max_loss: float, place: Path) -> None:
    if accuracy.loss > max_loss:
        raise ConversionError(
            f"{accuracy}. That is a loss of more than {max_loss:g} points (--max-loss); nothing was written to {place}"
        )


def _loaded(model: str | Path | Model) -> Model:
    if not isinstance(model, Model):
        return load_model(model, "cpu")
    if (precision := model.about.precision) != "fp32":
        raise ConfigError(f"{model.name} computes in {precision}; load it in fp32 to convert it")
    return model


def _new_place(folder: str | Path) -> Path:
    """The folder to write.

    Raises:
        InputError: there is something.
    """
    place = expanded(folder)
    if not place.name:
        raise InputError(f"a model is written into a folder with a name of its own, not into {str(folder)!r}")
    if is_there(place) and (place.is_symlink() or not place.is_dir() or any(place.iterdir())):
        raise InputError(f"{place} is there already, and nothing in it is replaced: choose another folder (--out)")
    return place


def _require_libraries(target: Target) -> None:
    """Check, before any work, that the libraries are there in which the conversion ends.

    Raises:
        ConfigError: one is not; the message has the command that installs it.
    """
    for library in target.libraries:
        try:
            importlib.import_module(library)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"a conversion to {target.name} ends with loading the model there, and {error.name} is not installed: "
                f"{target.install}"
            ) from error
        except Exception as error:  # an installation built for another torch can raise anything
            raise ConfigError(f"{library} is installed, but cannot be imported: {error}") from error


def _loading(target: Target, pixels: str) -> str:
    """The lines of the README that load the model."""
    if pixels == "float32":
        return target.loading
    usual = 'prepare(images=[Image.open("photo.jpg")], return_tensors="np")'
    assert usual in target.loading
    return target.loading.replace(f'{usual}["pixel_values"]', f'{_UINT8}["pixel_values"].astype("uint8")')
