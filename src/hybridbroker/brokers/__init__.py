"""One folder per broker, found through entry points."""
