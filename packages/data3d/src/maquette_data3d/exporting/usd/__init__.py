"""USDZ (Pixar's Universal Scene Description, packed), through the package usd-core."""
