"""Write docs/choosing.md, which published model to take for what, from the catalogue.

python docs/make_choosing_page.py
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from diptych.embed.catalogue import MODELS, CatalogueModel, advise

PAGE = Path(__file__).parent / "choosing.md"
_HEAD = """# Which model to take

Made by `python docs/make_choosing_page.py` from the catalogue (`diptych.embed.catalogue`). `diptych models` prints
the same for a part of it:

```sh
diptych models --fits 2GB --license permissive
```

ImageNet is the published zero-shot accuracy on ImageNet's validation set, in percent. "38 sets" is the published mean
over the sets of DataComp's evaluation. GB are the weights in fp32. GFLOPs are for one image and one text of full
length; a multiplication and an addition are two. A model with a higher accuracy on ImageNet is not better on every
set: measure those that you consider on your own images (`diptych evaluate`).

## By purpose

The model with the highest published ImageNet accuracy that meets the rule, under a licence that permits any use. If a
model with restricted use is more accurate, it is listed too.

| purpose | rule | model | ImageNet | GB | GFLOPs | licence |
| --- | --- | --- | --- | --- | --- | --- |
"""
_FAMILIES = """
## By family

`native` models run in Diptych's own towers: in every command, in training and in export. The others run through
open_clip or transformers, which must be installed, and compute in fp32. Accuracies come from the named source.

| family | models | from | to | texts | licence | computed by | accuracies from |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
_TAIL = """
"From" and "to" are the ImageNet accuracies of the least and the most accurate model of the family; some of
CommonPool's and DataComp's models were trained on small data on purpose.

## Licences

`mit` and `apache-2.0` permit any use, also in products. *Research* licences (`cc-by-nc-4.0`, `apple-amlr`) forbid use
in a product. An *own text* is neither: read it in the model's repository. A licence that restricts the use is
announced when such a model is fetched. The hub's statement counts if it is stricter than the catalogue's.
`DIPTYCH_LICENSES=permissive` in the environment refuses all models without a permissive licence.

## Not in the catalogue

SigLIP 2 with NaFlex (images of any shape) is not supported. EVA, ViTamin, NLLB-CLIP and CoCa are not listed;
open_clip runs them: `open_clip:EVA02-L-14@merged2b_s4b_b131k`.
"""


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(_purposes()) + _FAMILIES + "".join(_families()) + _TAIL


def _purposes() -> Iterator[str]:
    for entry in advise():
        yield _row(entry.purpose, entry.rule, entry.model)
        if entry.restricted is not None:
            yield _row("", "more accurate", entry.restricted)


def _row(purpose: str, rule: str, row: CatalogueModel) -> str:
    size = f"{row.num_bytes / 1e9:.2f} | {row.gflops:.0f}"
    return f"| {purpose} | {rule} | `{row.name}` | {100 * (row.imagenet or 0):.1f} | {size} | {_license(row)} |\n"


def _families() -> Iterator[str]:
    for family, group in groupby(MODELS, lambda row: row.family):
        rows = list(group)
        known = sorted(row.imagenet for row in rows if row.imagenet is not None)
        low, high = (f"{100 * known[0]:.1f}", f"{100 * known[-1]:.1f}") if known else ("", "")
        numbers = f"{len(rows)} | {low} | {high}"
        source = family.source if known else ""
        yield (f"| {family.name} | {numbers} | {family.languages} | {_license(rows[0])} | {family.runs} | {source} |\n")


def _license(row: CatalogueModel) -> str:
    note = {"research": " (research)", "custom": " (own text)"}.get(row.license.terms, "")
    return row.license.name + note


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
