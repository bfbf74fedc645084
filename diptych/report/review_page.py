"""The page on which a person reviews pairs of images. Unlike a report it has a script, and a server behind it."""

from diptych.errors import InputError
from diptych.report.page import render_template


def render_review(nonce: str) -> str:
    """The review page as HTML text, in one file; it asks the server that sent it for pairs and images.

    Args:
        nonce: a random text for this one answer, in letters, digits, "-" and "_": only the script that has it runs.
    """
    if not nonce or not nonce.replace("-", "").replace("_", "").isalnum():
        raise InputError(f"{nonce!r} is no nonce")
    return render_template("review.html.j2", nonce=nonce, heat_levels=-1)  # it has no heat map


def content_policy(nonce: str) -> str:
    """The Content-Security-Policy of this page: its own script, and nothing from another address."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
