"""Every rule that is on unless told otherwise."""

from __future__ import annotations

from .base import Rule
from .commits import CollateralRollback
from .commits import ExtraTransaction
from .commits import PartialCommit
from .commits import RefetchAfterCommit
from .commits import SavepointEscape
from .configuration import DuplicateListeners
from .configuration import NoLivenessCheck
from .configuration import RecordQueries
from .configuration import RemovedOption
from .configuration import TrackModifications
from .connections import AbandonedConnection
from .connections import LeakedConnection
from .connections import LongCheckout
from .connections import NestedCheckout
from .contexts import ContextLeak
from .contexts import NestedContext
from .contexts import SessionAfterTeardown
from .deployment import ConnectedBeforeFork
from .deployment import PoolSmallerThanThreads
from .deployment import ScopedSessionWithoutTeardown
from .deployment import SingleProcessMetrics
from .errors import CrossSessionObject
from .errors import DetachedAccess
from .errors import NoAppContext
from .legacy import LegacyQuery
from .longlived import IdentityMapGrowth
from .longlived import StaleSession
from .misuse import ClosedTransactionInContext
from .misuse import DoubleBegin
from .misuse import ReentrantFlush
from .pooled import CheckoutChurn
from .pooled import ForkedPool
from .pooled import OpenCursor
from .pooled import StalePooledConnection
from .pools import EngineChurn
from .pools import PoolExhausted
from .pools import PoolNearLimit
from .pools import PoolStuck
from .scopes import CrossThreadSession
from .scopes import SessionOutsideScope
from .sessions import FailedTransaction
from .sessions import LeakedSession
from .sessions import UncommittedChanges
from .timing import IsolationIgnored
from .timing import MidRequestClose
from .timing import PrematureAutoflush
from .timing import SqlInAfterCommit
from .transactions import IdleInTransaction
from .transactions import LockHeld
from .transactions import LongTransaction
from .workload import CommitStorm

DEFAULT_RULES: tuple[Rule, ...] = (
    LeakedConnection(),
    AbandonedConnection(),
    LongCheckout(),
    NestedCheckout(),
    ForkedPool(),
    OpenCursor(),
    StalePooledConnection(),
    CheckoutChurn(),
    LeakedSession(),
    IdleInTransaction(),
    LockHeld(),
    UncommittedChanges(),
    FailedTransaction(),
    PartialCommit(),
    LongTransaction(),
    SavepointEscape(),
    CollateralRollback(),
    MidRequestClose(),
    IsolationIgnored(),
    SqlInAfterCommit(),
    RefetchAfterCommit(),
    ExtraTransaction(),
    PrematureAutoflush(),
    SessionOutsideScope(),
    SessionAfterTeardown(),
    CrossThreadSession(),
    StaleSession(),
    ContextLeak(),
    NestedContext(),
    IdentityMapGrowth(),
    CrossSessionObject(),
    DetachedAccess(),
    NoAppContext(),
    ReentrantFlush(),
    DoubleBegin(),
    ClosedTransactionInContext(),
    LegacyQuery(),
    CommitStorm(),
    PoolExhausted(),
    PoolNearLimit(),
    PoolStuck(),
    EngineChurn(),
    TrackModifications(),
    RecordQueries(),
    DuplicateListeners(),
    PoolSmallerThanThreads(),
    RemovedOption(),
    ConnectedBeforeFork(),
    NoLivenessCheck(),
    ScopedSessionWithoutTeardown(),
    SingleProcessMetrics(),
)
