"""Deciders: named dials between 0 and 1, sampled so that one request always gets the same answer."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from xfast.errors import ParameterError

__all__ = ["DECIDERS", "Decider", "sampled"]

#: Deciders that the mixer asks (HOME_MIXER §14).
DECIDERS = (
    "override_qf_use_lap7",
    "override_qf_use_fou",
    "enable_phoenix_retrieval_lap7_to_fou",
    "enable_phoenix_retrieval_fou_to_lap7",
    "vf_brand_safety_dark_traffic",
)


def _mix(value: int) -> int:
    """SplitMix64's finaliser: neighbouring ids land far apart."""
    value &= 2**64 - 1
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return value ^ (value >> 31)


def sampled(key: int, share: float, salt: int = 0) -> bool:
    """Whether ``key`` falls into the first ``share`` (0 to 1) of a uniform order fixed by ``salt``."""
    return _mix(_mix(key) ^ salt) < share * 2.0**64


class Decider:
    """Share of requests per name.

    Parameters
    ----------
    shares
        Name -> share between 0 (off) and 1 (on).

    Raises
    ------
    ParameterError
        An unknown name or a share outside [0, 1].
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        for name, share in shares.items():
            if name not in DECIDERS:
                raise ParameterError(f"decider {name!r} is unknown, known are {', '.join(DECIDERS)}")
            if not 0 <= share <= 1:
                raise ParameterError(f"decider {name} is {share}, must be between 0 and 1")
        self._shares = dict(shares)
        # A salt per name, so that two deciders at 10 % do not pick the same requests.
        self._salts = {name: int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) for name in shares}

    def is_on(self, name: str, key: int) -> bool:
        """Whether the decider is on for a key, usually the request id."""
        share = self._shares.get(name, 0.0)
        return share >= 1 or (share > 0 and sampled(key, share, self._salts[name]))
