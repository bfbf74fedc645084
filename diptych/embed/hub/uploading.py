"""Upload a model folder to a repository of the Hugging Face hub."""

import logging
from pathlib import Path

from diptych.embed.hub.hub_listing import endpoint, hub_library
from diptych.embed.hub.offline import is_offline
from diptych.errors import InputError, WeightsError

logger = logging.getLogger(__name__)


def upload_folder(folder: Path, repository: str, *, private: bool = False, message: str = "") -> str:
    """Upload the files of a folder as one commit; the repository is created if it is missing.

    Files that the repository has already are not sent again. Other files of the repository stay.

    Args:
        repository: OWNER/NAME.
        private: of a new repository.
        message: of the commit.
    Returns:
        The address of the commit.
    Raises:
        InputError: the name is no OWNER/NAME, or the network is off.
        WeightsError: the login is missing or lacks the right, or the upload failed.
        ConfigError: huggingface_hub is not installed.
    """
    check_upload(repository)
    hub = hub_library()
    api = hub.HfApi(endpoint=endpoint(), library_name="diptych")
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=str(folder), commit_message=message or "Upload a model"
        )
    except Exception as error:  # the exception's type depends on the library's version and its HTTP client
        raise _explained(error, repository) from error
    return str(commit.commit_url)


def check_upload(repository: str) -> None:
    """Check what can be checked before a model is loaded.

    Raises:
        InputError: the name is no OWNER/NAME, or the network is off.
        ConfigError: huggingface_hub is not installed.
    """
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise InputError(f"a repository of the hub is named OWNER/NAME, not {repository!r}")
    if is_offline():
        raise InputError(
            "the network is off (--offline, DIPTYCH_OFFLINE or HF_HUB_OFFLINE), so nothing can be uploaded"
        )
    hub_library()


def _explained(error: Exception, repository: str) -> WeightsError:
    """What went wrong and what to do, from an exception of huggingface_hub or of its HTTP client."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    first = str(error).strip().split("\n")[0][:300]
    if status == 401 or "token" in type(error).__name__.lower():
        advice = "log in with `hf auth login`, or set HF_TOKEN, with a token that may write"
    elif status == 403:
        advice = f"the token may not write to {repository}: take one with write access, or another OWNER"
    else:
        advice = "run the same command again: what was uploaded is not sent twice"
    return WeightsError(f"{repository} cannot be uploaded to {endpoint()}: {first or type(error).__name__}. {advice}")


def describe_license(card: Path, license: str | None, base_model: str | None) -> None:
    """Add the licence and the origin to the header of a model card, which the hub shows and filters by."""
    lines = card.read_text(encoding="utf-8").split("\n")
    added = [f"{name}: {value}" for name, value in (("license", license), ("base_model", base_model)) if value]
    if lines[0] != "---":
        lines = ["---", "---", *lines]
    card.write_text("\n".join([lines[0], *added, *lines[1:]]), encoding="utf-8")
