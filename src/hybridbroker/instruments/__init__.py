"""One identity, many broker keys: masters in, a fail-closed registry out."""
