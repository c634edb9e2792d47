"""The errors a database can cause, under the engine's one root."""

from tuner.errors import TunedbError


class DatabaseError(TunedbError):
    """The database cannot be reached, read or written; the message says why and what to do."""


class UnreachableDatabaseError(DatabaseError):
    """There is no way to the database now: a server that does not answer, a file that is not there."""


class NewerDatabaseError(DatabaseError):
    """The database was written by a newer tunedb than this one."""


class OutdatedDatabaseError(DatabaseError):
    """The database was written by an older tunedb and needs ``tunedb db upgrade``."""


class NotFoundError(TunedbError):
    """Nothing stored answers the question; the message says what is stored instead."""


class AmbiguousError(NotFoundError):
    """Several things answer to what was named; the message says which."""


class UnknownNameError(TunedbError):
    """A command names something that there is not; the message says what there is."""


class SessionBusyError(TunedbError):
    """Another live process is running the same tuning session."""


class SessionLostError(TunedbError):
    """Another process took this session over while this one was silent."""


class FormatError(TunedbError):
    """A record of a log file that is not what its format says."""
