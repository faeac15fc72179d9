"""Runs on a cluster: the stages of a run are computed by Ray or Slurm into the shared store, then collected locally."""
