"""What is wrong: each rule judges the ledger at a moment and yields findings."""

from .base import Moment as Moment
from .base import Rule as Rule
from .catalogue import DEFAULT_RULES as DEFAULT_RULES

__all__ = ["DEFAULT_RULES", "Moment", "Rule"]
