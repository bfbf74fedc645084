"""Figures and tables of the CLIP paper, measured again at a size that fits the machine."""
