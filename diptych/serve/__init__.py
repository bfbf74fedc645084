"""Local pages that a person works on: the review of pairs of images."""

from diptych.serve.review_server import ReviewServer, serve_review

__all__ = ["ReviewServer", "serve_review"]
