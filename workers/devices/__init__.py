"""Which devices a host has, which of them are served, and how they are."""
