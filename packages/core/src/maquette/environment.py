"""What a run should say of where it ran: versions, plugins, machine, seeds, command line."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

from maquette import plugins
from maquette.secrets import scrubbed_words

PACKAGES = ("torch", "lightning", "triton", "pluggy", "omegaconf", "trimesh", "einops", "numpy", "scipy", "safetensors")


def describe_environment(seed: int) -> dict[str, Any]:
    """Plain data for ``environment.json``."""
    return {
        "seed": seed,
        "command": [os.path.basename(sys.argv[0]), *scrubbed_words(sys.argv[1:])],
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := installed_version(name))},
        "plugins": {
            s.name: {"source": s.source, "version": s.version, "error": s.error}
            for s in plugins.manager().statuses.values()
        },
        "machine": _machine(),
    }


def installed_version(name: str) -> str | None:
    """Of a package; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()
