"""Comparing runs: groups that differ only by chance, their differences, and the uncertainty of these.

`comparison.compare` reads and reckons; `output.write` leaves tables, a figure and a page. The figures, and torch with
them, load with `output` alone.
"""
