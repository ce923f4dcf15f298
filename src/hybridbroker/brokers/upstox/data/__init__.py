"""Prices from Upstox: calls, feed, and how both are read."""
