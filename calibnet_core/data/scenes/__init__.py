"""Endless RGB-D scenes with exact masks: things that fell into place in furnished rooms.

MuJoCo drops the things and casts the rays; shapes, surfaces, light and the faults of sensors are
ours. A scene follows from a seed.
"""
