"""`tracetorch info`: what this installation can do."""

from __future__ import annotations

from tracetorch.cli.arguments import Traceback


def command(traceback: Traceback = False) -> None:
    """Show versions, devices, kernels and caches."""
    import pooch
    import torch

    from tracetorch import kernels
    from tracetorch.cli.adapter import conf_dir
    from tracetorch.runs import environment

    facts = dict(environment.versions())
    git = environment.git_revision()
    if git:
        facts["revision"] = git["revision"] + (" with changes" if git["dirty"] else "")
    gpus = [environment.device_name(torch.device("cuda", at)) for at in range(torch.cuda.device_count())]
    facts["devices"] = ", ".join(["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])])
    facts["threads"] = str(torch.get_num_threads())
    facts["kernels"] = ", ".join(f"{kernel} on {device}" for device, kernel in kernels.names().items())
    facts["configs"] = str(conf_dir())
    facts["data cache"] = str(pooch.os_cache("tracetorch"))
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
