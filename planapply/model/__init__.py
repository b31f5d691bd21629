"""The nouns, pure: no I/O, no clock, no cloud."""
