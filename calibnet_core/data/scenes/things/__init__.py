"""Things about the house, every one of its own size and shape."""

from calibnet_core.data.scenes.things.families import FAMILIES, bounds, make_thing, sample_thing

__all__ = ["FAMILIES", "bounds", "make_thing", "sample_thing"]
