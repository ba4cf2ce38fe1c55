"""One program on many devices and in many processes: meshes, layouts, messages."""

from gapjax.parallel.distributed import (
    any_process,
    exchange,
    from_first,
    in_shares,
    is_first,
    to_host,
)
from gapjax.parallel.layout import Layout
from gapjax.parallel.mesh import make_mesh

__all__ = [
    "Layout",
    "any_process",
    "exchange",
    "from_first",
    "in_shares",
    "is_first",
    "make_mesh",
    "to_host",
]
