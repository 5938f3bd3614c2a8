"""Short codes that people copy by hand: from a keyed digest to ten signs that reveal nothing and betray a slip.

Nine signs of Crockford's base 32 carry 45 bits; the tenth checks them. Signs are weighed with different powers of a
generator of the field with 32 elements, so that every single wrong sign and every two exchanged ones are noticed.

Sources: D. Crockford, "Base 32", https://www.crockford.com/base32.html (alphabet, reading of I, L and O); F. J.
MacWilliams and N. J. A. Sloane, "The Theory of Error-Correcting Codes", 1977 (check over a finite field).
"""

from __future__ import annotations

from fraudlab.schema import InputError

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 10
_BITS, _HALF, _REDUCED = 5, 5, 0b100101  # x^5 + x^2 + 1 is primitive
_READ = str.maketrans({"I": "1", "L": "1", "O": "0", "-": None, " ": None})


def short_code(digest: bytes) -> str:
    """Return the code of a digest: nine signs of its first 45 bits and one that checks them, in two groups of five.

    Parameters
    ----------
    digest : at least six bytes, of a keyed digest: what stands in it cannot be worked out from the code.

    >>> short_code(bytes(8)), short_code(b"\\xff" * 8)
    ('00000-00000', 'ZZZZZ-ZZZZX')
    >>> short_code(b"fraudlab")
    'CSS62-XB4D7'
    """
    number = int.from_bytes(digest[:6], "big") >> 3
    signs = [number >> _BITS * place & 31 for place in range(LENGTH - 2, -1, -1)]
    code = "".join(ALPHABET[sign] for sign in [*signs, _check(signs)])
    return f"{code[:_HALF]}-{code[_HALF:]}"


def read_code(text: str) -> str | None:
    """Return a code as `short_code` writes it, or None for what is none; case, hyphens and I, L, O do not matter.

    >>> read_code("css62 xb4d7"), read_code("ooooo-ooooo"), read_code("CSS62-XB4D8")
    ('CSS62-XB4D7', '00000-00000', None)
    """
    plain = text.strip().upper().translate(_READ)
    if len(plain) != LENGTH or any(sign not in ALPHABET for sign in plain):
        return None
    signs = [ALPHABET.index(sign) for sign in plain]
    return f"{plain[:_HALF]}-{plain[_HALF:]}" if _check(signs[:-1]) == signs[-1] else None


def demand_code(text: str, what: str) -> str:
    """Return a code as it is written, or refuse what is none.

    Raises
    ------
    InputError : it is too short or too long, or a sign is wrong.
    """
    if (code := read_code(text)) is None:
        raise InputError(
            f"{what}: must be ten letters and digits such as CSS62-XB4D7, the last of which checks the others; found "
            f"{len(text.strip())} signs that do not fit; copy it again from the queue"
        )
    return code


def _check(signs: list[int]) -> int:
    total = 0
    for sign in signs:
        total = _doubled(total ^ sign)
    return total


def _doubled(value: int) -> int:
    value <<= 1
    return value ^ _REDUCED if value & 32 else value
