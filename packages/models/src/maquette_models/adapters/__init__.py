"""Finetuning with few trained parameters: low-rank layers, frozen layers, words of one's own, files of them."""
