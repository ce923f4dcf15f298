"""What tests of bots and of broker plugins need: emulators, factories, checks."""
