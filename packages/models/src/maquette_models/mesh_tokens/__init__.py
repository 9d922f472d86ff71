"""Low-poly meshes as sequences of tokens, and a transformer that writes them."""
