"""Rasterize solid shapes with a depth buffer and several samples per pixel.

Image frame: continuous pixels, x right, y down, z to the viewer. Pixel i covers [i, i + 1);
sample j lies at (j + 0.5) / factor. Shapes are evaluated at the samples, without rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

# Maps (N, 3) positions on a shape, in meters along its own axes, to (N, 3) BGR colors from 0 to
# 255.
Material = Callable[[np.ndarray], np.ndarray]


@dataclass
class Surface:
    """Visible surface of a shape at N samples.

    Attributes:
        rows: (N,) sample rows.
        cols: (N,) sample columns.
        depth: (N,) z in pixels.
        normal: (N, 3) unit normals.
        local: (N, 3) positions in meters along the axes of the shape.
    """

    rows: np.ndarray
    cols: np.ndarray
    depth: np.ndarray
    normal: np.ndarray
    local: np.ndarray

    def select(self, keep: np.ndarray) -> 'Surface':
        """Return the samples of a boolean mask."""
        return Surface(
            self.rows[keep], self.cols[keep], self.depth[keep], self.normal[keep], self.local[keep]
        )


class Canvas:
    """An image with object and part of each sample.

    Objects are drawn from far to near, each after :meth:`start`. Parts of one object occlude
    each other by depth.

    Args:
        background: (H, W, 3) uint8.
        light: Direction to the light in the image frame.
        ambient: Fraction of ambient light.
        factor: Samples per pixel along each axis; odd, so that no pixel is covered by exactly
            one half.
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
        self.color = cv2.resize(background, None, fx=factor, fy=factor)
        shape = self.color.shape[:2]
        self.owner = np.zeros(shape, np.int16)
        self.part = np.zeros(shape, np.uint8)
        self.depth = np.full(shape, -np.inf, np.float32)
        self.light = np.asarray(light, np.float32) / np.linalg.norm(light)
        self.ambient = ambient
        self._current = 0

    def start(self, owner: int = 0) -> None:
        """Start an object in front of all others; owner 0 is the background."""
        self._current = owner
        self.depth.fill(-np.inf)

    def ellipsoid(
        self,
        center: np.ndarray,
        frame: np.ndarray,
        radii: tuple[float, float, float],
        material: Material,
        part: int = 0,
        *,
        tube: bool = False,
    ) -> None:
        """Draw an ellipsoid.

        Args:
            center: (3,) position in the image frame.
            frame: (3, 3) axes as columns, each one meter long.
            radii: Radii along the axes in meters.
            material: Colors.
            part: Part number of the samples.
            tube: Shade as a slice of a tube along the second axis.
        """
        # (3, 3): the unit sphere in the image frame, axes as columns
        axes = frame * np.asarray(radii)
        reach = np.linalg.norm(axes[:2], axis=1)  # half width and height of the projection
        rows, cols, dx, dy = self._window(center[:2] - reach, center[:2] + reach, center)
        inverse = np.linalg.inv(axes).astype(np.float32)
        # A ray meets the unit sphere where |flat + z * ray| = 1.
        flat = [row[0] * dx + row[1] * dy for row in inverse]  # three arrays (h, w)
        ray = inverse[:, 2]  # the direction of view, in the frame of the sphere
        # a z^2 + 2 b z + c = 0, of which the larger z is nearer to the viewer
        a = float(ray @ ray)
        b = sum(f * r for f, r in zip(flat, ray, strict=True))
        c = sum(f * f for f in flat) - 1
        root = b * b - a * c
        hit = np.nonzero(root > 0)
        z = (np.sqrt(root[hit]) - b[hit]) / a
        unit = np.stack([f[hit] + z * r for f, r in zip(flat, ray, strict=True)], 1)  # (N, 3)
        local = unit * np.asarray(radii, np.float32)
        if tube:
            unit = unit * np.float32([1, 0, 1])
        normal = unit @ inverse  # normals transform by the inverse transpose
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        self._paint(
            Surface(rows + hit[0], cols + hit[1], z + np.float32(center[2]), normal, local),
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
        """Draw a truncated cone with round ends.

        Args:
            start: (3,) position in the image frame.
            end: (3,) position in the image frame.
            start_radius: Radius in pixels.
            end_radius: Radius in pixels.
            material: Colors at (across, along, 0).
            part: Part number of the samples.
            scale: Pixels per meter, for the material.
        """
        start, end = np.asarray(start, float), np.asarray(end, float)
        widest = max(start_radius, end_radius)
        rows, cols, dx, dy = self._window(
            np.minimum(start, end)[:2] - widest, np.maximum(start, end)[:2] + widest, start
        )
        rod = (end - start).astype(np.float32)
        length = max(float(np.hypot(rod[0], rod[1])), 1e-3)
        along = (dx * rod[0] + dy * rod[1]) / length**2
        # (h, w): 0 at the start, 1 at the end; clipped for the round ends
        share = np.clip(along, 0, 1)
        out_x, out_y = dx - share * rod[0], dy - share * rod[1]
        radius = start_radius + share * (end_radius - start_radius)
        room = radius**2 - out_x**2 - out_y**2  # squared height above the axis
        hit = np.nonzero(room > 0)
        rise, radius = np.sqrt(room[hit]), radius[hit]
        normal = np.stack([out_x[hit], out_y[hit], rise], 1) / radius[:, None]
        across = (dx * rod[1] - dy * rod[0])[hit] / length
        local = np.stack([across, along[hit] * length, np.zeros_like(across)], 1) / scale
        depth = np.float32(start[2]) + share[hit] * rod[2] + rise
        self._paint(Surface(rows + hit[0], cols + hit[1], depth, normal, local), material, part)

    def polygon(self, corners: np.ndarray, material: Material, *, scale: float = 1.0) -> None:
        """Draw a flat convex polygon of (N, 2) corners."""
        corners = np.asarray(corners, np.float32)
        rows, cols, x, y = self._window(corners.min(0), corners.max(0), np.zeros(3))
        inside = np.ones((y.shape[0], x.shape[1]), bool)
        area = cv2.contourArea(corners, oriented=True)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            # Broadcast (1, w) with (h, 1). All edges of a convex polygon have its inside on the
            # same side.
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
        """Return (N, H, W) bool masks of the pixels that each owner covers by more than half."""
        height, width = self.size
        masks = np.zeros((len(owners), height, width), bool)
        for mask, owner in zip(masks, owners, strict=True):
            covered = (self.owner == owner).astype(np.float32)
            # the share of covered samples
            mask[:] = cv2.resize(covered, (width, height), interpolation=cv2.INTER_AREA) > 0.5
        return masks

    def image(self) -> np.ndarray:
        """Return the (H, W, 3) uint8 image, the mean of the samples of each pixel."""
        height, width = self.size
        return cv2.resize(self.color, (width, height), interpolation=cv2.INTER_AREA)

    def sample(self, x: float, y: float) -> tuple[int, int] | None:
        """Return row and column of the sample at a position, None outside of the image."""
        col, row = int(x * self.factor // 1), int(y * self.factor // 1)
        height, width = self.owner.shape
        return (row, col) if 0 <= row < height and 0 <= col < width else None

    def _window(
        self, low: np.ndarray, high: np.ndarray, origin: np.ndarray
    ) -> tuple[int, int, np.ndarray, np.ndarray]:
        """Find the samples between two corners, possibly none.

        Returns:
            First row and column, and (1, w) x and (h, 1) y relative to the origin.
        """
        shape = np.array(self.owner.shape[::-1])
        first = np.clip(np.floor(np.multiply(low, self.factor)), 0, shape)
        last = np.clip(np.ceil(np.multiply(high, self.factor)), 0, shape)
        (x0, y0), (x1, y1) = first.astype(int), last.astype(int)
        x = (np.arange(x0, x1) + 0.5) / self.factor - origin[0]
        y = (np.arange(y0, y1) + 0.5) / self.factor - origin[1]
        return (y0, x0, x.astype(np.float32)[None], y.astype(np.float32)[:, None])

    def _paint(self, surface: Surface, material: Material, part: int) -> None:
        """Shade the samples that are nearer than what the current object has drawn."""
        at = surface.rows, surface.cols
        surface = surface.select(surface.depth > self.depth[at])  # z grows towards the viewer
        at = surface.rows, surface.cols
        lit = np.clip(surface.normal @ self.light, 0, 1)  # Lambert's cosine law, (N,)
        shade = self.ambient + (1 - self.ambient) * lit
        colors = material(surface.local) * shade[:, None]
        self.color[at] = np.clip(colors, 0, 255)
        self.owner[at] = self._current
        self.part[at] = part
        self.depth[at] = surface.depth
