"""Orders at Upstox: calls, updates, and how both are read."""
