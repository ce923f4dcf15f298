"""Markets that are not there: matching, charges, paper trading."""
