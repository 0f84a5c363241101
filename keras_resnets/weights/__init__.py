"""Reading checkpoints and putting them into models."""
