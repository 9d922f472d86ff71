"""A front that is compatible with Meshy's public API, over the same tasks as the service's own."""
