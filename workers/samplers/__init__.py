"""Checkpoints on this host, and the samplers that make images from them."""
