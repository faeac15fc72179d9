"""What a run found: the schema of ``results.json``, its readers and writers."""
