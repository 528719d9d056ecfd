"""Traces: their file, and what is made of them."""
