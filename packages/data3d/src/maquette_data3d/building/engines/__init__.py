"""Who runs a build: this process, local ones, or a cluster."""
