"""Table of callees: functions of libraries that take time, and the advice for each.

Modules are named as stack frames show them: ``json/encoder`` is ``json/encoder.py``, ``difflib`` a
module of the standard library, ``PIL/`` a folder, and ``re`` a module of C functions. Each rewrite for
pandas is measured by ``benchmarks/rows/advice.py``.
"""

from __future__ import annotations

import functools
from enum import IntEnum
from typing import NamedTuple

from ..metrics.stack_trie import StackFrame


class Covers(IntEnum):
    """Functions called back by a callee whose time belongs to it."""

    NOTHING = 0
    OWN_CODE = 1  # those without a callee of another library
    ALL = 2


class Callee(NamedTuple):
    """One row of the table.

    Attributes:
        name: its common name.
        advice: the recommended change.
        modules: where its functions are.
        functions: names of its functions, empty for all of its modules.
        looped: whether it is a cause only inside a loop.
        covers: the functions called back whose time belongs to it.
        steps: names of callees that belong to it where they are at the same line.
        library: callees of one library cover one another's callbacks.
        within: name of the callee that calls it, which it takes precedence over.
        iterated: whether it yields rows to a loop, the body of which belongs to it.
        removed: whether none of its time is left where the advice is followed.
    """

    name: str
    advice: str
    modules: tuple[str, ...]
    functions: tuple[str, ...] = ()
    looped: bool = False
    covers: Covers = Covers.NOTHING
    steps: tuple[str, ...] = ()
    library: str = ""
    within: str = ""
    iterated: bool = False
    removed: bool = False

    def covers_callback(self, callee: Callee | None) -> bool:
        """Return whether time in a function called back, with this callee in it, belongs to this one."""
        if self.covers == Covers.OWN_CODE:
            return callee is None or (callee.library == self.library != "")
        return self.covers == Covers.ALL


_INDEXING = "core/indexing"
_PANDAS = "pandas"
_ONCE = (  # one advice for a filter and its comparison: few samples may show only one of them
    "Compare and filter it once, or group it once and look the parts up, instead of once for each key."
)

TEMPLATE = Callee(
    "a template", "Render less: fewer rows per page, fewer macros, filters and includes per row.",
    ("<template>",),
)  # fmt: skip

UNWATCHED = Callee(
    "a query that is not watched",
    "Watch its database: perf.queries.instrument(engine) or perf.queries.wrap_connect(connect) shows "
    "each query, and whether it is slow, repeated or lacks an index.",
    ("database", "engine/base", "engine/default", "psycopg/", "psycopg2/", "pymysql/", "MySQLdb/",
     "asyncpg/", "oracledb/"),
    within="building ORM objects", steps=("building ORM objects",),
)  # fmt: skip
"""Only where no statement of the endpoint is watched: the time of those is a part."""

LOCK = Callee(
    "a lock",
    "Hold that lock for less time: compute and wait before it is taken; or use one lock for each thing "
    "that it protects.",
    ("threading",), ("Lock.acquire",),
)  # fmt: skip

