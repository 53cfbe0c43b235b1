"""Requests from files, buckets and standard input, in whatever form they come."""

from producer.inputs.formats import read_rows
from producer.inputs.sources import source_of

__all__ = ["read_rows", "source_of"]
