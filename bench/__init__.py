"""Measurements: each figure beside a reference, alternated in one run, printed as ratios."""
