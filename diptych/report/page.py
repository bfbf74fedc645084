"""The report page: contents in, one self-contained HTML file out."""

import os
import tempfile
from pathlib import Path
from typing import Any

import jinja2

from diptych.files import expanded, replaceable, writing
from diptych.report.contents import QuickstartReport
from diptych.report.views import page_view


def render_template(name: str, **values: Any) -> str:
    """A page as HTML text: no script, nothing from the network, every text escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**values)


def render_report(report: QuickstartReport) -> str:
    """The quickstart's page as HTML text."""
    return render_template("quickstart.html.j2", **page_view(report))


def write_report(report: QuickstartReport, path: str | Path) -> Path:
    """Write the page to a file, whole or not at all; the folder is made if it is missing."""
    return write_page(render_report(report), path)


def write_page(text: str, path: str | Path) -> Path:
    """Write a text to a file, whole or not at all; the folder is made if it is missing."""
    path = expanded(path)
    with writing(path):
        _write_whole(text, path)
    return path


def _write_whole(text: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path = replaceable(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            # A name of a file may hold half a surrogate pair, which UTF-8 has not.
            file.write(text.encode("utf-8", "replace"))
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
