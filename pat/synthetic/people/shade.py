"""The colour of what a sample sees: cloth patterns from template coordinates, folds, faces, hair, light."""

import numpy as np
from numba import njit

from pat.synthetic.people.raster import lit

MATERIAL = np.dtype(
    [
        ("part", np.int64),  # an index into PARTS
        ("kind", np.int64),
        ("colour", np.float32, 3),
        ("second", np.float32, 3),
        ("third", np.float32, 3),
        ("pattern", np.int64),  # an index into PATTERNS
        ("scale", np.float32),
        ("folds", np.float32),
        ("gloss", np.float32),
        ("seed", np.float32),
        ("trim", np.float32),
        ("strap", np.int64),
        ("owner", np.int64),
        ("finish", np.int64),
    ]
)
CLOTH, SKIN, FACE, HAIR, BAG, SHOE = range(6)  # kind
RIBBED, QUILTED, POCKETS = 1, 2, 3  # finish
PATTERNS = (
    "plain", "stripes", "pinstripes", "check", "tartan", "camouflage", "colour block", "chest logo", "lettering",
    "dots", "raglan", "heather", "back print", "sleeve stripes", "chest band", "gradient", "flowers", "zigzag",
    "high-visibility", "side stripe", "diamonds", "big number", "tie-dye",
)  # fmt: skip
(
    PLAIN, STRIPES, PINSTRIPES, CHECK, TARTAN, CAMOUFLAGE, COLOUR_BLOCK, CHEST_LOGO, LETTERING, DOTS,
    RAGLAN, HEATHER, BACK_PRINT, SLEEVE_STRIPES, CHEST_BAND, GRADIENT, FLOWERS, ZIGZAG, HIGH_VISIBILITY,
    SIDE_STRIPE, DIAMONDS, BIG_NUMBER, TIE_DYE,
) = range(len(PATTERNS))  # fmt: skip


@njit(cache=True)
def _hash(x, y, z):
    n = (x * 73856093) ^ (y * 19349663) ^ (z * 83492791)
    n = (n ^ (n >> 13)) & 0x7FFFFFFF
    n = (n * (n * n * 15731 + 789221) + 1376312589) & 0x7FFFFFFF
    return n / 2147483647.0


