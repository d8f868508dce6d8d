"""Susceptibility from the field, how much to regularise, and the standard error of the result."""
