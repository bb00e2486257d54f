"""Which triangle is nearest at each sample: a z-buffer, and the same seen from the lamp."""

import numpy as np
from numba import njit


@njit(cache=True)
def skin(rest, weights, bones):
    """World points f32 [V, 3] of rest points [V, 3] under bones f64 [J, 3, 4], shared by weights [V, J]."""
    out = np.zeros((rest.shape[0], 3), np.float32)
    for v in range(rest.shape[0]):
        x = y = z = 0.0
        for j in range(weights.shape[1]):
            w = weights[v, j]
            if w > 0:
                m = bones[j]
                x += w * (m[0, 0] * rest[v, 0] + m[0, 1] * rest[v, 1] + m[0, 2] * rest[v, 2] + m[0, 3])
                y += w * (m[1, 0] * rest[v, 0] + m[1, 1] * rest[v, 1] + m[1, 2] * rest[v, 2] + m[1, 3])
                z += w * (m[2, 0] * rest[v, 0] + m[2, 1] * rest[v, 1] + m[2, 2] * rest[v, 2] + m[2, 3])
        out[v, 0], out[v, 1], out[v, 2] = x, y, z
    return out


@njit(cache=True, error_model="numpy")
def point_normals(points, faces):
    out = np.zeros_like(points)
    for f in range(faces.shape[0]):
        a, b, c = points[faces[f, 0]], points[faces[f, 1]], points[faces[f, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in range(3):
            out[faces[f, k], 0] += x
            out[faces[f, k], 1] += y
            out[faces[f, k], 2] += z
    for v in range(out.shape[0]):
        n = np.sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2) + 1e-12
        for k in range(3):
            out[v, k] /= n
    return out


@njit(cache=True, error_model="numpy")
def raster(screen, faces, height, width):
    """Nearest triangle i32 [H, W] (-1 none) and 1 / depth f32 [H, W] (0 none) of screen points f64 [V, 3].

    The third coordinate is 1 / depth, which is linear on the screen; points behind the camera have 0 or less.
    """
    nearest = np.full((height, width), -1, np.int32)
    close = np.zeros((height, width), np.float32)
    for f in range(faces.shape[0]):
        ia, ib, ic = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = screen[ia, 0], screen[ia, 1], screen[ia, 2]
        bx, by, bz = screen[ib, 0], screen[ib, 1], screen[ib, 2]
        cx, cy, cz = screen[ic, 0], screen[ic, 1], screen[ic, 2]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if az <= 0 or bz <= 0 or cz <= 0 or abs(area) < 1e-9:
            continue
        left = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        right = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        top = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        if left > right:
            continue
        ux, uy = (cy - ay) / area, -(cx - ax) / area
        vx, vy = -(by - ay) / area, (bx - ax) / area
        dx = ux * (bz - az) + vx * (cz - az)
        for row in range(top, bottom + 1):
            u = (left + 0.5 - ax) * ux + (row + 0.5 - ay) * uy
            v = (left + 0.5 - ax) * vx + (row + 0.5 - ay) * vy
            d = az + u * (bz - az) + v * (cz - az)
            for col in range(left, right + 1):
                if u >= 0 and v >= 0 and u + v <= 1 and d > close[row, col]:
                    close[row, col] = d
                    nearest[row, col] = f
                u += ux
                v += vx
                d += dx
    return nearest, close


@njit(cache=True, error_model="numpy")
def lit(shadow, frame, x, y, z, bias, reach):
    """Share of the lamp's light that reaches a world point: mean over (2 reach + 1)² texels of the shadow map."""
    u = frame[0, 0] * x + frame[0, 1] * y + frame[0, 2] * z + frame[0, 3]
    v = frame[1, 0] * x + frame[1, 1] * y + frame[1, 2] * z + frame[1, 3]
    d = frame[2, 0] * x + frame[2, 1] * y + frame[2, 2] * z + frame[2, 3] + bias
    col, row = int(np.floor(u)), int(np.floor(v))
    if row + reach < 0 or col + reach < 0 or row - reach >= shadow.shape[0] or col - reach >= shadow.shape[1]:
        return 1.0
    free, total = 0, 0
    for j in range(-reach, reach + 1):
        for i in range(-reach, reach + 1):
            total += 1
            r, c = row + j, col + i
            if r < 0 or c < 0 or r >= shadow.shape[0] or c >= shadow.shape[1] or shadow[r, c] <= d:
                free += 1
    return free / total
