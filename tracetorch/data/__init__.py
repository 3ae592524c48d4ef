"""A user's data: files of several kinds become samples, which are split, normalized and given to a network.

samples = tracetorch.data.read("recordings.zip", pattern="{label}_{speaker}_{index}.wav")
"""

from tracetorch.data.read import Reading, read
from tracetorch.data.samples import Events, Samples

__all__ = ["Events", "Reading", "Samples", "read"]
