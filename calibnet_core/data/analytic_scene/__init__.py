"""A tabletop scene rendered by formula: colour, exact depth and instance labels without a camera.

Every pixel's depth follows from one ray meeting one shape, so tests can compare with a closed form,
and recordings made from it carry a ground truth that no annotator has touched.
"""

from calibnet_core.data.analytic_scene.demo import add_sensor_faults, demo_scene, render_sequence
from calibnet_core.data.analytic_scene.rendering import Camera, Light, RenderedFrame, Scene, render
from calibnet_core.data.analytic_scene.shapes import (
    Box,
    Cylinder,
    Material,
    Plane,
    Shape,
    Sphere,
)

__all__ = [
    "Box",
    "Camera",
    "Cylinder",
    "Light",
    "Material",
    "Plane",
    "RenderedFrame",
    "Scene",
    "Shape",
    "Sphere",
    "add_sensor_faults",
    "demo_scene",
    "render",
    "render_sequence",
]
