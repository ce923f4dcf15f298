"""Dhan as its documentation has it: logins, orders of every kind, portfolio, prices, feed."""
