"""From a trained model to one that runs: folding, exporting, quantizing."""
