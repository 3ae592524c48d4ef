"""Drivers that test the command line with kills, failing or full disks, and damaged files: see docs/robustness.md."""
