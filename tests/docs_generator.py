"""`docs/generate.py` as a module: it is a script and lies in no package, so it is loaded from its file."""

from __future__ import annotations

import importlib.util

from architecture_rules import ROOT

_SPEC = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
if _SPEC is None or _SPEC.loader is None:
    raise ImportError("docs/generate.py cannot be loaded")
generate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(generate)
