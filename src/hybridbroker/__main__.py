"""``python -m hybridbroker`` is the ``hybridbroker`` command."""

from hybridbroker.cli import main

if __name__ == "__main__":
    main()
