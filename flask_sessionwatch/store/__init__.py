"""What is remembered across processes: workers, their findings, and what they count."""

from .base import Document as Document
from .base import Store as Store
from .base import StoreError as StoreError
from .base import Worker as Worker
from .opening import open_store as open_store

__all__ = ["Document", "Store", "StoreError", "Worker", "open_store"]
