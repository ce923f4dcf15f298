"""Upstox as its documentation has it: logins, prices, feed, orders, GTT orders, portfolio."""