@njit(cache=True, error_model="numpy")
def noise(x, y, z):
    """Smooth value noise in [0, 1] over a lattice of step 1, and its slope along each axis."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    f, g, h = x - i, y - j, z - k
    df, dg, dh = 6 * f * (1 - f), 6 * g * (1 - g), 6 * h * (1 - h)
    f, g, h = f * f * (3 - 2 * f), g * g * (3 - 2 * g), h * h * (3 - 2 * h)
    a0, a1 = _hash(i, j, k), _hash(i + 1, j, k)
    b0, b1 = _hash(i, j + 1, k), _hash(i + 1, j + 1, k)
    c0, c1 = _hash(i, j, k + 1), _hash(i + 1, j, k + 1)
    d0, d1 = _hash(i, j + 1, k + 1), _hash(i + 1, j + 1, k + 1)
    a, b, c, d = a0 + (a1 - a0) * f, b0 + (b1 - b0) * f, c0 + (c1 - c0) * f, d0 + (d1 - d0) * f
    low, high = a + (b - a) * g, c + (d - c) * g
    sx = ((a1 - a0) * (1 - g) + (b1 - b0) * g) * (1 - h) + ((c1 - c0) * (1 - g) + (d1 - d0) * g) * h
    return low + (high - low) * h, sx * df, ((b - a) * (1 - h) + (d - c) * h) * dg, (high - low) * dh


@njit(cache=True, error_model="numpy")
def _glyphs(p, q, seed, rows):
    """Whether a place in the square [-1, 1]² of a line of text is inked: marks that nobody can read."""
    letter, line = np.floor((p + 1) * 3), np.floor((q + 1) * rows / 2)
    x, y = int(((p + 1) * 3 - letter) * 4), int(((q + 1) * rows / 2 - line) * 7)
    if x == 3 or y > 4:
        return False  # between letters and lines
    a, b = int(letter), int(line) + int(seed * 100)
    upright = (x == 0 and _hash(a, b, 1) > 0.2) or (x == 2 and _hash(a, b, 2) > 0.4)
    level = (y == 0 and _hash(a, b, 3) > 0.5) or (y == 2 and _hash(a, b, 4) > 0.4)
    return upright or level or (y == 4 and _hash(a, b, 5) > 0.5)


@njit(cache=True, error_model="numpy")
def _emblem(p, q, shape):
    """Whether a place in the square [-1, 1]² belongs to an emblem: a disc, a ring, a triangle or three bars."""
    r2 = p * p + q * q
    if shape == 0:
        return r2 < 1
    if shape == 1:
        return 0.4 < r2 < 1 or r2 < 0.08
    if shape == 2:
        return abs(p) < 0.5 - 0.5 * q and q > -1
    return abs(q) < 0.9 and abs(p) < 1 and (q * 0.5 + p * 1.7) % 1 < 0.55


@njit(cache=True, error_model="numpy")
def pattern(kind, scale, seed, x, y, z, arm, leg):
    """Share of the second colour at a place on the template body; from 2 on, of the third colour plus 2."""
    if kind == PLAIN:
        return 0.0
    on_arm = arm >= 0
    u = y * 1.2 if on_arm else np.arctan2(x, -y - 0.03) * 0.16
    v = arm * 0.55 if on_arm else z
    if leg >= 0:
        u = np.arctan2(abs(x) - 0.13, -y) * 0.09
    front = y < -0.03 and not on_arm
    if kind == STRIPES:
        return 1.0 if v / scale % 1 < 0.5 else 0.0
    if kind == PINSTRIPES:
        return 1.0 if u / (scale * 0.6) % 1 < 0.3 else 0.0
    if kind == CHECK:
        return 0.5 * (v / scale % 1 < 0.5) + 0.5 * (u / scale % 1 < 0.5)
    if kind == TARTAN:
        p, q = v / (scale * 1.6) % 1, u / (scale * 1.6) % 1
        if abs(p - 0.25) < 0.04 or abs(q - 0.25) < 0.04:
            return 3.0
        return 0.5 * (abs(p - 0.6) < 0.2) + 0.5 * (abs(q - 0.6) < 0.2)
    if kind == CAMOUFLAGE:
        n = noise(u / scale * 1.5 + seed, v / scale * 1.5, y * 3 + seed)[0]
        return 0.0 if n < 0.42 else (1.0 if n < 0.6 else 3.0)
    if kind == COLOUR_BLOCK:
        return 1.0 if z < 1.1 + 0.25 * (seed % 1) and not on_arm else 0.0
    if kind == CHEST_LOGO:
        if seed * 20 % 2 < 1:  # small, over the heart
            p, q = (x - 0.075) / 0.033, (z - 1.36) / 0.033
        else:
            p, q = x / 0.085, (z - 1.29) / 0.075
        return 1.0 if front and _emblem(p, q, int(seed * 50) % 4) else 0.0
    if kind in (LETTERING, BACK_PRINT):
        side = front if kind == LETTERING else (y > -0.03 and not on_arm)
        p, q = x / 0.12, (z - 1.27) / (0.035 + 0.05 * (seed * 7 % 1))
        if side and abs(p) < 1 and abs(q) < 1:
            return 1.0 if _glyphs(p, q, seed, 1 + int(seed * 13) % 2) else 0.0
        return 0.0
    if kind == DOTS:
        p, q = u / scale % 1 - 0.5, v / scale % 1 - 0.5
        return 1.0 if p * p + q * q < 0.075 else 0.0
    if kind == RAGLAN:
        return 1.0 if on_arm else 0.0
    if kind == HEATHER:
        return 0.75 * noise(x * 180, y * 180, z * 180)[0]
    if kind == SLEEVE_STRIPES:
        outside = on_arm and y > -0.03 - 0.16 * arm
        return 1.0 if outside and abs(u % 0.05) < 0.016 else 0.0
    if kind == CHEST_BAND:
        return 1.0 if abs(z - 1.28 - 0.08 * (seed % 1)) < 0.06 and not on_arm else 0.0
    if kind == GRADIENT:
        return min(1.0, max(0.0, (1.45 - z) / 0.5)) if not on_arm else min(1.0, max(0.0, arm))
    if kind == FLOWERS:
        i, j = int(np.floor(u / scale)), int(np.floor(v / scale))
        p = u / scale - i - 0.5 - 0.3 * (_hash(i, j, 3) - 0.5)
        q = v / scale - j - 0.5 - 0.3 * (_hash(i, j, 5) - 0.5)
        d = np.sqrt(p * p + q * q)
        petal = 0.28 + 0.1 * np.cos(5 * np.arctan2(q, p))
        return 3.0 if d < 0.1 else (1.0 if d < petal and _hash(i, j, 7) > 0.25 else 0.0)
    if kind == ZIGZAG:
        return 1.0 if (v / scale + abs(u / scale % 1 - 0.5) * 1.2) % 1 < 0.4 else 0.0
    if kind == HIGH_VISIBILITY:
        if on_arm:
            return 1.0 if abs(arm - 0.45) < 0.06 else 0.0
        across = abs(z - 1.05) < 0.03 or abs(z - 1.2) < 0.03
        return 1.0 if across or (z > 1.2 and abs(abs(x) - 0.11) < 0.028) else 0.0
    if kind == SIDE_STRIPE:
        return 1.0 if leg >= 0 and abs(x) > 0.16 + 0.05 * leg and abs(y + 0.01) < 0.022 else 0.0
    if kind == DIAMONDS:
        return 1.0 if abs(u / scale % 1 - 0.5) + abs(v / scale % 1 - 0.5) < 0.33 else 0.0
    if kind == BIG_NUMBER:
        p, q = x / 0.07, (z - 1.25) / 0.11
        if on_arm or abs(p) > 1 or abs(q) > 1:
            return 0.0
        digit = int(seed * 10) % 4
        bar = abs(q) > 0.72 or abs(q) < 0.14
        stem = abs(p) > 0.6 if digit == 0 else (p > 0.6 if digit == 1 else (p * q > 0 and abs(p) > 0.6))
        return 1.0 if bar or stem else 0.0
    if kind == TIE_DYE:
        p, q = x - 0.05, z - 1.2
        r = np.sqrt(p * p + q * q) + 0.05 * noise(x * 25, z * 25, seed)[0]
        return 0.5 + 0.5 * np.sin(r * 55 + seed)
    return 0.0


@njit(cache=True, error_model="numpy")
def _folds(x, y, z, arm, leg, seed):
    """Slope of cloth along each axis, and how deep it lies: soft hanging folds, and creases where limbs bend."""
    if arm >= 0:
        soft, sx, sy, sz = noise(x * 20 + seed, y * 14, z * 20)
        bent = max(0.15, 1 - abs(arm - 0.5) * 4, (arm - 0.8) * 3)
    elif leg >= 0:
        soft, sx, sy, sz = noise(x * 16 + seed, y * 14, z * 6 + seed)
        bent = max(0.15, 1 - abs(leg - 0.5) * 5, (leg - 0.85) * 6, 1 - leg * 6)
    else:
        soft, sx, sy, sz = noise(x * 14 + seed, y * 12, z * 5 + seed)
        bent = max(0.08, 0.4 - abs(z - 1.05) * 2)
    fine, cx, cy, cz = noise(x * 15 + seed + z * 6, y * 15, z * 21 - x * 5 + seed)
    ridge = 2 * fine - 1
    edge = -1.6 * bent * (1 - abs(ridge)) * (1.0 if ridge > 0 else -1.0)
    hollow = 0.3 * max(0.0, 0.55 - soft) + 0.35 * bent * max(0.0, 0.7 - 2 * abs(ridge)) ** 2
    return 1.1 * sx + edge * cx, 1.1 * sy + edge * cy, 0.8 * sz + edge * cz, hollow


@njit(cache=True, error_model="numpy")
def _cloth_detail(mat, x, y, z, arm, leg):
    """How dark seams, fasteners, ribs and pockets are at a place of a garment, 1 where there are none."""
    trunk = arm < 0 and leg < 0.1
    dark = 1.0
    if mat.trim > 0 and trunk and y < -0.03 and abs(x) < 0.005:
        dark = 0.55  # a zip or a row of buttons
    finish = mat.finish
    if finish == RIBBED and (arm > 0.93 or (trunk and z < 0.94)):
        dark *= 0.82
    elif finish == QUILTED:
        q = (arm * 0.55 if arm >= 0 else z) / 0.07 % 1
        dark *= 0.72 + 0.34 * min(1.0, 5 * min(q, 1 - q))
    elif finish == POCKETS and leg >= 0 and leg < 0.3:
        side, up = abs(abs(x) - 0.085), abs(z - 0.865)
        if y > 0 and side < 0.052 and up < 0.062 and (side > 0.045 or up > 0.055):
            dark *= 0.7
        if y < 0 and abs(abs(x) - 0.075 - (0.97 - z) * 0.55) < 0.005 and z > 0.86:
            dark *= 0.7
    return dark


@njit(cache=True, error_model="numpy")
def _strapped(strap, x, y, z, arm):
    """Whether the strap of a backpack (1) or of a shoulder bag (2) crosses a place of the top."""
    if strap == 1 and arm < 0.1 and z > 1.12 and y < 0.03:
        return abs(abs(x) - 0.105 - 0.9 * max(0.0, 1.26 - z)) < 0.022
    return strap == 2 and arm < 0.05 and z > 0.95 and abs((z - 1.22) - x * 1.35) < 0.028


@njit(cache=True, error_model="numpy")
def _face(mat, x, y, z, red, green, blue):
    """Colour of a face, f32: eyes, brows, mouth, the nose's shadow, a beard."""
    if y >= -0.08:
        return red, green, blue
    side, dark, hairy = abs(x), 1.0, 0.0
    eye, lid = abs(side - 0.031), abs(z - 1.722)
    if eye < 0.014 and lid < 0.006:
        dark = 0.3
    elif eye < 0.02 and lid < 0.013:
        dark = 0.75
    if abs(side - 0.032) < 0.019 and abs(z - 1.745 + 4 * (side - 0.032) ** 2) < 0.004:
        hairy = 0.6
    mouth = side < 0.023 and abs(z - 1.642) < 0.006
    if mouth:
        red, green, blue = red * 0.85, green * 0.6, blue * 0.6
    if side < 0.018 and abs(z - 1.666) < 0.005:
        dark *= 0.7
    if mat.trim > 0 and not mouth:  # thinner towards the cheeks
        hairy = max(hairy, mat.trim * min(1.0, max(0.0, (1.672 + 0.25 * side - z) / 0.015)))
    red, green, blue = red * dark, green * dark, blue * dark
    return (
        red + (mat.second[0] - red) * hairy,
        green + (mat.second[1] - green) * hairy,
        blue + (mat.second[2] - blue) * hairy,
    )


