"""Painting shapes that are given: base colour, metallic, roughness and opacity."""
