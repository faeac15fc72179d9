"""What comes in from files, and the rows that go out: one guarded reader for text, JSON, JSON lines and YAML each."""
