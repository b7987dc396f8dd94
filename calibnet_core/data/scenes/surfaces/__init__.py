"""Surfaces: painted textures, and the materials that are made of them."""
