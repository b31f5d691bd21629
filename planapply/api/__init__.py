"""planapply in Python: what `import planapply` offers, as the command line offers it to a shell."""
