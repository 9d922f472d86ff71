"""Which linear layers 8-bit floats would speed up: a roofline of the product and of casting its operands.

Small matrices lose more to the casts than they gain. torchao's published figures on an H100, forward and backward
compiled, are 0.80x at 1024 x 2048 x 1024 and 1.39x at 4096 x 8192 x 16384 (rows x inner x columns); the constants below
give 0.76x and 1.42x there. Shapes between are interpolated by the roofline, not measured.
"""

from __future__ import annotations

from maquette.accelerators import Accelerator, accelerator

BF16_ATTAINED, FP8_ATTAINED, BANDWIDTH_ATTAINED = 0.65, 0.55, 0.75
"""Of the table's rates, what products and casts reach."""
CAST_BYTES = 3
"""A number is read once (2 bytes) and written once (1): the search for row maxima fuses with what made it."""
LAUNCH_SECONDS, CAST_SECONDS = 4e-6, 2e-6
"""A product's start, and what a cast adds to it."""
MULTIPLE = 16
"""What ``torch._scaled_mm`` wants inner and column sizes to be multiples of."""


def fp8_speedup(rows: int, inner: int, columns: int, device: Accelerator | None = None) -> float:
    """How much faster one training step of a linear layer is in fp8 than in bf16, all three products together.

    Args:
        rows, inner, columns: the forward product is [rows, inner] x [inner, columns].
        device: whose rates to take; an H100 by default.

    Returns:
        Time in bf16 over time in fp8; 0 where fp8 cannot run: no such rate, or sizes that are no multiple of 16.
    """
    device = device or accelerator("h100")
    if not device.fp8 or inner % MULTIPLE or columns % MULTIPLE:
        return 0.0
    slow = fast = 0.0
    # Forward, gradient of the input, gradient of the weight: the same three sizes in other roles.
    for m, k, n in ((rows, inner, columns), (rows, columns, inner), (columns, rows, inner)):
        operations = 2 * m * k * n
        slow += _seconds(operations / (BF16_ATTAINED * device.bf16), 2 * (m * k + k * n + m * n), device)
        fast += _seconds(operations / (FP8_ATTAINED * device.fp8), m * k + k * n + 2 * m * n, device)
        fast += CAST_BYTES * (m * k + k * n) / (BANDWIDTH_ATTAINED * device.bandwidth) + CAST_SECONDS
    return slow / fast


def _seconds(computing: float, moved: int, device: Accelerator) -> float:
    return max(computing, moved / device.bandwidth) + LAUNCH_SECONDS
