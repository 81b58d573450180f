"""Whether the engines that are still to be loaded will fit into the memory, judged by those that are."""

from typing import Optional

from runtimes import sampler
from runtimes.errors import UserError

_MIB = 1 << 20
_FEWER = "measure fewer: --network dense --network sparse, or one runtime at a time"


class Room:
    """Looks at what the machine has left while `engines` and `twins`, one after the other, are loaded."""

    def __init__(self, engines: int, twins: int, hint: str = _FEWER) -> None:
        """`hint` is what to do where they do not fit."""
        self._what = "{} network{}".format(engines, "" if engines == 1 else "s")
        if twins:
            self._what += " and {}".format("a twin" if twins == 1 else "{} twins".format(twins))
        self._hint = hint
        self._total, self._loaded = engines + twins, 0
        self._before = _available()

    def one_more(self) -> None:
        """One more engine is loaded.

        Raises:
            UserError: the others would not fit if each of them took as much as those that are loaded took on average.
        """
        self._loaded += 1
        now = _available()
        if self._before is None or now is None:
            return
        each = max(0, self._before - now) / self._loaded
        if each * (self._total - self._loaded) > now:
            raise UserError(
                "{} do not fit into the {} MiB that are available: one takes about {:.0f}".format(
                    self._what, self._before // _MIB, each / _MIB
                ),
                self._hint,
            )


def _available() -> Optional[int]:
    return sampler.memory().get("MemAvailable")
