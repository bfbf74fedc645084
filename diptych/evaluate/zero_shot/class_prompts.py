"""Check class names and templates, and read them from the command line or files."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from diptych.errors import DataError, InputError
from diptych.files import shown

_MAX_LIST_BYTES = 16 * 2**20


def check_class_names(class_names: Sequence[str], *, unique: bool = True) -> tuple[str, ...]:
    """Check class names and strip white space around them.

    Args:
        class_names: at least two.
        unique: refuse repeated names. Some published sets repeat names (ImageNet: missile, sunglasses); with False,
            classes are told apart by index, and the first of two classes with one name wins.
    Raises:
        InputError: there are fewer than two names, or a name is blank or repeated.
    """
    if isinstance(class_names, str):
        raise InputError(f"class names must be a list of texts, not the one text {class_names!r}")
    names = tuple(name.strip() for name in _texts(class_names, "class name"))
    if len(names) < 2:
        raise InputError(f"a classifier chooses between at least two classes; got {list(names)}")
    if blank := [index for index, name in enumerate(names) if not name]:
        raise InputError(f"class names must not be blank; see position {', '.join(map(str, blank[:5]))} (from 0)")
    if unique and (repeated := [name for name, count in Counter(names).items() if count > 1]):
        raise InputError(
            f"class names given more than once: {', '.join(map(repr, repeated[:10]))}; name each class once"
        )
    return names


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Check that each template has the placeholder {c}; a single text counts as a list of one.

    Raises:
        InputError: there is no template, or one lacks {c}.
    """
    templates = _texts((templates,) if isinstance(templates, str) else templates, "template")
    if not templates:
        raise InputError("a classifier needs at least one template, e.g. 'a photo of a {c}.'")
    if without := [template for template in templates if "{c}" not in template]:
        raise InputError(f"template {without[0]!r} has no {{c}}, the place of the class name")
    return templates


def fill_template(template: str, class_name: str) -> str:
    """Replace {c} by a class name; other braces in either text are left as they are."""
    return template.replace("{c}", class_name)


def read_labels(text: str) -> list[str]:
    """Read labels from a command-line argument: "cat,dog", or "@file" with one label per line.

    Raises:
        DataError: the file is missing, too large or not UTF-8.
        InputError: the text is not UTF-8.
    """
    return _read_lines(text[1:]) if text.startswith("@") else _typed(text).split(",")


def read_templates(texts: Iterable[str]) -> list[str]:
    """Read templates from command-line arguments: each is a template with {c}, or "@file" with one per line.

    A file may also be a JSON list (.json). Lists published with the CLIP paper use {} as the placeholder: in a file, a
    template with exactly one {} and no {c} is read with {c}.

    Raises:
        DataError: a file is missing, too large, not UTF-8, or not a list of texts.
    """
    templates: list[str] = []
    for text in texts:
        templates += _read_template_file(text[1:]) if text.startswith("@") else [_typed(text)]
    return templates


def _typed(text: str) -> str:
    """Decode a typed text: with an ASCII locale, Python passes other bytes on as surrogates.

    Raises:
        InputError: its bytes are not UTF-8.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError as error:
        raise InputError(f"{text!r} is not UTF-8: set a UTF-8 locale, or write it into a file, @FILE") from error


def _read_template_file(path: str) -> list[str]:
    if Path(path).suffix != ".json":
        templates = _read_lines(path)
    else:
        try:
            templates = json.loads(_read_text(path))
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{path} is not JSON: {error}") from error
        if not isinstance(templates, list) or not all(isinstance(template, str) for template in templates):
            raise DataError(f"{path} must hold a list of texts")
    return [
        template.replace("{}", "{c}") if "{c}" not in template and template.count("{}") == 1 else template
        for template in templates
    ]


def _read_lines(path: str) -> list[str]:
    return [line.strip() for line in _read_text(path).splitlines() if line.strip()]


def _texts(values: Sequence[str], what: str) -> tuple[str, ...]:
    if not isinstance(values, Iterable):
        raise InputError(f"give a list of texts, each a {what}, not {shown(values)}")
    values = tuple(values)
    if wrong := [value for value in values if not isinstance(value, str)]:
        raise InputError(f"each {what} must be a text; got {wrong[0]!r} ({type(wrong[0]).__name__})")
    return values


def _read_text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_LIST_BYTES + 1)
        if len(content) > _MAX_LIST_BYTES:
            raise DataError(f"{path} is larger than {_MAX_LIST_BYTES // 2**20} MiB; it should hold a list of texts")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
