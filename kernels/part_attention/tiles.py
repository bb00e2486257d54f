"""How the tokens are cut into tiles, and how large the tiles of each kernel are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cut:
    """N tokens as one small head tile and full body tiles."""

    head: int  # tokens in the head: cls, parts, registers, and patches that fill no body tile
    rows: int  # rows of the head tile: the power of two, 16 or more, that holds them
    body: int  # tokens in the body, all patches
    multiple: int  # the body is a whole number of these

    @property
    def padded(self) -> int:
        """Rows and columns of scores that are computed."""
        return self.rows + self.body

    @property
    def waste(self) -> float:
        """Share of the multiply-adds between tokens that are spent on padding, when all tokens ask."""
        return 1 - ((self.head + self.body) / self.padded) ** 2


@dataclass(frozen=True)
class Tiles:
    """Rows that a program owns, rows of one step of its walk over the body, and two options of Triton."""

    block: int
    step: int
    warps: int
    stages: int


def cut(tokens: int, special: int) -> Cut:
    """The cut for `tokens` tokens of which the first `special` (cls, parts, registers) must lie in the head.

    Large tiles are reused more, so smaller ones have to save a tenth of the rows to be taken.
    132 tokens are 4 + 128, 200 are 8 + 3 * 64, 260 are 4 + 2 * 128.
    """
    best = None
    for multiple in (128, 64, 32):
        head = special + (tokens - special) % multiple
        this = Cut(head, max(16, power_of_two(head)), tokens - head, multiple)
        if best is None or this.padded < 0.9 * best.padded:
            best = this
    assert best is not None
    return best


def forward_tiles(dim: int, bits: int, multiple: int) -> Tiles:
    """Chosen from the resource report: no spills on any architecture, at most 99 KiB of shared memory.

    Up to D = 64 two steps of keys and values are in flight while a third is multiplied. Beyond, a tile of
    128 needs its eight warps to hold the sums; one of 64 spills a few registers on sm_80 whatever the rest.
    fp32 is multiplied without matrix instructions: small tiles, for checking more than for speed.
    """
    if bits == 32:
        return Tiles(32, 32, 4 if dim <= 64 else 8, 1)
    if dim <= 64:
        return {128: Tiles(128, 64, 8, 3), 64: Tiles(64, 64, 4, 3), 32: Tiles(32, 32, 4, 2)}[multiple]
    return Tiles(128, 32, 8, 2) if multiple == 128 else Tiles(32, 32, 4, 2)


def backward_tiles(dim: int, bits: int, multiple: int) -> Tiles:
    """As `forward_tiles`. Two sums and five operands are alive at once, so the tiles are smaller.

    With three stages the D = 64 kernel takes 168 registers on sm_90, so that three programs fit at a time;
    with two it takes 172, and only two fit.
    """
    if bits == 32 or dim > 64:
        return Tiles(32, 32, 8, 1)
    return Tiles(min(multiple, 64), 32, 4, 3 if multiple > 32 else 2)


def power_of_two(number: int) -> int:
    """The smallest power of two that is at least `number`."""
    return 1 << (number - 1).bit_length()
