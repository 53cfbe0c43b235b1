"""Checkpoint folders as a person handles them: listed with what is wrong with them, made of single files."""
