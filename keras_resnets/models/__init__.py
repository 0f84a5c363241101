"""The networks: one file a family, on a shared vocabulary and skeleton."""
