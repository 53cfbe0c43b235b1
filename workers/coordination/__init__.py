"""What workers tell each other through Redis: leases, notes, messages sent again."""
