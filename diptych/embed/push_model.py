"""Save a model with its card, and upload it to the Hugging Face hub."""

import tempfile
from pathlib import Path

from diptych.embed.hub.uploading import check_upload, describe_license, upload_folder
from diptych.embed.model import Model
from diptych.embed.model_folder import CARD
from diptych.embed.resolver import load_model


def push_model(
    model: Model | str | Path,
    repository: str,
    *,
    license: str | None = None,
    base_model: str | None = None,
    private: bool = False,
    message: str = "",
) -> str:
    """Upload a native model in Diptych's layout: config.json, model.safetensors, tokenizer.json, README.md.

    Args:
        model: a loaded Model, or a name of one.
        repository: OWNER/NAME on the hub; created if it is missing.
        license, base_model: for the model card; None states none.
        private: of a new repository.
        message: of the commit.
    Returns:
        The address of the commit.
    Raises:
        InputError: the repository's name is invalid, or the network is off.
        WeightsError: there is no such model, another library computes it, or it cannot be uploaded.
        ConfigError: huggingface_hub is not installed.
    """
    check_upload(repository)
    model = model if isinstance(model, Model) else load_model(model, "cpu")
    with tempfile.TemporaryDirectory(prefix="diptych-") as parent:
        folder = Path(parent) / repository.rpartition("/")[2]
        model.save(folder)
        describe_license(folder / CARD, license, base_model)
        return upload_folder(folder, repository, private=private, message=message)
