"""The contract of method plugins."""
