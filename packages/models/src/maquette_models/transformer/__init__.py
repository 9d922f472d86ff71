"""The diffusion transformer and what it is made of."""
