"""See what a long transaction goes on reading while others have changed it.

Nothing of this runs while no transaction is a long one. When another one commits what it wrote, the long ones are marked, and
only their next statements are looked at.
"""

from __future__ import annotations

import re
import threading
import typing as t

from .clock import clock
from .ledger import Ledger
from .records import Checkout
from .records import Incident
from .records import Reads
from .records import Transaction
from .stack import Stack

#: Seconds after which a request's transaction becomes a long one at the next tick, while its body is not yet sent.
_LONG = 1.0
#: Objects among which is looked for old ones.
_OBJECTS_SEEN = 1_000
#: Repetitions at which a read is told: first, and when it is no chance any more.
_TOLD_AT = (2, 4)
_SNAPSHOTS = ("REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT")


class Stale:
    """Finds transactions that others have overtaken.

    :param ledger: what is live.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def note_table(self, transaction: Transaction | None, context: t.Any) -> None:
        """Remember what *transaction* writes while long ones are open."""
        table = getattr(getattr(context.compiled, "statement", None), "table", None)
        name = getattr(table, "name", None)
        if transaction is None or name is None:
            return
        tables = transaction.tables
        if tables is None:
            tables = transaction.tables = {}
        rows = tables.setdefault(name, set())
        if rows is not None and not context.isinsert:
            keys = _keys_of(table, context)
            if keys is None or len(rows) >= _OBJECTS_SEEN:
                tables[name] = None
            else:
                rows.update(keys)

    def published(self, transaction: Transaction, session: t.Any) -> None:
        """Mark the long transactions that have loaded what *transaction* has just changed and committed."""
        tables, transaction.tables = transaction.tables or {}, None
        for other in self._ledger.long.copy():
            if other is transaction or not other.checkouts:
                continue
            reader = other.session()
            if reader is None or reader is session or other.engine is not transaction.engine:
                continue
            loaded = _loaded(reader, tables)
            for checkout in other.held:
                mark(checkout, tables, (table for each in loaded for table in _tables_of(each)))
            known = [each for each in loaded if any(tables.get(table) for table in _tables_of(each))]
            if known and _is_of_a_test(other, transaction):
                self._overtaken(other, transaction, known[0].class_.__name__)

    def _overtaken(self, reader: Transaction, writer: Transaction, entity: str) -> None:
        if reader.overtaken or not reader.held or reader.scope is None or reader.scope.ended:
            return
        reader.overtaken = True
        details = {"entity": entity, "writer": writer, "reads": reader.held[0].reads}
        incident = Incident("overtaken", reader.stack, reader.holder, reader.scope, reader, **details)
        reader.scope.add_incident(incident)

    def read(
        self,
        checkout: Checkout,
        statement: str,
        parameters: t.Any,
        context: t.Any,
        here: t.Callable[[], Stack],
    ) -> None:
        """Look at a statement of a transaction that others have overtaken.

        :param here: captures the stack, where that is needed.
        """
        transaction, reads = checkout.transaction, checkout.reads
        session = None if transaction is None else transaction.session()
        if transaction is None or reads is None or session is None or not _is_orm_select(context):
            return
        if reads.fresh or _loads_anew(context):
            reads.fresh = True  # whoever refreshes knows
            return
        written = _overtaken_by(session, reads, statement, context)
        times = reads.repeated(statement, parameters, written)
        if times in _TOLD_AT:
            details = {"times": times, "often": times == _TOLD_AT[-1], "waits": set(reads.tables) == {""}}
            incident = Incident("stale", here(), checkout.user, transaction.scope, transaction, **details)
            # Not to the scope: a loop that never ends would not be told.
            self._ledger.incidents.append(incident)


def mark(checkout: Checkout, tables: t.Iterable[str], loaded: t.Iterable[str]) -> None:
    """Look closer at the next reads of *checkout*: *tables* may have changed, or "" for any.

    :param loaded: the tables whose changed rows it has loaded.
    """
    reads = checkout.reads
    if reads is None:
        reads = checkout.reads = Reads()
    reads.number += 1
    reads.tables.update(dict.fromkeys(tables, reads.number))
    reads.objects.update(dict.fromkeys(loaded, reads.number))
    checkout.closer = True


def is_long(transaction: Transaction) -> bool:
    """Whether *transaction* is more than a request's view, which reads one state and is done."""
    scope = transaction.scope
    if scope is None or scope.kind != "request" or scope.status is not None:
        return True
    return clock() - transaction.began_at > _LONG


