"""Draws solid shapes with several samples per pixel, hidden parts removed.

Frame: continuous image pixels, x right, y down, z to the viewer. Pixel i
covers [i, i + 1); sample j lies at (j + 0.5) / factor. Shapes are evaluated at
the samples themselves, so that no drawing routine can shift them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

# Takes (N, 3) places on a shape, in metres along its own axes, and returns
# (N, 3) colours from 0 to 255.
Material = Callable[[np.ndarray], np.ndarray]


@dataclass
class Surface:
    """The samples at which a shape faces the viewer.

    rows, cols: (N,) samples. depth: (N,) z in pixels. normal: (N, 3) unit
    vectors. local: (N, 3) metres along the shape's own axes.
    """

    rows: np.ndarray
    cols: np.ndarray
    depth: np.ndarray
    normal: np.ndarray
    local: np.ndarray

    def __getitem__(self, keep: np.ndarray) -> 'Surface':
        return Surface(
            self.rows[keep], self.cols[keep], self.depth[keep], self.normal[keep], self.local[keep]
        )


class Canvas:
    """A picture that knows which object and which part each sample shows.

    Objects are drawn from far to near, each after `start`. The parts of one
    object hide each other by their depth.

    Args:
        background: (H, W, 3) uint8.
        light: direction to the light, in the image frame.
        ambient: share of the light that comes from everywhere.
        factor: samples per pixel along each axis; odd, so that no pixel is
            covered exactly by half.
    """

    def __init__(
        self,
        background: np.ndarray,
        *,
        light: tuple[float, float, float] = (-0.4, -0.6, 0.7),
        ambient: float = 0.5,
        factor: int = 3,
    ) -> None:
        self.factor = factor
        self.size = background.shape[:2]
        self.colour = cv2.resize(background, None, fx=factor, fy=factor)
        shape = self.colour.shape[:2]
        self.owner = np.zeros(shape, np.int16)
        self.part = np.zeros(shape, np.uint8)
        self.depth = np.full(shape, -np.inf, np.float32)
        self.light = np.asarray(light, np.float32) / np.linalg.norm(light)
        self.ambient = ambient
        self._current = 0

    def start(self, owner: int = 0) -> None:
        """Begins an object in front of all others. Owner 0 is no person."""
        self._current = owner
        self.depth.fill(-np.inf)

    def ellipsoid(
        self,
        centre: np.ndarray,
        frame: np.ndarray,
        radii: tuple[float, float, float],
        material: Material,
        part: int = 0,
        *,
        tube: bool = False,
    ) -> None:
        """Draws an ellipsoid.

        Args:
            centre: (3,) in the image frame.
            frame: (3, 3), its columns the axes, each one metre long.
            radii: metres along these axes.
            material: gives the colours.
            part: number that the samples get.
            tube: shades it as a slice of a tube along its second axis.
        """
        axes = frame * np.asarray(radii)
        reach = np.linalg.norm(axes[:2], axis=1)
        rows, cols, dx, dy = self._window(centre[:2] - reach, centre[:2] + reach, centre)
        inverse = np.linalg.inv(axes).astype(np.float32)
        # A ray meets the unit sphere where |flat + z * ray| = 1.
        flat = [row[0] * dx + row[1] * dy for row in inverse]
        ray = inverse[:, 2]
        a = float(ray @ ray)
        b = sum(f * r for f, r in zip(flat, ray))
        c = sum(f * f for f in flat) - 1
        root = b * b - a * c
        hit = np.nonzero(root > 0)
        z = (np.sqrt(root[hit]) - b[hit]) / a
        unit = np.stack([f[hit] + z * r for f, r in zip(flat, ray)], 1)
        local = unit * np.asarray(radii, np.float32)
        if tube:
            unit = unit * np.float32([1, 0, 1])
        normal = unit @ inverse
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        self._paint(
            Surface(rows + hit[0], cols + hit[1], z + np.float32(centre[2]), normal, local),
            material,
            part,
        )

    def cone(
        self,
        start: np.ndarray,
        end: np.ndarray,
        start_radius: float,
        end_radius: float,
        material: Material,
        part: int = 0,
        *,
        scale: float = 1.0,
    ) -> None:
        """Draws a limb: a rod with round ends whose radius changes evenly.

        Args:
            start, end: (3,) in the image frame.
            start_radius, end_radius: pixels.
            material: gives the colours; its places are (across, along, 0).
            part: number that the samples get.
            scale: pixels per metre, for the material.
        """
        start, end = np.asarray(start, float), np.asarray(end, float)
        widest = max(start_radius, end_radius)
        rows, cols, dx, dy = self._window(
            np.minimum(start, end)[:2] - widest, np.maximum(start, end)[:2] + widest, start
        )
        rod = (end - start).astype(np.float32)
        length = max(float(np.hypot(rod[0], rod[1])), 1e-3)
        along = (dx * rod[0] + dy * rod[1]) / length**2
        share = np.clip(along, 0, 1)
        out_x, out_y = dx - share * rod[0], dy - share * rod[1]
        radius = start_radius + share * (end_radius - start_radius)
        room = radius**2 - out_x**2 - out_y**2
        hit = np.nonzero(room > 0)
        rise, radius = np.sqrt(room[hit]), radius[hit]
        normal = np.stack([out_x[hit], out_y[hit], rise], 1) / radius[:, None]
        across = (dx * rod[1] - dy * rod[0])[hit] / length
        local = np.stack([across, along[hit] * length, np.zeros_like(across)], 1) / scale
        depth = np.float32(start[2]) + share[hit] * rod[2] + rise
        self._paint(Surface(rows + hit[0], cols + hit[1], depth, normal, local), material, part)

    def polygon(self, corners: np.ndarray, material: Material, *, scale: float = 1.0) -> None:
        """Draws a flat convex polygon of (N, 2) corners."""
        corners = np.asarray(corners, np.float32)
        rows, cols, x, y = self._window(corners.min(0), corners.max(0), np.zeros(3))
        inside = np.ones((y.shape[0], x.shape[1]), bool)
        area = cv2.contourArea(corners, oriented=True)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0)):
            cross = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
            inside &= cross * np.sign(area) >= 0
        hit = np.nonzero(inside)
        local = (
            np.stack([x[0, hit[1]], y[hit[0], 0], np.zeros(len(hit[0]), np.float32)], 1) / scale
        )
        normal = np.tile(np.float32([0, 0, 1]), (len(local), 1))
        self._paint(
            Surface(rows + hit[0], cols + hit[1], np.zeros(len(local), np.float32), normal, local),
            material,
            0,
        )

    def masks(self, owners: list[int]) -> np.ndarray:
        """(N, H, W) bool: the pixels that each owner covers by more than half."""
        height, width = self.size
        masks = np.zeros((len(owners), height, width), bool)
        for mask, owner in zip(masks, owners):
            covered = (self.owner == owner).astype(np.float32)
            mask[:] = cv2.resize(covered, (width, height), interpolation=cv2.INTER_AREA) > 0.5
        return masks

    def image(self) -> np.ndarray:
        """(H, W, 3) uint8: the mean of each pixel's samples."""
        height, width = self.size
        return cv2.resize(self.colour, (width, height), interpolation=cv2.INTER_AREA)

    def sample(self, x: float, y: float) -> tuple[int, int] | None:
        """Row and column of the sample at a place; None outside the image."""
        col, row = int(x * self.factor // 1), int(y * self.factor // 1)
        height, width = self.owner.shape
        return (row, col) if 0 <= row < height and 0 <= col < width else None

    def _window(
        self, low: np.ndarray, high: np.ndarray, origin: np.ndarray
    ) -> tuple[int, int, np.ndarray, np.ndarray]:
        """First row and column of the samples between two corners, and their
        (1, w) x and (h, 1) y from the origin. May be empty.
        """
        shape = np.array(self.owner.shape[::-1])
        first = np.clip(np.floor(np.multiply(low, self.factor)), 0, shape)
        last = np.clip(np.ceil(np.multiply(high, self.factor)), 0, shape)
        (x0, y0), (x1, y1) = first.astype(int), last.astype(int)
        x = (np.arange(x0, x1) + 0.5) / self.factor - origin[0]
        y = (np.arange(y0, y1) + 0.5) / self.factor - origin[1]
        return (y0, x0, x.astype(np.float32)[None], y.astype(np.float32)[:, None])

    def _paint(self, surface: Surface, material: Material, part: int) -> None:
        at = surface.rows, surface.cols
        surface = surface[surface.depth > self.depth[at]]
        at = surface.rows, surface.cols
        lit = np.clip(surface.normal @ self.light, 0, 1)
        shade = self.ambient + (1 - self.ambient) * lit
        colours = material(surface.local) * shade[:, None]
        self.colour[at] = np.clip(colours, 0, 255)
        self.owner[at] = self._current
        self.part[at] = part
        self.depth[at] = surface.depth
