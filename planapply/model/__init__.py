"""The data types. Pure: no I/O, no clock, no cloud."""
