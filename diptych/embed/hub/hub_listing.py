"""Ask the Hugging Face hub, or a server that answers like it, for a repository's commit, files and licence."""

import dataclasses
import os
import re
from typing import Any

from diptych.embed.catalogue import nearest
from diptych.embed.hub.cache_record import COMMIT
from diptych.embed.hub.resumable_download import StatusError, UnreachableError
from diptych.errors import ConfigError, WeightsError

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class ListedFile:
    """A file as the hub states it: SHA-256 for large files, the hash of git's blob for small ones."""

    name: str
    size: int
    sha256: str | None
    git_sha1: str | None

    @property
    def hash(self) -> str:
        """The hash, which is also the file's name in the cache."""
        return self.sha256 or str(self.git_sha1)


@dataclasses.dataclass(frozen=True)
class Listing:
    """A repository at one commit.

    Attributes:
        license: the identifier that its model card states; None without one.
    """

    commit: str
    files: dict[str, ListedFile]
    license: str | None


def endpoint() -> str:
    """The address of the hub or of the mirror in HF_ENDPOINT."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def headers() -> dict[str, str]:
    """The login of `hf auth login` or HF_TOKEN, as a header."""
    token = hub_library().get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def ask(repository: str, revision: str | None) -> Listing:
    """The repository at a revision, by default the newest commit of its main branch.

    Raises:
        WeightsError: there is no such repository or revision, it is gated, or the answer makes no sense.
        UnreachableError: the hub does not answer.
        ConfigError: huggingface_hub is not installed.
    """
    hub = hub_library()
    try:
        info = hub.HfApi(endpoint=endpoint()).model_info(repository, revision=revision, files_metadata=True, timeout=30)
    except Exception as error:  # the exception's type depends on the library's version and its HTTP client
        raise _explained(error, repository, revision) from error
    if not isinstance(info.sha, str) or not COMMIT.fullmatch(info.sha):
        raise WeightsError(f"{endpoint()} states no commit for {repository}; is it a Hugging Face hub?")
    files = {entry.rfilename: _listed(entry) for entry in info.siblings or ()}
    license = next((tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")), None)
    if license == "other" and info.card_data is not None:
        license = info.card_data.get("license_name") or license
    return Listing(info.sha, files, license)


def login_message(repository: str) -> str:
    """What to do about a repository that may be read only after a login."""
    return (
        f"{repository} is gated or private: accept its terms on {endpoint()}/{repository}, then log in with `hf auth "
        "login` (or set HF_TOKEN), and repeat the command"
    )


def _listed(entry: Any) -> ListedFile:
    """A file of the answer; a hash of the wrong form counts as none."""
    lfs = entry.lfs  # for such a file the hash of git's blob is that of a pointer
    sha256 = getattr(lfs, "sha256", None) or (lfs.get("sha256") if isinstance(lfs, dict) else None)
    size = entry.size if isinstance(entry.size, int) and entry.size >= 0 else -1
    git = entry.blob_id if isinstance(entry.blob_id, str) and COMMIT.fullmatch(entry.blob_id) else None
    sha256 = sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None
    return ListedFile(entry.rfilename, size, sha256, git if lfs is None else None)


def hub_library() -> Any:
    """The module huggingface_hub; ConfigError if it is not installed."""
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError("fetching from the hub needs huggingface_hub: pip install 'diptych[hub]'") from None
    return huggingface_hub


def _explained(error: Exception, repository: str, revision: str | None) -> WeightsError:
    from huggingface_hub import errors

    where = endpoint()
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return StatusError(login_message(repository), status or 403)
    if isinstance(error, errors.RevisionNotFoundError):
        return StatusError(f"{repository} has no revision {revision}; the part after @ is a branch, tag or commit", 404)
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        near = [name for name in nearest(repository) if name != repository]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        login = " If it is private or gated, log in first: `hf auth login`, or set HF_TOKEN"
        return StatusError(
            f"{where} has no model {repository} that you may read ({status}){hint}.{login}", status or 404
        )
    if isinstance(error, errors.HFValidationError):
        return WeightsError(f"{repository!r} is no name of a repository on the hub: {_first_line(error)}")
    return UnreachableError(f"{where} does not answer for {repository}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(". ")
