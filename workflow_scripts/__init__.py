"""Thin scripts, one per rule: unpack the command line, call one function of the core."""
