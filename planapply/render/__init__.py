"""The text and JSON of plans, states, diagnostics, and progress. Pure: no I/O, no clock."""
