"""The forms of a model's name, and messages for unknown names.

This module does not import torch, so that a command with a mistyped name fails at once.
"""

import difflib
import logging
import os
import re
from pathlib import Path

from diptych.embed.catalogue import find, is_repository, nearest
from diptych.errors import InputError, WeightsError
from diptych.files import absence, expanded, is_there, old_place, shown
from diptych.model.presets import PRESETS

logger = logging.getLogger(__name__)

# A user's own folder of this name is loaded as "./default" or as a Path.
DEFAULT = "default"
DEFAULT_FOLDER = Path(__file__).parents[1] / "assets" / DEFAULT
FORMS = {
    DEFAULT: "the small model that comes with Diptych",
    "FOLDER": "a model folder of Diptych, Hugging Face (CLIP) or open_clip",
    "FILE": "weights of a CLIP: .safetensors, .pt, .pth, .bin, .ckpt, or the *.index.json of several",
    "NAME": "a published model (diptych models lists them), fetched when first used: ViT-B/32, ViT-B-16/dfn2b, ...",
    "hf-hub:OWNER/NAME": "a CLIP or SigLIP in a repository of the Hugging Face hub; @REVISION may follow",
    "hf:FOLDER_OR_ID": "any CLIP or SigLIP of Hugging Face's transformers, run by that library",
    "open_clip:NAME@PRETRAINED": "any model of open_clip; PRETRAINED is one of its tags or a weight file",
    "open_clip:FOLDER": "a folder with open_clip_config.json, run by open_clip",
    "onnx:FOLDER": "ONNX graphs of both towers, as diptych convert writes them",
    "python:MODULE:NAME": "an object with encode_images and encode_texts, or a function that returns one",
}
LIBRARIES, PYTHON = ("hf", "open_clip", "onnx"), "python"  # the prefixes
_MAX_ENTRIES = 1000  # of a folder, searched for similar names


def check_name(name: str | Path) -> None:
    """Check that there is such a model, without opening it. Only loading tells whether it is complete.

    Raises:
        WeightsError: no file or folder has this name, and it has no other form of FORMS.
        InputError: the name starts with ~ and an unknown user, is empty, or is neither a string nor a Path.
    """
    check_form(name)
    if isinstance(name, str) and (name == DEFAULT or has_prefix(name)):
        return
    path = expanded(name)
    if path.exists() or old_place(place_of(path)).is_dir():
        return
    if not isinstance(name, str) or find(name) is None:
        raise WeightsError(unknown(str(name), path))


def check_form(name: object) -> None:
    """Check the type of a name: a string or a Path, and not empty.

    Raises:
        InputError: it has another type, such as a loaded model, or is empty.
    """
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"a model is named by a text or a Path, such as {DEFAULT!r}, not by {shown(name)}")
    if name == "":
        raise InputError(f"the name of the model is empty; give a folder, a weight file or {DEFAULT!r}")


def has_prefix(name: str) -> bool:
    """Whether the name has the prefix of another library or of a user-defined encoder, such as "hf:..."."""
    library, _, rest = name.partition(":")
    return bool(rest) and library in (*LIBRARIES, PYTHON)


def find_folder(folder: Path) -> Path:
    """The folder; or, if a save was killed between its two renames, the folder that holds the older model."""
    if folder.exists() or not (old := old_place(place_of(folder))).is_dir():
        return folder
    logger.warning("a save to %s was killed; taking the model that was there before, %s", folder, old)
    return old


def place_of(folder: Path) -> Path:
    """The target of a link: a save replaces the target, not the link."""
    return Path(os.path.realpath(folder)) if folder.is_symlink() else folder


def unknown(name: str, path: Path) -> str:
    """The message for an unknown name, with the most similar known names."""
    if is_there(path):  # but is neither a file nor a folder
        return f"{absence(path)}; give a model folder or a weight file"
    if any(name == preset or name == preset.replace("/", "-") for preset in PRESETS):
        return f"{name} is an architecture without published weights; train it (diptych train), or give a model folder"
    near = _near(name, path)
    forms = "; ".join(f"{form!r}, {meaning}" for form, meaning in FORMS.items())
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return (
        f"there is no model folder, weight file or published model {name!r}{hint} A model is {forms}; or train one "
        "(diptych train, diptych quickstart)"
    )


def _near(name: str, path: Path) -> list[str]:
    """Similar names: presets, neighbors of the path, and the form that was probably meant."""
    if page := re.match(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)", name):
        return [f"hf-hub:{page[1]}"]
    library, colon, rest = name.partition(":")
    if colon and (prefixes := difflib.get_close_matches(library.lower(), [*LIBRARIES, PYTHON, "huggingface"], 1, 0.6)):
        return [f"{'hf' if prefixes[0] == 'huggingface' else prefixes[0]}:{rest or '...'}"]
    siblings: list[str] = []
    if path.parent.is_dir():
        names = sorted(entry.name for entry, _ in zip(path.parent.iterdir(), range(_MAX_ENTRIES), strict=False))
        siblings = [str(path.parent / sibling) for sibling in difflib.get_close_matches(path.name, names, 2, 0.7)]
    spellings = {text.lower(): preset for preset in (DEFAULT, *PRESETS) for text in (preset, preset.replace("/", "-"))}
    lower = name.lower()
    similar = [lower] if lower in spellings else difflib.get_close_matches(lower, spellings, 3, 0.7)
    presets = list(dict.fromkeys(spellings[spelling] for spelling in similar))[:2]
    known = dict.fromkeys([*siblings, *presets, *nearest(name)])
    if not known and is_repository(name):
        return [f"hf-hub:{name}"]
    return list(known)[:3]