@njit(cache=True, error_model="numpy")
def shade(
    screen, world, normal, cloth, faces, material, mats, nearest, eye, sun_dir, sun, sky, ground, shadow, frame,
    samples, colour, alpha, part, owner, depth,
):  # fmt: skip
    """Fills the layers: each pixel is shaded once for every material among its samples."""
    height, width = alpha.shape
    seen = np.full(8, -1, np.int64)
    for row in range(height):
        for col in range(width):
            nearest_depth = 0.0
            done = 0
            for s in range(samples * samples):
                j, i = row * samples + s // samples, col * samples + s % samples
                f = nearest[j, i]
                if f < 0:
                    continue
                m = material[f]
                known = False
                for k in range(done):
                    if seen[k] == m:
                        known = True
                if known:
                    continue
                if done < 8:
                    seen[done] = m
                    done += 1
                share = 0
                for k in range(samples * samples):
                    g = nearest[row * samples + k // samples, col * samples + k % samples]
                    if g >= 0 and material[g] == m:
                        share += 1
                weight = share / (samples * samples)
                ia, ib, ic = faces[f, 0], faces[f, 1], faces[f, 2]
                ax, ay, bx, by = screen[ia, 0], screen[ia, 1], screen[ib, 0], screen[ib, 1]
                cx, cy = screen[ic, 0], screen[ic, 1]
                area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
                u = ((i + 0.5 - ax) * (cy - ay) - (cx - ax) * (j + 0.5 - ay)) / area
                v = ((bx - ax) * (j + 0.5 - ay) - (i + 0.5 - ax) * (by - ay)) / area
                wa, wb, wc = (1 - u - v) * screen[ia, 2], u * screen[ib, 2], v * screen[ic, 2]
                inverse = wa + wb + wc
                wa, wb, wc = wa / inverse, wb / inverse, wc / inverse
                px = wa * world[ia, 0] + wb * world[ib, 0] + wc * world[ic, 0]
                py = wa * world[ia, 1] + wb * world[ib, 1] + wc * world[ic, 1]
                pz = wa * world[ia, 2] + wb * world[ib, 2] + wc * world[ic, 2]
                nx = wa * normal[ia, 0] + wb * normal[ib, 0] + wc * normal[ic, 0]
                ny = wa * normal[ia, 1] + wb * normal[ib, 1] + wc * normal[ic, 1]
                nz = wa * normal[ia, 2] + wb * normal[ib, 2] + wc * normal[ic, 2]
                x = wa * cloth[ia, 0] + wb * cloth[ib, 0] + wc * cloth[ic, 0]
                y = wa * cloth[ia, 1] + wb * cloth[ib, 1] + wc * cloth[ic, 1]
                z = wa * cloth[ia, 2] + wb * cloth[ib, 2] + wc * cloth[ic, 2]
                arm = wa * cloth[ia, 3] + wb * cloth[ib, 3] + wc * cloth[ic, 3]
                leg = wa * cloth[ia, 4] + wb * cloth[ib, 4] + wc * cloth[ic, 4]
                vx, vy, vz = eye[0] - px, eye[1] - py, eye[2] - pz
                n = np.sqrt(vx * vx + vy * vy + vz * vz)
                vx, vy, vz = vx / n, vy / n, vz / n
                inner = 1.0
                if nx * vx + ny * vy + nz * vz < 0:
                    nx, ny, nz = -nx, -ny, -nz
                    inner = 0.6
                mat = mats[m]
                kind = mat.kind
                seed = np.float64(mat.seed)
                red, green, blue = mat.colour[0], mat.colour[1], mat.colour[2]
                dark = inner
                share_second = pattern(mat.pattern, mat.scale, seed, x, y, z, arm, leg)
                red2, green2, blue2 = mat.second[0], mat.second[1], mat.second[2]
                if share_second >= 2:
                    share_second -= 2
                    red2, green2, blue2 = mat.third[0], mat.third[1], mat.third[2]
                red += (red2 - red) * share_second
                green += (green2 - green) * share_second
                blue += (blue2 - blue) * share_second
                gloss = mat.gloss
                if kind == CLOTH:
                    dark *= _cloth_detail(mat, x, y, z, arm, leg)
                    if mat.strap > 0 and _strapped(mat.strap, x, y, z, arm):
                        red, green, blue = mat.third[0], mat.third[1], mat.third[2]
                elif kind == FACE:
                    red, green, blue = _face(mat, x, y, z, red, green, blue)
                elif kind == HAIR:
                    strand = noise(x * 150, y * 150, z * 12)[0]
                    dark *= 0.55 + 0.8 * strand
                    gloss *= 2 * strand
                elif kind == BAG:
                    dark *= 0.9 if abs(z * 9 % 1 - 0.5) < 0.06 else 1.0
                elif kind == SHOE and z < 0.016:
                    red, green, blue = mat.second[0], mat.second[1], mat.second[2]
                if mat.folds > 0:
                    gx, gy, gz, hollow = _folds(x, y, z, arm, leg, seed)
                    nx, ny, nz = nx - mat.folds * gx, ny - mat.folds * gy, nz - mat.folds * gz
                    dark *= 1 - mat.folds * hollow
                n = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
                nx, ny, nz = nx / n, ny / n, nz / n
                facing = max(0.0, nx * sun_dir[0] + ny * sun_dir[1] + nz * sun_dir[2])
                if facing > 0:
                    facing *= lit(shadow, frame, px + nx * 0.015, py + ny * 0.015, pz + nz * 0.015, 0.004, 1)
                up = 0.5 + 0.5 * nz
                if facing > 0 and gloss > 0:
                    hx, hy, hz = vx + sun_dir[0], vy + sun_dir[1], vz + sun_dir[2]
                    n = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
                    gloss *= max(0.0, (nx * hx + ny * hy + nz * hz) / n) ** 20
                # Between the thighs and towards the ground less of the sky is seen.
                shut = 1 - 0.35 * np.exp(-pz / 0.25) if pz < 1.3 else 1.0
                if leg >= 0 and leg < 0.6:
                    shut *= 0.65 + 0.35 * min(1.0, abs(x) / 0.06)
                for k in range(3):
                    value = red if k == 0 else (green if k == 1 else blue)
                    ambient = (sky[k] * up + ground[k] * (1 - up)) * shut
                    colour[row, col, k] += weight * (
                        dark * value * (ambient + sun[k] * facing) + gloss * sun[k] * facing
                    )
                alpha[row, col] += weight
                if inverse > nearest_depth:
                    nearest_depth = inverse
                    part[row, col] = mat.part
                    owner[row, col] = mat.owner
                    depth[row, col] = 1 / inverse
