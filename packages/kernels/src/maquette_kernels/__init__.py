"""Operations of maquette: for each a reference, a fast CPU path and a Triton kernel behind one differentiable
call.

``maquette_kernels.ops`` holds the functions to call, ``maquette_kernels.operation`` what an operation is made
of, and ``maquette_kernels.testing`` the properties that every operation, a stranger's included, is held to.
Importing this package alone does not import torch.
"""

from __future__ import annotations

__version__ = "0.1.0"
