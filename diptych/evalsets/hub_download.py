"""Fetching an evaluation set from the Hugging Face hub, or any server that answers as it does."""

import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from diptych.errors import ConfigError, DataError
from diptych.files import expanded

WANTED = ("*.parquet", "*.tar", "*.tar.gz", "*.tgz", "*.txt", "*.json")  # no scripts, no pickles
_PICTURES = WANTED[:4]


def fetch(repo_id: str, folder: str | Path, *, endpoint: str | None = None, revision: str | None = None) -> Path:
    """Fetch a set's parquet files or tar shards, with its lists; files that are there and unchanged are kept.

    A file appears under its name only when it is whole, so a fetch that was broken off goes on where it stopped, file
    by file, when it is called again.

    Args:
        repo_id: "owner/name", such as a card's `hub`.
        folder: the set's folder, which is made.
        endpoint: the server; by default the hub, or what HF_ENDPOINT names.
        revision: a branch, tag or commit; by default main.
    Returns:
        The folder.
    Raises:
        DataError: there is no such set or revision, it holds no such files, the server cannot be reached, or the
            connection broke off.
        ConfigError: huggingface_hub is not installed.
    """
    hub = _hub()
    folder = expanded(folder)
    where = endpoint or "the Hugging Face hub"
    try:
        info = hub.HfApi(endpoint=endpoint).dataset_info(repo_id, revision=revision)
    except Exception as error:  # the library raises those of several HTTP clients, by its version
        raise DataError(_in_words(error, repo_id, revision, where)) from error
    names = [entry.rfilename for entry in info.siblings or ()]
    wanted = _wanted(names, repo_id)
    try:
        hub.snapshot_download(
            repo_id,
            repo_type="dataset",
            revision=info.sha,
            local_dir=folder,
            allow_patterns=list(WANTED),
            endpoint=endpoint,
        )
    except Exception as error:
        raise DataError(
            f"{repo_id} could not be fetched whole from {where}: {_first_line(error)}. What arrived is kept in "
            f"{folder}; call it again to go on"
        ) from error
    if lost := [name for name in wanted if not (folder / name).is_file()]:
        raise DataError(f"{repo_id} is not whole: {len(lost)} of {len(wanted)} files did not arrive, such as {lost[0]}")
    return folder


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError("fetching from the hub needs huggingface_hub: pip install 'diptych[hub]'") from None
    return huggingface_hub


def _wanted(names: list[str], repo_id: str) -> list[str]:
    """The files to fetch; their names come from a stranger, and become paths."""
    wanted = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in WANTED)]
    for name in wanted:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
            raise DataError(f"{repo_id} names a file {name!r}, which would leave its folder: nothing is fetched")
    if not any(fnmatch.fnmatch(name, pattern) for name in wanted for pattern in _PICTURES):
        raise DataError(
            f"{repo_id} has neither parquet files nor tar shards, the two forms that are read (it has "
            f"{', '.join(names[:5]) or 'nothing'}{', ...' if len(names) > 5 else ''})"
        )
    return wanted


def _in_words(error: Exception, repo_id: str, revision: str | None, where: str) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{repo_id} asks for its terms to be accepted on its page first, and for a login (hf auth login)"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo_id} has no revision {revision}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{where} has no data set {repo_id}, or it is private (then log in: hf auth login)"
    if isinstance(error, errors.HFValidationError):
        return f"{repo_id!r} is no name of a data set on the hub, which is owner/name"
    return (
        f"{where} cannot be asked for {repo_id}: {_first_line(error)}; check the network, or name a mirror (--endpoint)"
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(". ")
