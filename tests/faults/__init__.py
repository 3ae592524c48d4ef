"""Drivers that kill, starve and mislead the command line: see docs/robustness.md."""
