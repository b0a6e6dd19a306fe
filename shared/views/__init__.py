"""Read models: rows derived from states, which can be thrown away and made again."""
