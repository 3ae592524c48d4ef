from . import constrain as constrain
from . import data as data
from . import diagnostics as diagnostics
from . import encode as encode
from . import functional as functional
from . import interop as interop
from . import loggers as loggers
from . import loss as loss
from . import nn as nn
from . import plot as plot
from . import rules as rules
from . import runs as runs
from . import tasks as tasks
from . import training as training
from .cli.notebook import load as load
from .cli.notebook import run as run

__version__: str
