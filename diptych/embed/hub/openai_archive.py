"""Fetch weight files from fixed addresses: OpenAI's archive, and one of open_clip's releases.

Files lie where OpenAI's package and open_clip put them (~/.cache/clip), so that all tools share them.
"""

import contextlib
import json
import logging
import os
from pathlib import Path

from diptych.data.openai_vocabulary import FILE, find_openai_vocabulary
from diptych.embed.catalogue import CatalogueModel
from diptych.embed.hub.licenses import announce_license, check_license
from diptych.embed.hub.offline import is_offline
from diptych.embed.hub.resumable_download import RemoteFile, UnreachableError, download, is_intact
from diptych.errors import DataError, WeightsError
from diptych.files import cache_folder, write_whole

logger = logging.getLogger(__name__)

MIRROR = "DIPTYCH_OPENAI_MIRROR"
VOCABULARY_URL = f"https://raw.githubusercontent.com/openai/CLIP/main/clip/{FILE}"
VOCABULARY_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"


def fetch_file(model: CatalogueModel) -> Path:
    """The weight file of a model that is not on the hub. Nothing is requested if it is there and intact.

    Raises:
        WeightsError: it cannot be fetched; or it is not here and the network is off.
    """
    remote = _remote(model)
    check_license(model.name, model.license)
    if not _is_known(remote):
        if is_offline():
            raise WeightsError(
                f"{model.name} is not in {remote.path.parent}, and the network is off (--offline, DIPTYCH_OFFLINE or "
                f"HF_HUB_OFFLINE). {_advice(model, remote)}"
            )
        announce_license(model.name, model.license)
        if remote.path.is_file():
            logger.warning("%s is not the published file; fetching it again", remote.path)
            remote.path.unlink()
        logger.info("fetching %s from %s", remote.label, remote.url)
        try:
            download(remote)
        except UnreachableError as error:
            raise UnreachableError(f"{error}. {_advice(model, remote)}") from error
        _remember(remote)
    _fetch_vocabulary(remote.path.parent)
    return remote.path


def _is_known(remote: RemoteFile) -> bool:
    """Whether the file is there and intact. Its hash is computed only when the file has changed since the last time."""
    state = _state(remote)
    if state is None:
        return False
    with contextlib.suppress(OSError, ValueError):
        if json.loads(_note(remote).read_bytes()) == state:
            return True
    if not is_intact(remote):
        return False
    _remember(remote)
    return True


def _remember(remote: RemoteFile) -> None:
    """Note that a file was verified; on a read-only disk it is verified again next time."""
    with contextlib.suppress(OSError):
        write_whole(_note(remote), json.dumps(_state(remote)).encode())


def _note(remote: RemoteFile) -> Path:
    return remote.path.with_name(f".{remote.path.name}.diptych.json")


def _state(remote: RemoteFile) -> dict[str, object] | None:
    """What changes when the file changes; None if there is none."""
    try:
        status = remote.path.stat()
    except OSError:
        return None
    return {"sha256": remote.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _remote(model: CatalogueModel) -> RemoteFile:
    caches = cache_folder()
    if caches is None:
        raise WeightsError("this user has no home folder for the cache of models: set XDG_CACHE_HOME to a folder")
    name = model.files[0]
    return RemoteFile(url=_mirrored(str(model.url), 2), path=caches / "clip" / name, label=name, sha256=model.sha256)


def _mirrored(url: str, parts: int) -> str:
    """The address on the mirror of DIPTYCH_OPENAI_MIRROR, which keeps the last parts of the address."""
    mirror = os.environ.get(MIRROR)
    return "/".join([mirror.rstrip("/"), *url.split("/")[-parts:]]) if mirror else url


def _advice(model: CatalogueModel, remote: RemoteFile) -> str:
    copies = f", or take its copy on the hub, {model.copies[0]}" if model.copies else ""
    return (
        f"On a machine with a network run: curl -LO {model.url}\nCopy {remote.label} into {remote.path.parent} here, "
        f"or give its path instead of the name. {MIRROR} names a mirror{copies}"
    )


def _fetch_vocabulary(folder: Path) -> None:
    """Fetch OpenAI's vocabulary, if it is not on this machine. Without it images can still be encoded."""
    try:
        find_openai_vocabulary(folder)
        return
    except DataError:
        if is_offline():
            return
    remote = RemoteFile(url=_mirrored(VOCABULARY_URL, 1), path=folder / FILE, label=FILE, sha256=VOCABULARY_SHA256)
    try:
        download(remote)
    except WeightsError as error:
        logger.warning("OpenAI's vocabulary cannot be fetched: %s", error)
