"""The report page as one self-contained HTML file."""

import functools
from pathlib import Path
from typing import Any

import jinja2

from diptych.files import expanded, new_file, writing
from diptych.report.contents import RunReport
from diptych.report.views import page_view


def render_template(name: str, **values: Any) -> str:
    """A page as HTML text. Every value is escaped; templates use no script and load nothing from the network."""
    return _environment().get_template(name).render(**values)


@functools.cache  # it keeps the compiled templates: a report has a page for each exhibit
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_report(report: RunReport) -> str:
    """The page of a training run as HTML text."""
    return render_template("run.html.j2", **page_view(report))


def write_report(report: RunReport, path: str | Path) -> Path:
    """Write the page of a training run to a file atomically. A missing folder is created."""
    return write_page(render_report(report), path)


def write_page(text: str, path: str | Path) -> Path:
    """Write a text to a file atomically. A missing folder is created."""
    path = expanded(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as unfinished:
            # File names may contain lone surrogates, which UTF-8 cannot encode.
            unfinished.write_bytes(text.encode("utf-8", "replace"))
    return path
