"""Readers of a user's files, and what tasks need of the samples: targets, splits and scales.

how = tracetorch.data.Reading(pattern="{label}_{speaker}_{index}.wav")
samples = tracetorch.data.read("recordings.zip", how)
"""

from tracetorch.data.read import Reading, read
from tracetorch.data.samples import Events, Samples

__all__ = ["Events", "Reading", "Samples", "read"]
