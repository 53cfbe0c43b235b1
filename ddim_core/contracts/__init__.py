"""What travels and what lands: requests, run plans, chunks, messages, records, the manifest."""
