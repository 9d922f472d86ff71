"""Byte-level byte-pair encoding, trained on captions (Sennrich et al., 2016; Radford et al., 2019).

A tokenizer is its list of merges and nothing else, so that it fits into a run's facts. Words that it never saw come
apart into shorter pieces, in the end into bytes; none is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

PAD = 0
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
SMALLEST = 1 + len(ALPHABET)
"""Entries of a tokenizer without merges: padding, and every byte."""


def train_merges(captions: Iterable[str], entries: int) -> list[str]:
    """Merges of a tokenizer of at most so many entries, most frequent pairs first: "Ġ t" makes "Ġt".

    "Ġ" stands for a space, as in the tokenizer of GPT-2. The same captions in any order give the same merges.
    """
    tokenizer = _empty(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=max(entries - 1, len(ALPHABET)), initial_alphabet=ALPHABET, show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(sorted(captions), trainer)
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    # Facts are part of a config, where "${" begins an interpolation.
    return [f"{left} {right}" for left, right in pairs if "${" not in left + right]


class BytePairs:
    """Token ids of texts, lower-cased; 0 is padding."""

    def __init__(self, merges: Sequence[str]) -> None:
        pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
        pieces = dict.fromkeys([*ALPHABET, *(left + right for left, right in pairs)])
        vocabulary = {piece: number for number, piece in enumerate(pieces, start=1)}
        self.size = 1 + len(vocabulary)
        self.tokenizer = _empty(models.BPE(vocab=vocabulary, merges=pairs))

    def ids(self, text: str) -> list[int]:
        """The ids of a text, none for an empty one."""
        text = text.strip()
        return list(self.tokenizer.encode(text).ids) if text else []

    def pieces(self, text: str) -> list[str]:
        """What a text comes apart into."""
        return [self.tokenizer.id_to_token(number) for number in self.ids(text)]


def _empty(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer
