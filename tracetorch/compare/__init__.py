"""Comparison of runs: groups that differ only in the seed, differences between groups, and their uncertainty.

`comparison.compare` reads and measures; `output.write_comparison` writes tables, a figure and a page. Only drawing
loads matplotlib and torch.
"""
