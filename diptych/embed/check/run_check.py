"""Check a model against a reference: load both, compare them stage by stage, and state one verdict."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.embed.about import about
from diptych.embed.check.adapters import stages_of
from diptych.embed.check.check_images import check_images
from diptych.embed.check.check_texts import check_texts
from diptych.embed.check.default_reference import default_reference
from diptych.embed.check.differences import Row
from diptych.embed.check.known_differences import Known, effective, known_in_computing
from diptych.embed.check.live_check import LiveCheck
from diptych.embed.check.recorded_check import compare_with_record, record, weights_digest
from diptych.embed.check.reference_file import (
    SUFFIX,
    Reference,
    find_reference,
    read_reference,
    reference_folders,
    write_reference,
)
from diptych.embed.check.tolerances import limits
from diptych.embed.resolver import load
from diptych.errors import InputError
from diptych.files import expanded
from diptych.model.inference import Heads

_FP32 = "fp32"
_COARSE = (
    "the tolerance of {} is so wide that another activation in a shallow model, or one wrong weight, can pass: "
    "check in fp32, too"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """The result of a check.

    Attributes:
        model, reference: what was compared, in words.
        precision: in which the model computed; it sets the tolerance. The reference computes in fp32.
        rows: the comparison of each stage, on equal input.
        whole_path: of some stages again, where each model ran by itself from the file or the text.
        known: the differences on purpose that took effect, by the trait of the images or texts.
        notes: what else the reader should know.
    """

    model: str
    reference: str
    precision: str
    rows: tuple[Row, ...]
    whole_path: tuple[Row, ...]
    known: Known
    notes: tuple[str, ...] = ()

    @property
    def first_difference(self) -> str | None:
        """The first stage that differs; None if the two are equal."""
        return next((row.stage for row in (*self.rows, *self.whole_path) if not row.is_equal), None)

    @property
    def is_equal(self) -> bool:
        """Whether all compared stages are equal within the tolerance, apart from the known differences."""
        return self.first_difference is None


def record_model(
    name: str,
    path: Path,
    *,
    device: str | None = None,
    activation: str | None = None,
    heads: str | Heads | None = None,
) -> Reference:
    """Write the reference vectors of a model, in fp32, into a file for `check_model`.

    Raises:
        ConfigError: the model does not show its preprocessing or its weights.
        DataError: the file cannot be written.
    """
    encoder = load(name, device, _FP32, activation=activation, heads=heads)
    reference = record(stages_of(encoder), weights_digest(encoder), _FP32, check_images(), check_texts())
    write_reference(path, reference)
    return reference


def check_model(
    name: str,
    against: str | None = None,
    *,
    device: str | None = None,
    precision: str = _FP32,
    activation: str | None = None,
    heads: str | Heads | None = None,
    strict: bool = False,
) -> Check:
    """Compare a model with a reference: 32 images and 64 texts, stage by stage.

    Args:
        name: the model, in any form of FORMS.
        against: another model in any form, or a .npz file of recorded vectors. By default the library whose layout the
            weights have; else recorded vectors of these weights; else, for a precision other than fp32, the same model
            in fp32.
        device, precision, activation, heads: of the model, as in `diptych.load`.
        strict: also count the differences that the libraries make on purpose.
    Raises:
        InputError: no reference is known for this model; the message says what to give.
        WeightsError, ConfigError: as in `diptych.load`, of either model.
        DataError: a file of recorded vectors is damaged.
    """
    encoder = load(name, device, precision, activation=activation, heads=heads)
    computed_in = about(encoder).precision or _FP32
    exact = encoder

    def in_fp32() -> Any:
        nonlocal exact
        if computed_in != _FP32 and exact is encoder:
            exact = load(name, device, _FP32, activation=activation, heads=heads)
        return exact

    with _reference(name, against, encoder) as named:
        if named is not None and _is_record(named):
            path = expanded(named)
            return _check_recorded(name, encoder, computed_in, str(path), read_reference(path), strict, in_fp32())
        if named is not None:
            by_itself = encoder if named == name and computed_in == _FP32 else load(named, device)
            return _check_live(name, encoder, computed_in, named, by_itself, strict, _coarse(computed_in))
    if (weights := weights_digest(in_fp32())) is not None and (found := find_reference(weights)) is not None:
        return _check_recorded(name, encoder, computed_in, str(found[0]), found[1], strict, in_fp32())
    if computed_in != _FP32:
        return _check_live(name, encoder, computed_in, f"{name} in fp32", in_fp32(), strict)
    raise InputError(_no_reference(name))


@contextlib.contextmanager
def _reference(name: str, against: str | None, encoder: Any) -> Iterator[str | None]:
    if against is not None:
        yield against
    else:
        with default_reference(name, encoder) as named:
            yield named


def _is_record(name: str) -> bool:
    return name.endswith(SUFFIX) and ":" not in name.partition("/")[0]


def _check_live(
    name: str, encoder: Any, precision: str, reference: str, other: Any, strict: bool, notes: tuple[str, ...] = ()
) -> Check:
    model, theirs = stages_of(encoder), stages_of(other, by_itself=True)
    live = LiveCheck(model, theirs, check_images(), check_texts(), limits(precision), strict=strict)
    known = {**model.known, **theirs.known}
    return _finished(
        Check(
            model=f"{name} ({model.made_by}, {precision})",
            reference=f"{reference} ({theirs.made_by})",
            precision=precision,
            rows=tuple(live.rows),
            whole_path=tuple(live.whole_path),
            known=known,
            notes=notes,
        )
    )


def _check_recorded(
    name: str, encoder: Any, precision: str, path: str, recorded: Reference, strict: bool, exact: Any
) -> Check:
    weights = weights_digest(exact)
    mine = record(stages_of(encoder), weights, precision, check_images(), check_texts())
    rows = compare_with_record(mine, recorded, check_images(), check_texts(), limits(precision), strict=strict)
    others = () if weights == recorded.weights else ("the weights are not those of the recorded model",)
    return _finished(
        Check(
            model=f"{name} ({mine.made_by}, {precision})",
            reference=f"{path}: {recorded.name} ({recorded.made_by}, {recorded.precision})",
            precision=precision,
            rows=tuple(rows),
            whole_path=(),
            known=known_in_computing(mine.library, recorded.library),
            notes=(*others, *_coarse(precision)),
        )
    )


def _coarse(precision: str) -> tuple[str, ...]:
    return () if precision == _FP32 else (_COARSE.format(precision),)


def _finished(check: Check) -> Check:
    """The check with those known differences alone that took effect."""
    traits = [trait for row in (*check.rows, *check.whole_path) for trait in row.explained]
    return dataclasses.replace(check, known=effective(check.known, traits))


def _no_reference(name: str) -> str:
    folders = " and ".join(map(str, reference_folders()))
    return (
        f"nothing is known that {name} could be compared with: no other library loads it by itself, and no recorded "
        f"vectors of its weights lie in {folders}. Give --against hf:FOLDER_OR_ID, open_clip:NAME@TAG, another "
        f"model, or a {SUFFIX} file that diptych check --record wrote; or give --precision bf16, to compare the model "
        "with itself in fp32"
    )
