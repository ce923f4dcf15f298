"""Prices from one broker, orders to another, one typed interface."""
