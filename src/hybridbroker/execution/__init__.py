"""What stands between a strategy and a real order."""
