"""What a person sees: figures, films, and what goes on inside a network."""
