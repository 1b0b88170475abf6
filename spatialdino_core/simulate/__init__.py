"""Analytic lattice light-sheet scenes with ground truth, and the movies a microscope would record of them."""
