"""MeanFlow for maquette (Geng et al., "Mean Flows for One-step Generative Modeling", 2025)."""
