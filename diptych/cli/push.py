"""diptych push: upload a model to the Hugging Face hub."""

from typing import Annotated

import typer

from diptych.cli import parse
from diptych.cli.common import app, examples
from diptych.cli.options import Activation, Heads, Option


@app.command(
    epilog=examples(
        "diptych push runs/quickstart/model me/my-clip --license mit",
        "diptych push runs/quickstart/model me/my-clip --private --message 'Ten epochs'",
    )
)
def push(
    model: Annotated[str, typer.Argument(parser=parse.model, help="A native model: a folder, a weight file, default.")],
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the hub; created if it is missing.")],
    license: Annotated[str | None, Option(help="Licence for the model card, such as mit or apache-2.0.")] = None,
    base_model: Annotated[str | None, Option(help="Repository of the model that it was made from.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    message: Annotated[str, Option(help="Message of the commit.")] = "",
    activation: Activation = None,
    heads: Heads = None,
) -> None:
    """Upload a model with its configuration, tokenizer and model card to the Hugging Face hub.

    Everybody loads it by its name: diptych classify photo.jpg --model hf-hub:OWNER/NAME --labels cat,dog.

    Log in first (hf auth login), or set HF_TOKEN. HF_ENDPOINT names another hub.
    """
    from diptych.embed.push_model import push_model

    address = push_model(model, repository, license=license, base_model=base_model, private=private, message=message)
    print(f"{address}\nload it as hf-hub:{repository}")
