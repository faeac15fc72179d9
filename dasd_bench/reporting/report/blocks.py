"""Binary columns inside a page: gzip and base64, each content once, unpacked by the browser when it is looked at."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

RESOLUTION = 1000
"""Log-probabilities, entropies and weights are kept to a thousandth (nats for the first two)."""


@dataclass(slots=True)
class Blocks:
    """The blocks of a page by name; equal contents share one block."""

    texts: dict[str, str] = field(default_factory=dict)

    def add(self, data: bytes) -> str:
        """Keeps ``data`` and gives the name of its block."""
        name = hashlib.sha256(data).hexdigest()[:16]
        if name not in self.texts:
            self.texts[name] = base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()
        return name

    def add_json(self, value: Any) -> str:
        """A JSON value as a block."""
        return self.add(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode())

    def add_column(self, values: npt.NDArray[Any], kind: str) -> dict[str, str]:
        """A column of numbers as a block, little-endian. ``kind`` is u1, u2, u4 or i2; values beyond it are clipped."""
        dtype = np.dtype(kind).newbyteorder("<")
        info = np.iinfo(dtype)
        return {"block": self.add(np.clip(values, info.min, info.max).astype(dtype).tobytes()), "kind": kind}

    def add_scaled(self, values: npt.NDArray[Any], kind: str) -> dict[str, str]:
        """A column of reals in thousandths."""
        finite = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=1e6, neginf=-1e6)
        return self.add_column(np.rint(finite * RESOLUTION), kind)
