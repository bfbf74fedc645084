"""Diptych: train, measure and use CLIP models."""
