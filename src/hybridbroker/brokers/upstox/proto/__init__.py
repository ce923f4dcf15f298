"""The feed's schema and the code generated from it; ``feed.proto`` says how."""
