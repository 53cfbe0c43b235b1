"""Whether a finished run is still what its manifest says: ``RunCheck`` and the faults that it finds."""

from producer.verify.faults import RunFault
from producer.verify.run import RunCheck

__all__ = ["RunCheck", "RunFault"]
