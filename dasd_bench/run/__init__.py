"""The flow of a run: load, targets, score, select, train, evaluate, report."""
