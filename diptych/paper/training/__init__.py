"""Figures and tables of the paper that train models: 2, 9 and 12."""
