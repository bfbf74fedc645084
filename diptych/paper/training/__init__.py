"""Figures 2 and 9 and table 12 of the paper, which train models."""