CALLEES = (
    # -- pandas ------------------------------------------------------------------------------------
    Callee("iterrows",
           "Work on whole columns instead of a loop, e.g. df['a'] * df['b']; where rows are needed one "
           "by one, take them from to_dict('records') once.",
           ("core/frame",), ("DataFrame.iterrows",), library=_PANDAS, iterated=True, removed=True),
    Callee("itertuples", "Work on whole columns; zip only the columns that are needed.",
           ("core/frame",), ("DataFrame.itertuples", "DataFrame.itertuples.<locals>.<genexpr>"),
           library=_PANDAS, iterated=True, removed=True),
    Callee("apply(axis=1)",
           "Write what the function does with whole columns; each row becomes a Series otherwise.",
           ("core/apply",), ("FrameApply.apply_standard",),
           covers=Covers.OWN_CODE, library=_PANDAS, removed=True),
    Callee("groupby.apply",
           "Use the built-in aggregations, e.g. groupby(…)['x'].sum(); they run once for all groups.",
           ("groupby/groupby",), ("GroupBy._python_apply_general",),
           covers=Covers.OWN_CODE, library=_PANDAS, removed=True),
    Callee("a function for each value",
           "Write what the function does with the whole column, or call it once for each different "
           "value and map the results.",
           ("core/apply", "core/algorithms"), ("SeriesApply.apply_standard", "map_array"),
           covers=Covers.OWN_CODE, library=_PANDAS, removed=True),
    Callee("a filter of the whole table",
           _ONCE,
           ("core/frame", _INDEXING),
           ("DataFrame._getitem_bool_array", "_LocIndexer._getbool_axis",
            "_LocationIndexer._getbool_axis"),
           within="single cells or rows by loc",
           steps=("comparing a column of Python objects", "comparing columns in a loop"),
           library=_PANDAS, removed=True),
    Callee("comparing a column of Python objects",
           "Convert the column to category when it is read: astype('category').",
           ("ops/array_ops",), ("comp_method_OBJECT_ARRAY",), library=_PANDAS),
    Callee("comparing columns in a loop",
           _ONCE,
           ("core/arraylike",),
           ("OpsMixin.__eq__", "OpsMixin.__ne__", "OpsMixin.__lt__", "OpsMixin.__le__",
            "OpsMixin.__gt__", "OpsMixin.__ge__"), looped=True, library=_PANDAS, removed=True),
    Callee("single cells or rows by loc",
           "Take the columns as arrays before the loop, or the rows from to_dict('records').",
           (_INDEXING, "core/frame"),
           ("_LocationIndexer.__getitem__", "_ScalarAccessIndexer.__getitem__",
            "_AtIndexer.__getitem__", "DataFrame._get_value"),
           looped=True, steps=("single values of a Series",), library=_PANDAS, removed=True),
    Callee("single values of a Series",
           "Take the column as an array or a list before the loop.",
           ("core/series",), ("Series.__getitem__", "Series._get_value"),
           looped=True, library=_PANDAS, removed=True),
    Callee("single cells set by loc", "Collect the values in a list and assign the column once.",
           (_INDEXING,), ("_iLocIndexer._setitem_with_indexer", "_LocationIndexer.__setitem__"),
           looped=True, library=_PANDAS, removed=True),
    Callee("concat in a loop", "Collect the pieces in a list and concat them once, behind the loop.",
           ("reshape/concat",), ("concat",), looped=True, library=_PANDAS, removed=True),
    Callee("merge in a loop", "Merge the whole tables once, before the loop, and look the parts up.",
           ("reshape/merge",), ("merge",), looped=True, library=_PANDAS, removed=True),
    Callee("grouping in a loop",
           "Group the table once, before the loop, and take the groups from that.",
           ("groupby/grouper", "groupby/ops", "groupby/groupby", "core/frame", "core/series"),
           ("Grouping._codes_and_uniques", "DataFrame.groupby", "GroupBy.sum", "GroupBy.mean",
            "GroupBy.size", "GroupBy.count", "GroupBy.max", "GroupBy.min"),
           looped=True, library=_PANDAS, removed=True),
    Callee("sorting a table in a loop", "Sort the table once, before the loop.",
           ("core/frame", "core/series"), ("DataFrame.sort_values", "Series.sort_values"),
           looped=True, library=_PANDAS, removed=True),
    Callee("reading a workbook",
           "Where its formulas are not needed, write Parquet or CSV beside the workbook once, and read "
           "that.", ("excel/_base",), ("read_excel", "ExcelFile.__init__", "BaseExcelReader.parse"),
           library=_PANDAS),
    Callee("writing a workbook",
           "Write CSV where that will do; otherwise write the workbook in a background job.",
           ("core/generic", "excel/_base"), ("NDFrame.to_excel", "ExcelWriter.__exit__"),
           library=_PANDAS),
    Callee("reading CSV into a table",
           "Read it once and keep the table until the file changes; read only the columns needed "
           "(usecols=).", ("parsers/readers",), ("read_csv",), library=_PANDAS, removed=True),
    # -- text and data formats ---------------------------------------------------------------------
    Callee("compiling a regular expression",
           "Compile it once, at the start of the module: PATTERN = re.compile(…). Where it depends on a "
           "value, keep the compiled patterns in a dict.",
           ("re/__init__", "re/_compiler", "re/_parser"), ("_compile", "compile", "parse"),
           within="a regular expression", removed=True),
    Callee("a regular expression",
           "Match less often or less text, or make the pattern cheaper: no nested repeats such as "
           "(a+)+, and plain string methods (in, startswith, split) where they will do.",
           ("re", "re/__init__", "regex/regex", "regex/_regex")),
    Callee("JSON",
           "Send and read less: fewer fields and rows per response; or use orjson, which is several "
           "times as fast.",
           ("json/__init__", "json/encoder", "json/decoder", "json/scanner")),
    Callee("JSON", "Send and read less: fewer fields and rows per response.", ("orjson", "ujson")),
    Callee("csv.DictReader and csv.DictWriter",
           "Use csv.reader and csv.writer, which build no dict for each row.",
           ("csv",), ("DictReader.__next__", "DictReader.fieldnames", "DictWriter.writerow",
                      "DictWriter.writerows", "DictWriter._dict_to_list")),
    Callee("csv", "Process fewer rows per request, or read the file once and keep the result.",
           ("csv",)),
    Callee("XML", "Parse less: only the elements needed, with iterparse; or use lxml.",
           ("xml", "etree/ElementTree", "dom/minidom", "dom/expatbuilder", "sax/expatreader",
            "sax/handler")),
    Callee("HTML parsing", "Parse less of the page, or use the parser lxml.",
           ("bs4/", "html/parser", "html5lib/")),
    Callee("YAML", "Load it once and keep the result, or load it with CSafeLoader.", ("yaml/",),
           removed=True),
    Callee("pickling", "Pickle only the fields needed, or keep the pickled bytes and reuse them.",
           ("pickle", "marshal")),
    Callee("strptime",
           "Use datetime.fromisoformat where the format allows it, or parse each different text once.",
           ("_strptime",)),
    Callee("dateutil", "Use datetime.fromisoformat, or strptime with a fixed format.",
           ("parser/_parser", "dateutil/")),
    Callee("difflib",
           "Compare fewer or shorter texts; sort out the unlikely ones first, by length or "
           "quick_ratio().", ("difflib",)),
    # -- computing ---------------------------------------------------------------------------------
    Callee("password hashing",
           "It is slow on purpose. Hash once, at sign-in, and keep the session signed in; move mass "
           "hashing to a background job.",
           ("hashlib", "bcrypt", "bcrypt/__init__", "werkzeug/security", "passlib/", "argon2/"),
           ("pbkdf2_hmac", "scrypt", "hashpw", "checkpw", "kdf", "generate_password_hash",
            "check_password_hash", "_hash_internal")),
    Callee("hashing", "Hash less data, or keep the hash beside the data and reuse it.", ("hashlib",)),
    Callee("copy.deepcopy",
           "Copy only the parts that change; deepcopy copies every nested object.",
           ("copy",), ("deepcopy",)),
    Callee("sorting",
           "Sort once and keep the result, or let the database sort; where only the first n are needed, "
           "use heapq.nsmallest.", ("",), ("sorted", "list.sort")),
    Callee("compression",
           "Use a lower level, compress once and keep the result, or leave it to the web server or a "
           "background job.",
           ("zlib", "bz2", "lzma", "gzip", "zipfile", "zipfile/__init__", "tarfile", "brotli")),
    Callee("image processing",
           "Resize once, when the image is uploaded, and keep the result; or do it in a background job.",
           ("PIL/",)),
    Callee("garbage collection on demand", "Remove that gc.collect() from the request.", ("gc",),
           ("collect",), removed=True),
    Callee("NumPy in a loop", "Call NumPy once on the whole array instead of once per element.",
           ("numpy", "core/fromnumeric", "_core/fromnumeric", "numpy/"), looped=True, removed=True),
    # -- the web, the database ---------------------------------------------------------------------
    Callee("compiling a template",
           "Keep the template in a file and use render_template(), which compiles it once.",
           ("jinja2/environment", "jinja2/compiler", "jinja2/parser", "jinja2/lexer"),
           ("Environment.compile", "Environment._parse", "Environment._generate", "generate",
            "Environment.from_string"), removed=True),
    TEMPLATE,
    Callee("logging",
           "Its handlers are slow: put a logging.handlers.QueueHandler before them, or log less.",
           ("logging/__init__", "logging/handlers"), covers=Covers.ALL, removed=True),
    Callee("marshmallow",
           "Serialise fewer fields and rows (only=, pagination), or build the dicts directly.",
           ("marshmallow/",), covers=Covers.OWN_CODE, library="marshmallow"),
    Callee("pydantic",
           "Validate once, at the edge of the application; use model_construct() for trusted data.",
           ("pydantic/",), covers=Covers.OWN_CODE, library="pydantic"),
    Callee("building ORM objects",
           "Load fewer rows, or only the columns needed: select(Order.id, Order.total) returns rows "
           "without objects.",
           ("orm/loading", "orm/identity", "orm/state"), library="sqlalchemy"),
    UNWATCHED,
    Callee("preparing a TLS connection",
           "Keep one session or client for all requests; each new one loads all certificates again.",
           ("ssl",), ("create_default_context", "SSLContext.load_default_certs",
                      "SSLContext.load_verify_locations"), within="the network", removed=True),
    LOCK,
    Callee("another thread",
           "Shorten the work of that thread, or do not wait for it within the request.",
           ("threading",), ("Thread.join", "Thread._wait_for_tstate_lock")),
    Callee("the network",
           "Make fewer calls: cache the answer, or ask for several things at once. Set a timeout.",
           ("socket", "ssl", "select", "http/client", "urllib/request")),
    Callee("time.sleep", "Remove the sleep; wait for the event itself, or outside of the request.",
           ("time",), ("sleep",), removed=True),
    Callee("importing a module", "Import it at the start of the file.",
           ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"), removed=True),
)  # fmt: skip


def _module(frame: StackFrame) -> tuple[str, str]:
    """Return the module of a library frame as the table names it, and the name in it."""
    if not frame.file:
        module, _, name = frame.function.partition(".")
        return (module, name) if name and module != "list" else ("", frame.function)
    folder, _, file = frame.file.rpartition("/")
    stem = file.removesuffix(".py")
    if folder.lower() == "lib" or folder.startswith(("python3", "pypy3")):
        return stem, frame.function
    return (f"{folder}/{stem}" if folder else stem), frame.function


@functools.lru_cache(maxsize=8192)
def candidates(frame: StackFrame) -> tuple[Callee, ...]:
    """Return the rows of the table that a library frame belongs to."""
    module, function = _module(frame)
    return tuple(
        callee for callee in CALLEES
        if (not callee.functions or function in callee.functions)
        and any(
            module == name or (name.endswith("/") and module.startswith(name))
            for name in callee.modules
        )
    )  # fmt: skip
