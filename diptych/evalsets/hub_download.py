"""Downloads an evaluation set from the Hugging Face hub or a compatible server."""

import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from diptych.errors import ConfigError, DataError
from diptych.files import expanded

WANTED = ("*.parquet", "*.tar", "*.tar.gz", "*.tgz", "*.txt", "*.json")  # no scripts, no pickles
_IMAGE_FILES = WANTED[:4]


def fetch(repo_id: str, folder: str | Path, *, endpoint: str | None = None, revision: str | None = None) -> Path:
    """Download a set's parquet files or tar shards, and its lists. Unchanged files are kept.

    A file gets its name only when it is complete. Call this function again to resume an interrupted download, file by
    file.

    Args:
        repo_id: "owner/name", such as a card's `hub`.
        folder: the set's folder, which is created.
        endpoint: the server; by default the hub, or the value of HF_ENDPOINT.
        revision: a branch, tag or commit; by default main.
    Returns:
        The folder.
    Raises:
        DataError: there is no such set or revision, it holds no such files, the server cannot be reached, or the
            connection was lost.
        ConfigError: huggingface_hub is not installed.
    """
    hub = _hub()
    folder = expanded(folder)
    where = endpoint or "the Hugging Face hub"
    try:
        info = hub.HfApi(endpoint=endpoint).dataset_info(repo_id, revision=revision)
    except Exception as error:  # the exception type depends on the library's version and its HTTP client
        raise DataError(_explain(error, repo_id, revision, where)) from error
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
            f"{folder}; repeat the download to resume"
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
    """The files to download. Their names are untrusted and become paths, so they are checked."""
    wanted = [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in WANTED)]
    for name in wanted:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
            raise DataError(f"{repo_id} names a file {name!r}, which would leave its folder: nothing is fetched")
    if not any(fnmatch.fnmatch(name, pattern) for name in wanted for pattern in _IMAGE_FILES):
        raise DataError(
            f"{repo_id} has neither parquet files nor tar shards, the two supported forms (it has "
            f"{', '.join(names[:5]) or 'nothing'}{', ...' if len(names) > 5 else ''})"
        )
    return wanted


def _explain(error: Exception, repo_id: str, revision: str | None, where: str) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{repo_id} is gated: accept its terms on its page, then log in (hf auth login)"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo_id} has no revision {revision}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{where} has no data set {repo_id}, or it is private (then log in: hf auth login)"
    if isinstance(error, errors.HFValidationError):
        return f"{repo_id!r} is no name of a data set on the hub; such names have the form owner/name"
    problem = _first_line(error)
    return f"{where} did not answer for {repo_id}: {problem}; check the network, or use a mirror (--endpoint)"


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(". ")
