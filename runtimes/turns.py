"""In which order the engines take their turns, so that each has the same neighbours as every other."""

import collections
from typing import Counter, List, Optional, Tuple


class Turns:
    """Orders of `count` engines, which are numbers from 0 on, one order after the other.

    The next engine is always the one that has followed the last one least often until now, and of these the one that
    has had this place least often. So no engine profits from a neighbour that leaves it a warm cache or a low clock,
    nor from its place. There is no chance in it: the same numbers give the same orders.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._followed: Counter[Tuple[Optional[int], int]] = collections.Counter()
        self._placed: Counter[Tuple[int, int]] = collections.Counter()
        self._last: Optional[int] = None

    def open(self) -> None:
        """A pass begins: nobody comes before its first engine, and each engine opens a pass in its turn."""
        self._last = None

    def order(self) -> List[int]:
        """The engines of the next round, each of them once."""
        left, found = list(range(self._count)), []
        for place in range(self._count):
            chosen = min(left, key=lambda each: (self._followed[self._last, each], self._placed[place, each]))
            left.remove(chosen)
            found.append(chosen)
            self._followed[self._last, chosen] += 1
            self._placed[place, chosen] += 1
            self._last = chosen
        return found
