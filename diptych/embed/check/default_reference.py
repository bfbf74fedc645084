"""Which model to compare with when the user names none: the library whose layout the weights have."""

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.embed.foreign_config import OPEN_CLIP_CONFIG
from diptych.embed.library_encoder import import_library
from diptych.embed.model import Model
from diptych.embed.model_description import is_described
from diptych.embed.model_folder import CONFIG, read_json
from diptych.embed.model_names import DEFAULT, PYTHON, find_folder, has_prefix
from diptych.files import expanded
from diptych.model.published_models import find_published
from diptych.model.torchscript import is_torchscript
from diptych.model.weights import read_tensors, write_tensors


@contextlib.contextmanager
def default_reference(name: str, model: Any) -> Iterator[str | None]:
    """The name of the reference model, or None if no library can load these weights by itself.

    A folder of Hugging Face or open_clip is loaded by that library, and a weight file with the shapes of a published
    model by open_clip. A model that a library runs in Diptych is compared with the library alone. open_clip does not
    read OpenAI's archives, so their tensors are copied into a temporary file, which is deleted at the end of the block.

    Args:
        name: the model as the user named it.
        model: the model, loaded.
    """
    if has_prefix(name):
        yield None if name.startswith(f"{PYTHON}:") else name
        return
    path = find_folder(expanded(name))
    if name == DEFAULT or not (path.is_dir() or path.is_file()) or not isinstance(model, Model):
        yield None
    elif path.is_dir():
        yield _of_folder(path)
    elif is_described(path.parent):
        yield _of_folder(path.parent)
    else:
        with _readable(path) as file:
            architecture = _architecture(model)
            yield None if architecture is None else f"open_clip:{architecture}@{file}"


def _of_folder(folder: Path) -> str | None:
    """The library that wrote a folder, as in model_description.describe; None for Diptych's own."""
    values = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if "format_version" in values:
        return None
    if values.get("model_type") == "clip":
        return f"hf:{folder}"
    return f"open_clip:{folder}" if (folder / OPEN_CLIP_CONFIG).is_file() else None


def _architecture(model: Model) -> str | None:
    """open_clip's name of the architecture, with its activation; None if open_clip has none of these shapes."""
    published = find_published(model.clip.config)
    if published is None or importlib.util.find_spec("open_clip") is None:
        return None
    plain = published.name.replace("/", "-").replace("@", "-").removesuffix("px")
    name = plain + ("-quickgelu" if model.clip.config.activation == "quick_gelu" else "")
    return name if name in import_library("open_clip", "open_clip_torch").list_models() else None


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """The file, or a copy of an archive's tensors that open_clip can read."""
    if not is_archive(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"{path.stem}.safetensors"
        write_tensors(read_tensors(path), copy)
        yield copy


def is_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive, as OpenAI's are."""
    with path.open("rb") as file:
        return file.read(2) == b"PK" and is_torchscript(path)
