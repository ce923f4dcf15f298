"""Orders at Dhan: calls, updates, and how both are read."""
