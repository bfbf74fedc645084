"""What the name of a model may be, and what to say of a name that is none.

It imports no torch, so that a command with a mistyped name ends at once.
"""

import difflib
import logging
import os
import re
from pathlib import Path

from diptych.errors import InputError, WeightsError
from diptych.files import absence, expanded, is_there, old_place, shown
from diptych.model.presets import PRESETS

logger = logging.getLogger(__name__)

# A folder of the user's that has this name is "./default", or a Path.
DEFAULT = "default"
FORMS = {
    DEFAULT: "the small model that comes with Diptych",
    "FOLDER": "a model folder of Diptych, Hugging Face (CLIP) or open_clip",
    "FILE": "weights of a CLIP: .safetensors, .pt, .pth, .bin, .ckpt, or the *.index.json of several",
    "hf:FOLDER_OR_ID": "any CLIP or SigLIP of Hugging Face's transformers, which then computes it",
    "open_clip:NAME@PRETRAINED": "any model of open_clip; PRETRAINED is one of its tags or a weight file",
    "open_clip:FOLDER": "a folder with open_clip_config.json, which open_clip then computes",
    "python:MODULE:NAME": "an object with encode_images and encode_texts, or a function that makes one",
}
LIBRARIES, PYTHON = ("hf", "open_clip"), "python"  # the prefixes
_MAX_SEEN = 1000  # entries of a folder that are looked at for near names


def check_name(name: str | Path) -> None:
    """Find out whether there is such a model, without opening it; whether it is whole, only loading tells.

    Raises:
        WeightsError: no file and no folder has this name, and it is in no other form of FORMS.
        InputError: it begins with ~, and nobody knows that user; or it is empty, or no name at all.
    """
    check_form(name)
    if isinstance(name, str) and (name == DEFAULT or has_prefix(name)):
        return
    path = expanded(name)
    if not path.exists() and not old_place(place_of(path)).is_dir():
        raise WeightsError(unknown(str(name), path))


def check_form(name: object) -> None:
    """Refuse what can be no name: another type, such as a model that is already loaded, and an empty text.

    Raises:
        InputError: it is one of these.
    """
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"a model is named by a text or a Path, such as {DEFAULT!r}, not by {shown(name)}")
    if name == "":
        raise InputError(f"the name of the model is empty; give a folder, a weight file or {DEFAULT!r}")


def has_prefix(name: str) -> bool:
    """Whether another library or an object of the user's is named: "hf:..." and the like."""
    library, _, rest = name.partition(":")
    return bool(rest) and library in (*LIBRARIES, PYTHON)


def find_folder(folder: Path) -> Path:
    """The folder, or where its model is after a save that was killed between its two renames."""
    if folder.exists() or not (old := old_place(place_of(folder))).is_dir():
        return folder
    logger.warning("a save to %s was killed; taking the model that was there before, %s", folder, old)
    return old


def place_of(folder: Path) -> Path:
    """What a link points to: that is replaced, not the link."""
    return Path(os.path.realpath(folder)) if folder.is_symlink() else folder


def unknown(name: str, path: Path) -> str:
    """What to say of a name that is in no form, with the nearest names."""
    if is_there(path):  # and is neither a file nor a folder
        return f"{absence(path)}; give a model folder or a weight file"
    if any(name == preset or name == preset.replace("/", "-") for preset in PRESETS):
        return (
            f"{name} is an architecture; its weights are not on this machine and Diptych does not download: give the "
            f"path of a model folder or weight file, or open_clip:{name.replace('/', '-')}@TAG, which downloads"
        )
    near = _near(name, path)
    forms = "; ".join(f"{form!r}, {meaning}" for form, meaning in FORMS.items())
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return (
        f"there is no model folder, weight file or preset {name!r}{hint} A model is {forms}; or train one "
        "(diptych train, diptych quickstart)"
    )


def _near(name: str, path: Path) -> list[str]:
    """Names of models that are nearly this one: presets, what lies beside the path, and the form it may have meant."""
    if page := re.match(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)", name):
        return [f"hf:{page[1]}"]
    library, colon, rest = name.partition(":")
    if colon and (found := difflib.get_close_matches(library.lower(), [*LIBRARIES, PYTHON, "huggingface"], 1, 0.6)):
        return [f"{'hf' if found[0] == 'huggingface' else found[0]}:{rest or '...'}"]
    beside: list[str] = []
    if path.parent.is_dir():
        names = sorted(entry.name for entry, _ in zip(path.parent.iterdir(), range(_MAX_SEEN), strict=False))
        beside = [str(path.parent / one) for one in difflib.get_close_matches(path.name, names, 2, 0.7)]
    known = {one.lower(): preset for preset in (DEFAULT, *PRESETS) for one in (preset, preset.replace("/", "-"))}
    like = [name.lower()] if name.lower() in known else difflib.get_close_matches(name.lower(), known, 3, 0.7)
    presets = list(dict.fromkeys(known[one] for one in like))[:2]
    if not beside and not presets and name.count("/") == 1 and not name.startswith((".", "~", "/")):
        return [f"hf:{name}"]
    return [*beside, *presets][:3]
