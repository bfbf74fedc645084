"""Tensors and configuration: the towers, the whole model, presets, weight files."""
