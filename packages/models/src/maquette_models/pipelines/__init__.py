"""From a request to an asset."""
