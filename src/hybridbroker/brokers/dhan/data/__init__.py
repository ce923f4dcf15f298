"""Prices from Dhan: calls, feed, and how both are read."""
