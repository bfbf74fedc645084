"""Models on this machine that Diptych's own towers compute, found by name. No torch, so that a command starts fast."""

import dataclasses
import os
from pathlib import Path

from diptych.embed.catalogue import Reference, find
from diptych.embed.hub import Fetched, fetch
from diptych.embed.model_names import DEFAULT, DEFAULT_FOLDER, find_folder, has_prefix
from diptych.embed.weight_file_options import Stated
from diptych.errors import ConfigError
from diptych.files import expanded


@dataclasses.dataclass(frozen=True)
class LocalModel:
    """A model's files.

    Attributes:
        name: as the user gave it; other processes find the model by it.
        path: a folder or a weight file.
        place: what the model is named after.
        stated: what the files do not say.
        prefer_open_clip: take open_clip's configuration if the folder holds two.
    """

    name: str
    path: Path
    place: Path
    stated: Stated = Stated()  # noqa: RUF009  (frozen)
    prefer_open_clip: bool = False

    @property
    def options(self) -> str:
        """What the model depends on besides its files."""
        return f"{self.stated} {self.prefer_open_clip}"

    @property
    def num_bytes(self) -> int:
        """Size of the files."""
        files = [self.path] if self.path.is_file() else [Path(entry) for entry in os.scandir(self.path)]
        return sum(file.stat().st_size for file in files if file.is_file())


def local_model(name: str | Path, stated: Stated) -> LocalModel | None:
    """The model of that name; a published one is fetched if it is not here.

    Returns:
        None if the name has a prefix, or nothing has it, or only the model's configuration tells who computes it.
    Raises:
        WeightsError: it cannot be fetched.
        ConfigError: `stated` does not belong to such a name.
    """
    if isinstance(name, str) and name == DEFAULT:
        return LocalModel(DEFAULT, DEFAULT_FOLDER, DEFAULT_FOLDER, stated)
    if isinstance(name, str) and has_prefix(name):
        return None
    named = expanded(name)
    path = find_folder(named)
    if path.is_dir() or path.is_file():
        return LocalModel(str(path), path, named.resolve(), stated)
    reference = find(name) if isinstance(name, str) else None
    if reference is None or (reference.model is not None and reference.model.runs != "native"):
        return None
    return published_model(fetch_published(reference, stated))


def fetch_published(reference: Reference, stated: Stated) -> Fetched:
    """Fetch a published model, or find it in the cache.

    Raises:
        ConfigError: something is stated about it.
        WeightsError: it cannot be fetched.
    """
    if stated != Stated():
        raise ConfigError(
            f"--activation and --heads belong to a weight file; {reference.name} is published with its own"
        )
    return fetch(reference)


def published_model(fetched: Fetched, *, native: bool | None = None) -> LocalModel | None:
    """A fetched model if Diptych's towers compute it.

    Args:
        native: whether they do; None takes the catalogue's word, which unknown repositories do not have.
    """
    if fetched.layout == "file":
        stated = Stated(fetched.model.activation if fetched.model else None, published=True)
        return LocalModel(fetched.name, fetched.path, fetched.path, stated)
    if native is None:
        native = fetched.model is not None and fetched.model.runs == "native"
    prefer = fetched.layout == "open_clip"
    return LocalModel(fetched.name, fetched.path, Path(fetched.name), prefer_open_clip=prefer) if native else None
