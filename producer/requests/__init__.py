"""From rows to requests that can be sampled: expansion, checks against a checkpoint, and the words of their faults."""
