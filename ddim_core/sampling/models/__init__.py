"""The kinds of checkpoints that the sampling loop can run, one module each, behind one protocol."""
