"""Parts that backends are built from."""
