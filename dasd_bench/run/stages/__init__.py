"""The stages of a run, one module per kind of work: what it depends on, what it costs, how it is made."""
