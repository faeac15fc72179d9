"""Reads run directories and turns them into tables: nothing here runs a model."""
