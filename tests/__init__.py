"""Tests. The table that enrols a newcomer in all generic ones is `common.py`."""
