"""Judges of reconstructions and of samples."""
