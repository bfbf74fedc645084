"""diptych models: the catalogue of published models, and which of them to take for what."""

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli import parse
from diptych.cli.common import announce, app, examples, show
from diptych.cli.options import Offline, Option
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.embed.catalogue import CatalogueModel, Reference


@app.command(
    epilog=examples(
        "diptych models",
        "diptych models --fits 2GB --license permissive",
        "diptych models ViT-B-32/laion2b_s34b_b79k",
        "diptych models --languages many --json",
        "diptych models ViT-B/32 --fetch",
    )
)
def models(
    name: Annotated[str | None, typer.Argument(parser=parse.model, help="Show one model in full.")] = None,
    fits: Annotated[str | None, Option(help="Only models whose weights take at most this in fp32: 2GB, 800MB.")] = None,
    license: Annotated[str, Option(help="permissive (any use), or any.")] = "any",
    languages: Annotated[str | None, Option(help="many, or English.")] = None,
    family: Annotated[str | None, Option(help="Only families with this in their name, such as SigLIP.")] = None,
    json_lines: Annotated[bool, Option("--json", help="Print one JSON object per model, for other programs.")] = False,
    fetch: Annotated[bool, Option("--fetch", help="Fetch the model NAME, and print where it is.")] = False,
    offline: Offline = False,
) -> None:
    """List the published models that every command takes by name, and which to take for what.

    A model is fetched when it is first used, verified, and kept in the caches of the Hugging Face hub and of OpenAI's
    package. Accuracies are published ones; GFLOPs are for one image and one text.
    """
    from diptych.embed.catalogue import MODELS, advise, choose, parse_size

    if name is not None:
        if fits or languages or family or license != "any":
            raise InputError(f"--fits, --license, --languages and --family narrow the list; they do not go with {name}")
        _show_one(name, json_lines, fetch)
        return
    if fetch:
        raise InputError("--fetch needs the name of a model: diptych models NAME --fetch")
    rows = choose(fits=None if fits is None else parse_size(fits), license=license, languages=languages, family=family)
    if json_lines:
        for row in rows:
            print(json.dumps(_values(row)))
        return
    if not rows:
        raise InputError(f"none of the {len(MODELS)} models meets all conditions")
    show(_table(rows))
    advice = advise(rows)
    if advice:
        print("what to take, by published ImageNet accuracy:")
    for entry in advice:
        print(f"  {entry.purpose} ({entry.rule})\n    {_short(entry.model)}")
        if entry.restricted:
            print(f"    more accurate: {_short(entry.restricted)}")
    announce(f"{len(rows)} of {len(MODELS)} models; diptych models NAME shows one in full")


def _show_one(name: str, as_json: bool, fetch: bool) -> None:
    from diptych.embed.catalogue import find, nearest

    reference = find(name)
    if reference is None:
        near = nearest(name)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; diptych models lists all"
        raise InputError(f"there is no published model {name!r} in the catalogue{hint}")
    if fetch:
        from diptych.embed.hub import fetch as fetch_model

        print(fetch_model(reference).path)
        return
    if reference.model is None:
        raise InputError(
            f"{name} is a repository of the hub that the catalogue does not describe; it can be used by this name, and "
            "--fetch fetches it"
        )
    if as_json:
        print(json.dumps(_values(reference.model)))
        return
    for key, value in _described(reference):
        print(f"{key:<15}{value}")


def _described(reference: "Reference") -> list[tuple[str, str]]:
    """Everything about one model, as names and texts."""
    row = reference.model
    assert row is not None
    notes = {"research": ": for research only", "custom": ": the publisher's own text, to be read", "permissive": ""}
    unknown = "not published"
    lines = [
        ("name", row.name),
        ("other names", ", ".join([*row.aliases, *row.copies])),
        ("family", row.family.name),
        ("source", row.url or f"https://huggingface.co/{reference.repository or row.repository}"),
        ("revision", row.revision or ("fixed by its SHA-256" if row.url else "pinned when it is first fetched")),
        ("files", ", ".join(row.files) or "one weight file (safetensors preferred), configuration, tokenizer"),
        ("SHA-256", row.sha256 or "stated by the hub, and verified"),
        ("licence", row.license.name + notes[row.license.terms]),
        ("languages", row.family.languages),
        ("computed by", {"native": "Diptych's own towers"}.get(row.runs, f"{row.runs}, through an adapter")),
        ("image size", f"{row.architecture.image_size} pixels"),
        ("parameters", f"{row.architecture.parameters:,} ({row.num_bytes / 1e9:.2f} GB in fp32)"),
        ("GFLOPs", f"{row.architecture.image_gflops:g} an image, {row.architecture.text_gflops:g} a text"),
        ("ImageNet", f"{row.imagenet:.2%} zero-shot, published" if row.imagenet else unknown),
        ("38 sets", f"{row.average_38:.2%} on average, published" if row.average_38 else unknown),
        ("accuracies of", row.family.source if row.imagenet else ""),
        ("images/s", f"{row.images_per_second:.0f}" if row.images_per_second else "not measured yet"),
        ("use", f"diptych classify photo.jpg --model {shlex.quote(row.name)} --labels cat,dog"),
    ]
    return [(key, value) for key, value in lines if value]


def _table(rows: "Sequence[CatalogueModel]") -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("name", overflow="fold")
    table.add_column("licence", no_wrap=True)
    table.add_column("texts", no_wrap=True)
    for heading in ("GB", "GFLOPs", "px", "ImageNet", "38 sets"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("code", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            _license(row),
            "many" if row.multilingual else "en",
            f"{row.num_bytes / 1e9:.2f}",
            f"{row.gflops:.0f}",
            str(row.architecture.image_size),
            "" if row.imagenet is None else f"{100 * row.imagenet:.1f}",
            "" if row.average_38 is None else f"{100 * row.average_38:.1f}",
            row.runs,
        )
    return table


def _license(row: "CatalogueModel") -> str:
    return {"research": "research", "custom": "own text"}.get(row.license.terms, row.license.name)


def _short(row: "CatalogueModel") -> str:
    return f"{row.name} ({100 * (row.imagenet or 0):.1f} %, {row.num_bytes / 1e9:.2f} GB, {_license(row)})"


def _values(row: "CatalogueModel") -> dict[str, Any]:
    """A row for other programs."""
    return {
        "name": row.name,
        "aliases": [*row.aliases, *row.copies],
        "family": row.family.name,
        "source": row.source,
        "sha256": row.sha256,
        "revision": row.revision,
        "files": row.files,
        "license": row.license.name,
        "terms": row.license.terms,
        "languages": row.family.languages,
        "runs": row.runs,
        "image_size": row.architecture.image_size,
        "parameters": row.architecture.parameters,
        "bytes_fp32": row.num_bytes,
        "image_gflops": row.architecture.image_gflops,
        "text_gflops": row.architecture.text_gflops,
        "imagenet": row.imagenet,
        "average_38": row.average_38,
        "accuracy_source": row.family.source,
        "images_per_second": row.images_per_second,
    }
