from . import constrain as constrain
from . import diagnostics as diagnostics
from . import encode as encode
from . import functional as functional
from . import interop as interop
from . import loss as loss
from . import nn as nn
from . import plot as plot
from . import rules as rules
from . import runs as runs
from . import tasks as tasks
from . import training as training

__version__: str
