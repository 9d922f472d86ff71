"""From files that nobody checked to geometry that can be trusted."""
