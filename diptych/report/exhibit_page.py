"""Tables and figures of the paper as one page, and each exhibit as files in several display."""

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from diptych.errors import ConfigError
from diptych.files import writing
from diptych.report.bars import BarChart, bar_drawing
from diptych.report.curves import SMALL, Chart, chart_drawing
from diptych.report.display import data_uri, percent, readable
from diptych.report.example_images import Example, ImagePair
from diptych.report.page import render_template, write_page
from diptych.report.shown import Shown
from diptych.report.svg import STYLE, Drawing, element, svg_file
from diptych.report.table import Cell, to_html, to_latex, to_markdown

FORMS = ("html", "md", "tex", "svg", "json")
_NOTE_LENGTH = 800  # longest note, in characters
_MOST_LARGE_CHARTS = 6  # more charts than this are drawn small, in a grid


def render_exhibits(
    shown: Sequence[tuple[str, Shown]],
    facts: Mapping[str, str],
    title: str = "The paper's evaluation",
    beside: tuple[str, str] | None = None,
) -> str:
    """A page as HTML text: a list of contents, and for each exhibit a section with its charts, tables and notes.

    Args:
        shown: name and contents of each exhibit; names such as "table11" become anchors and labels.
        facts: command, commit, machine, ... for the end of the page.
        title: title of the page.
        beside: file name and link text of another page in the same folder.
    """
    return render_template(
        "exhibits.html.j2",
        title=readable(title, 240),
        exhibits=[_view(name, contents) for name, contents in shown],
        beside=None if beside is None else (quote(beside[0]), readable(beside[1], 240)),
        facts={readable(name): readable(value, 1500) for name, value in facts.items()},
        chart_style=STYLE,
        heat_levels=10,
    )


def write_exhibits(
    shown: Sequence[tuple[str, Shown]],
    path: str | Path,
    facts: Mapping[str, str],
    title: str = "The paper's evaluation",
    beside: tuple[str, str] | None = None,
) -> Path:
    """Write the page of `render_exhibits` atomically. A missing folder is created."""
    return write_page(render_exhibits(shown, facts, title, beside), path)


