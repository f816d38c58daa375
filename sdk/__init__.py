"""Health of an ASGI or WSGI app as exact, mergeable one-second slots, and a signed recovery endpoint.

::

    from countersign_sdk import Recovery, instrument

    recovery = Recovery(secret)
    monitor = instrument(app, service="checkout", recovery=recovery)
"""

from .instrument import instrument
from .monitor import Monitor
from .recovery import Recovery, Run

__all__ = ["Monitor", "Recovery", "Run", "instrument"]