def _is_of_a_test(reader: Transaction, writer: Transaction) -> bool:
    """Whether a context of the main thread has waited for a request that another thread has served."""
    if reader.scope is None or writer.scope is None or reader.scope.kind == "request":
        return False
    on_main_thread = reader.holder.thread is threading.main_thread()
    return on_main_thread and writer.scope.kind == "request" and writer.holder is not reader.holder


def _keys_of(table: t.Any, context: t.Any) -> set[tuple[t.Any, ...]] | None:
    """Return the primary keys of the rows that a flush updates or deletes; None for any other statement."""
    if len(context.compiled_parameters) > _OBJECTS_SEEN:
        return None
    columns = list(table.primary_key)
    # A flush names these values after the column, with its table for an UPDATE.
    for names in ([each._label for each in columns], [each.key for each in columns]):
        if columns and all(name in values for values in context.compiled_parameters for name in names):
            return {tuple(values[name] for name in names) for values in context.compiled_parameters}
    return None


def _loaded(reader: t.Any, tables: t.Mapping[str, set[tuple[t.Any, ...]] | None]) -> list[t.Any]:
    """Return the states of what *reader* has loaded of the changed rows."""
    states = reader.identity_map.all_states()[:_OBJECTS_SEEN]
    return [state for state in states if not state.expired and _is_among(state, tables)]


def _is_among(state: t.Any, tables: t.Mapping[str, set[tuple[t.Any, ...]] | None]) -> bool:
    if state.obj() is None or state.key is None:
        return False
    for table in _tables_of(state):
        if table in tables:
            rows = tables[table]
            if rows is None or state.key[1] in rows:
                return True
    return False


def _tables_of(state: t.Any) -> list[str]:
    return [table.name for table in state.mapper.tables if hasattr(table, "name")]


def _is_orm_select(context: t.Any) -> bool:
    compiled = context.compiled
    state = getattr(compiled, "compile_state", None)
    return state is not None and hasattr(state, "_entities") and bool(compiled.statement.is_select)


def _loads_anew(context: t.Any) -> bool:
    options = context.execution_options.get("_sa_orm_load_options")
    refreshes = getattr(options, "_refresh_state", None) is not None
    return refreshes or bool(getattr(options, "_populate_existing", False))


def _overtaken_by(session: t.Any, reads: Reads, statement: str, context: t.Any) -> int:
    """Return the number of the latest commit that this read ought to see and does not; 0 if there is none.

    What is loaded already comes from the identity map, and everything from a snapshot where there is one.
    """
    entities = any(
        hasattr(each, "_with_polymorphic_mappers") for each in context.compiled.compile_state._entities
    )
    if not entities and not _has_snapshot(context):
        return 0
    tables = reads.objects if entities else reads.tables
    written = [number for table, number in tables.items() if not table or _names(statement, table)]
    if not written or (entities and not _has_loaded(session, statement)):
        return 0
    return max(written)


def _names(statement: str, table: str) -> bool:
    return re.search(rf"\b{re.escape(table)}\b", statement) is not None


def _has_loaded(session: t.Any, statement: str) -> bool:
    """Whether *session* still has an object of one of the tables in *statement*, and has not expired it."""
    states = session.identity_map.all_states()[:_OBJECTS_SEEN]
    return any(
        not state.expired
        and state.obj() is not None
        and any(_names(statement, table) for table in _tables_of(state))
        for state in states
    )


def _has_snapshot(context: t.Any) -> bool:
    """Whether the database shows this transaction one state all along. SQLite's driver begins none for a read."""
    dialect = context.dialect
    if dialect.name == "sqlite":
        return False
    level = context.root_connection.get_execution_options().get("isolation_level")
    if level is None:
        level = getattr(dialect, "_on_connect_isolation_level", None) or dialect.default_isolation_level
    return str(level).upper() in _SNAPSHOTS
