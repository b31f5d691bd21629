"""Plans, states, diagnostics and progress -> text and JSON; pure."""
