"""Texts as classifiers."""
