"""The content-addressed store: entries, locks, atomic writes."""
