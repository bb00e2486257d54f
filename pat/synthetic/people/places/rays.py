"""Rays: where one comes into a solid, what it meets there, and whether that lets it through. Compiled."""

from __future__ import annotations

from numba import njit

from pat.synthetic.people.places.surfaces import HOLED, Material, open_at

FAR = 1e6


@njit(cache=True, error_model="numpy")
def entered(solid, x, y, z, dx, dy, dz, near):
    """How far along a ray from (x, y, z), beyond `near`, a solid begins, and which plane is there, or -1."""
    plane = -1
    for p in range(solid.count):
        nx, ny, nz, d = solid.planes[p, 0], solid.planes[p, 1], solid.planes[p, 2], solid.planes[p, 3]
        offset = d - nx * x - ny * y - nz * z
        if offset < 0:
            slope = nx * dx + ny * dy + nz * dz
            if slope >= -1e-12:
                return near, -1
            if offset / slope > near:
                near, plane = offset / slope, p
    if plane < 0:
        return near, -1
    for p in range(solid.count):
        nx, ny, nz, d = solid.planes[p, 0], solid.planes[p, 1], solid.planes[p, 2], solid.planes[p, 3]
        offset, slope = d - nx * x - ny * y - nz * z, nx * dx + ny * dy + nz * dz
        # A division takes longer than all the rest, and the first comparison is nearly always enough.
        if slope > 1e-12 and offset < 1.000001 * near * slope and offset / slope < near:
            return near, -1
    return near, plane


@njit(cache=True, error_model="numpy")
def surface(solid, plane, x, y, z):
    """Coordinates of a point on a plane of a solid: along it and up, or from above on a lying one."""
    x, y = x - solid.origin[0], y - solid.origin[1]
    c, s = solid.turn[0], solid.turn[1]
    along, side = c * x + s * y, c * y - s * x
    lies = abs(solid.planes[plane, 2]) > 0.7
    if not lies and abs(solid.planes[plane, 0] * c + solid.planes[plane, 1] * s) > 0.7:
        along = side
    if solid.material == Material.BICYCLE:
        return along, z - solid.origin[2]
    return along, side if lies else z


@njit(cache=True, error_model="numpy")
def lets_through(solid, plane, x, y, z):
    """Whether a solid has a hole where a ray comes into it."""
    if solid.material not in HOLED:
        return False
    u, v = surface(solid, plane, x, y, z)
    return open_at(solid, u, v)


@njit(cache=True, error_model="numpy")
def stops(solid, x, y, z, dx, dy, dz):
    """Whether a solid stands between a point and the sun."""
    sx, sy, sz, radius = solid.sphere[0] - x, solid.sphere[1] - y, solid.sphere[2] - z, solid.sphere[3]
    along = sx * dx + sy * dy + sz * dz
    if along < -radius or sx * sx + sy * sy + sz * sz - along * along > radius**2:
        return False
    t, plane = entered(solid, x, y, z, dx, dy, dz, 1e-3)
    return plane >= 0 and not lets_through(solid, plane, x + t * dx, y + t * dy, z + t * dz)
