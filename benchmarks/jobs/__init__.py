"""What worker processes run: each module prepares calls to be timed, of one framework or kind."""