def write_exhibit(
    name: str,
    shown: Shown,
    folder: str | Path,
    forms: Sequence[str] = FORMS,
    facts: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write folder/name.html, .md, .tex, .svg and .json, each atomically.

    Args:
        forms: some of FORMS. Without charts "svg" is not written, without tables "tex" is not written; files of these
            names from an earlier run are deleted.
        facts: command, commit, machine, ..., for the page and the JSON file.
    Returns:
        paths of the written files, in the order of `forms`.
    Raises:
        ConfigError: unknown form.
    """
    if unknown := [form for form in forms if form not in FORMS]:
        raise ConfigError(f"there is no form {', '.join(unknown)}; there are {', '.join(FORMS)}")
    facts, written = facts or {}, []
    for form in forms:
        if (form == "svg" and not shown.charts) or (form == "tex" and not shown.tables):
            remove([Path(folder) / f"{name}.{form}"])
            continue
        if form == "html":
            text = render_exhibits([(name, shown)], facts, shown.title)
        elif form == "md":
            text = exhibit_markdown(name, shown, picture="svg" in forms)
        elif form == "tex":
            text = exhibit_latex(shown)
        elif form == "svg":
            text = exhibit_svg(shown)
        else:
            text = (
                json.dumps(_plain({**_fields(shown), "name": name, "facts": facts}), indent=1, allow_nan=False) + "\n"
            )
        written.append(write_page(text, Path(folder) / f"{name}.{form}"))
    return written


def exhibit_latex(shown: Shown) -> str:
    """All tables of an exhibit as LaTeX, with its notes under the last table."""
    *others, last = shown.tables
    last = dataclasses.replace(last, notes=[*last.notes, *shown.notes])
    return "\n".join(map(to_latex, [*others, last]))


def remove(paths: Iterable[Path]) -> None:
    """Delete pages and images of an earlier run that have no contents any more, if they exist."""
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)


def exhibit_svg(shown: Shown) -> str:
    """All charts of an exhibit as the text of one SVG file, with its notes below."""
    many = len(shown.charts) > _MOST_LARGE_CHARTS
    columns = math.ceil(math.sqrt(len(shown.charts))) if many else min(2, len(shown.charts))
    notes = [readable(note, _NOTE_LENGTH) for note in shown.notes]
    return svg_file([_drawing(chart, many) for chart in shown.charts], columns, notes)


def exhibit_markdown(name: str, shown: Shown, *, picture: bool = False) -> str:
    """An exhibit as Markdown; with `picture` it embeds name.svg from the same folder."""
    parts = [f"## {exhibit_label(name)}: {readable(shown.title, 240)}", readable(shown.summary, 1500)]
    parts += [f"![{readable(shown.charts[0].title)}]({name}.svg)"] if picture and shown.charts else []
    parts += [to_markdown(table).rstrip("\n") for table in shown.tables]
    parts += [readable(note, _NOTE_LENGTH) for note in shown.notes]
    return "\n\n".join(part for part in parts if part) + "\n"


def exhibit_label(name: str) -> str:
    """ "table11" as "Table 11", "figure9-paper" as "Figure 9, paper"."""
    match = re.fullmatch(r"(table|figure)-?(\d+)[-_]?(.*)", name)
    if not match:
        return readable(name[:1].upper() + name[1:], 60)
    kind, number, rest = match.groups()
    return f"{kind.capitalize()} {number}" + (f", {readable(rest, 40)}" if rest else "")


def _view(name: str, shown: Shown) -> dict[str, Any]:
    """The values that the template needs for one exhibit."""
    many = len(shown.charts) > _MOST_LARGE_CHARTS
    return {
        "anchor": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "exhibit",
        "label": exhibit_label(name),
        "title": readable(shown.title, 240),
        "summary": readable(shown.summary, 1500),
        "many": many,
        "charts": [(chart.title, element(_drawing(chart, many))) for chart in shown.charts],
        "tables": [to_html(table) for table in shown.tables],
        "examples": [_example(example) for example in shown.examples],
        "pairs": [_pair(pair) for pair in shown.pairs],
        "notes": [readable(note, _NOTE_LENGTH) for note in shown.notes],
    }


def _pair(pair: ImagePair) -> dict[str, Any]:
    images = [None if image is None else data_uri(image) for image in (pair.left, pair.right)]
    return {"words": readable(pair.words, 240), "images": images}


def _drawing(chart: Chart | BarChart, small: bool) -> Drawing:
    if isinstance(chart, BarChart):
        return bar_drawing(chart)
    return chart_drawing(chart, SMALL) if small else chart_drawing(chart)


def _example(example: Example) -> dict[str, Any]:
    return {
        "heading": readable(example.dataset),
        "words": readable(example.in_words(), 200),
        "picture": data_uri(example.picture) if example.picture is not None else None,
        "answers": [
            (readable(name), percent(probability), place == example.right)
            for place, (name, probability) in enumerate(example.answers)
        ],
    }


def _fields(shown: Shown) -> dict[str, Any]:
    fields = {field.name: getattr(shown, field.name) for field in dataclasses.fields(shown)}
    return {name: value for name, value in fields.items() if value}


def _plain(value: Any) -> Any:
    """A value as JSON data. Fields that are empty or None are omitted; images and non-finite numbers become None."""
    if isinstance(value, Cell):
        return {
            name: field_value
            for name, field_value in dataclasses.asdict(value).items()
            if field_value is not None and field_value is not False
        }
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {name: field_value for name, field_value in fields.items() if field_value not in (None, [])}
    if isinstance(value, Mapping):
        return {str(name): _plain(field_value) for name, field_value in value.items()}
    if isinstance(value, np.ndarray):
        return None
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
