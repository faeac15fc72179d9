"""Models: names and sources, fetching, loading, chat templates; torch is imported inside the functions that need it."""
