"""Orders and draws that depend on their keys alone, never on what was drawn before."""

from __future__ import annotations

from functools import cache

import numpy as np

SHUFFLES = ("full", "window", "none")
_SHARDS_AROUND = 20
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_ALL = (1 << 64) - 1


def epoch_order(shuffle: str, key: tuple[int, int, int], shards: np.ndarray, window: int = 0) -> np.ndarray:
    """The order in which one epoch goes through a split.

    `full` is a permutation. `none` keeps the order of the index. `window` permutes the shards and then moves each
    sample by up to `window` places (in rank: up to twice that), so that a reader of remote shards needs only the
    shards around its position at hand.

    Args:
        shuffle: one of `SHUFFLES`.
        key: seed, epoch, place of the source in the mixture.
        shards: int [n], the shard of each sample of the split.
        window: samples; 0 is 20 shards' worth, with which a batch of 16 touches over 80 % of the shards that it
            touches under `full`.

    Returns:
        int64 [n], places in the split.
    """
    count = len(shards)
    if shuffle == "none":
        return np.arange(count)
    seed, epoch, source = key
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 0, epoch, source))))
    if shuffle == "full":
        return rng.permutation(count)
    found, shard = np.unique(shards, return_inverse=True)
    in_shards = np.argsort(rng.permutation(len(found))[shard], kind="stable")
    reach = float(window or _SHARDS_AROUND * -(-count // max(len(found), 1)))
    moved = np.arange(count) + rng.uniform(-reach, reach, count)
    # Reflected at both ends, so that the first batches are mixed as well as the rest.
    moved = np.where(moved < 0, -moved, moved)
    moved = np.where(moved > count, 2 * count - moved, moved)
    return in_shards[np.argsort(moved, kind="stable")]


def draws(seed: int, purpose: int, *keys: np.ndarray | int) -> np.ndarray:
    """One random 64-bit number a row of keys.

    The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), folded
    over the keys: a generator object a sample would cost more than reading the sample.

    Args:
        purpose: what the numbers are for, so that two uses of the same keys are independent.
        keys: int [n] or single numbers, broadcast against each other.

    Returns:
        uint64 [n].
    """
    state = np.full(np.broadcast_shapes((1,), *(np.shape(key) for key in keys)), _begun(seed, purpose))
    for key in keys:
        state += np.asarray(key, np.int64).astype(np.uint64)
        state += np.uint64(_GOLDEN)
        state ^= state >> np.uint64(30)
        state *= np.uint64(_FIRST)
        state ^= state >> np.uint64(27)
        state *= np.uint64(_SECOND)
        state ^= state >> np.uint64(31)
    return state


@cache
def _begun(*keys: int) -> np.uint64:
    """What the keys that all rows share come to."""
    state = 0
    for key in keys:
        state = (state + key + _GOLDEN) & _ALL
        state = (state ^ (state >> 30)) * _FIRST & _ALL
        state = (state ^ (state >> 27)) * _SECOND & _ALL
        state ^= state >> 31
    return np.uint64(state)


def below(numbers: np.ndarray, limit: int) -> np.ndarray:
    """Numbers of `draws` brought into [0, limit), int64."""
    unit = (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.minimum((unit * limit).astype(np.int64), limit - 1)
