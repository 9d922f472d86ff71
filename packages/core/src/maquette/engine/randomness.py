"""Stateless randomness: the noise of a step is a function of (seed, step, rank), never of history."""

from __future__ import annotations

import hashlib

import torch


def fold(*parts: int | str) -> int:
    """A 63-bit seed from any parts; neighbouring parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Reseed torch's global generators for one micro-step.

    Resuming at a step then needs no saved generator state, and validation in between changes nothing.
    """
    torch.manual_seed(fold("step", seed, step, rank))
