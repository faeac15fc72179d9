"""What the stages of a run need: memory, disk and time, from the model's configuration alone."""
