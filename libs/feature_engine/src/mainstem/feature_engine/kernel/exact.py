"""Exact integers of up to 124 bits as limbs of 31 bits, and their nearest float64."""

from mainstem.feature_engine.jit import jit

LIMB = 31
MASK = (1 << LIMB) - 1


@jit
def spread(n: int, total: int, high: int, low: int) -> float:
    """Return n (high 2**31 + low) - total² as the nearest float64; needs n < 2**31, the rest in [0, 2**62]."""
    high += low >> LIMB
    t1, t0 = total >> LIMB, total & MASK
    d0 = n * (low & MASK) - t0 * t0
    d1 = n * (high & MASK) - 2 * t1 * t0
    return nearest(n * (high >> LIMB) - t1 * t1, d1, d0)


@jit
def product(a: int, b: int) -> float:
    """Return a b as the nearest float64; needs both in [0, 2**62)."""
    a1, a0, b1, b0 = a >> LIMB, a & MASK, b >> LIMB, b & MASK
    return nearest(a1 * b1, a1 * b0 + a0 * b1, a0 * b0)


@jit
def nearest(d2: int, d1: int, d0: int) -> float:
    """Return d2 2**62 + d1 2**31 + d0 as the nearest float64, ties to even."""
    d1 += d0 >> LIMB
    d2 += d1 >> LIMB
    low = ((d1 & MASK) << LIMB) | (d0 & MASK)
    if d2 < 0:
        return -magnitude(-d2 - 1, (1 << 62) - low) if low > 0 else -magnitude(-d2, 0)
    return magnitude(d2, low)


@jit
def magnitude(high: int, low: int) -> float:
    """Return high 2**62 + low as the nearest float64; the bits that do not fit leave a sticky one behind."""
    if high == 0:
        return float(low)
    bits = 0
    while high >> bits > 0:
        bits += 1
    kept = (high << (62 - bits)) | (low >> bits)
    if low & ((1 << bits) - 1):
        kept |= 1
    return float(kept) * float(1 << bits)
