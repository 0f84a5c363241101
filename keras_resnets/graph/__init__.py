"""What takes a `keras.Model` and knows no family: it walks the graph through public attributes."""
