"""traceTorch: train spiking neural networks online, in constant memory.

import torch, tracetorch as tt, torch.nn.functional as F

net = tt.nn.Sequential(tt.nn.LIF(784, 256), tt.nn.LIS(256, 10))
y = net(x)                                          # one step; no history
loss = F.nll_loss(torch.log(y), target)             # whenever a label comes; any loss of torch
loss.backward()                                     # the local gradient of every layer; adds to .grad

The submodules load when they are first used, so that the command line can show its help without loading torch.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
