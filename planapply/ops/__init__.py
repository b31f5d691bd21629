"""The use cases: each is a short list of steps, from top to bottom."""
