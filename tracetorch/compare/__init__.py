"""Comparing runs: which belong together, what sets them apart, and how much that matters beside chance.

`comparison.compare` reads and reckons; `output.write` leaves tables, a figure and a page. The figures, and torch with
them, load with `output` alone.
"""
