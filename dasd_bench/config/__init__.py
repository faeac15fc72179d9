"""What a run is: its specification and the options of training."""
