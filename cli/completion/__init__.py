"""Completions for shells: the scripts that they load, and the answers to what these ask."""
