"""The inference engine: requests of many callers go through pipelines step by step, side by side."""
