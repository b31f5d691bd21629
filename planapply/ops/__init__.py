"""The use cases: each a short list of steps, top to bottom."""
