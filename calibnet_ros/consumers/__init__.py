"""Nodes that turn `~/instances` into what other software understands."""
