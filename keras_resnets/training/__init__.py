"""Training: data, augmentation, recipes and runs. Import its modules; this one is empty."""
