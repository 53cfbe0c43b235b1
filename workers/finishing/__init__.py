"""The last chunk is in: what a finished run holds beside its images."""
