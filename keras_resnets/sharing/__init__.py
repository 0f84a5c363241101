"""Models for others: folders that timm and this package read, model cards, the hub."""
