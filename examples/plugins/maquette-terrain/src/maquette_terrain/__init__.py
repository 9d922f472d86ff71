"""Procedural islands and an MLP-Mixer autoencoder for maquette."""
