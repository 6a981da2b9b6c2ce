/* The fast path of a statement in C: the classes of fastpath.py, which explains what they do and why.

   Read that module first. The functions here have the names and the order of steps of those there; a
   difference is a bug here. Between two statements an application and its driver run thousands of
   instructions, so our code and data are cold each time: fields are members of a struct and a step is one
   C function, to touch little. The rest is a call of a method in Python.

   Rules: no global state; every object in a struct is visited by the garbage collector; no private API; a
   failure of ours that is an Exception goes to the recorder, as in Python. */

#include "../../recording/_speedups.h"

enum { TRACKING_OFF, TRACKING_COUNT, TRACKING_COUNT_WITH_CALL_SITE };
#define EVENTS 100
#define FIELDS_PER_CALL 5
#define DRIVER 1
#define ENGINE 2
#define ORM 3
#define LAZY 4
#define ALL_SAMPLED 32
#define MAX_BUFFERED 2000
#define MAX_KEPT_TEXT 2000
#define MAX_PAGE_HASHES 2
#define UNCOMPARABLE Py_NotImplemented

#define SAME(X, name) X(name, #name)
#define NAMES(X) \
    SAME(X, query_tracking) SAME(X, clock) SAME(X, monotonic_ns) SAME(X, runnable_ns) SAME(X, failed) \
    X(create_notes, "scope") SAME(X, queries_of) SAME(X, find) SAME(X, add_parameters) SAME(X, settle) \
    SAME(X, explain) SAME(X, unreadable) SAME(X, queued) SAME(X, rowcount) SAME(X, description) \
    SAME(X, close) SAME(X, isupdate) SAME(X, isdelete) SAME(X, is_text) SAME(X, _is_server_side) \
    SAME(X, _rowcount) SAME(X, _real) SAME(X, _counter) SAME(X, _ended) SAME(X, execute) SAME(X, executemany) \
    SAME(X, executescript) SAME(X, fetchone) SAME(X, fetchmany) SAME(X, fetchall) SAME(X, execution_options) \
    SAME(X, get) SAME(X, _sa_orm_load_options) SAME(X, _result_disable_adapt_to_context) \
    SAME(X, _lazy_loaded_from) SAME(X, _knitperf_execution) \
    SAME(X, queries) SAME(X, __name__) X(empty, "")
#define TYPES(X) \
    X(span) X(notes) \
    X(execution) X(statement) X(request_queries) X(query_counter) X(counting_cursor) X(executor) \
    X(engine_listener)
DEFINE_STATE(NAMES, TYPES)

/* -- helpers ----------------------------------------------------------------------------------------- */

/* Reports a failure of ours to the recorder. 0, or -1 with the error if it is not an Exception or there is
   no recorder. */
static int
failed(State *state, PyObject *owner)
{
    PyObject *error;
    int result;
    if (owner == NULL || !PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    error = PyErr_GetRaisedException();
    result = CALL(owner, state->failed, state->queries, error);
    Py_DECREF(error);
    return result;
}

/* Reads the clock of a span's recorder, and the runnable time of the thread if the request is sampled; -1
   with an error. */
static int
read_clocks(State *state, Span *span, long long *now, int sampled, long long *cpu)
{
    PyObject *owner;
    int result = -1;
    if (!REQUIRE(span, owner)) {
        return -1;
    }
    owner = Py_NewRef(span->owner);
    if (!sampled || read_clock(state, owner, state->runnable_ns, cpu) == 0) {
        result = read_clock(state, owner, state->monotonic_ns, now);
    }
    Py_DECREF(owner);
    return result;
}

/* Appends to a list, and takes the reference to the item; -1 with an error. */
static int
append(PyObject *list, PyObject *item)
{
    int result = -1;
    if (item != NULL) {
        if (list == NULL || !PyList_CheckExact(list)) {
            PyErr_SetString(PyExc_TypeError, "a field must be a list");
        }
        else {
            result = PyList_Append(list, item);
        }
        Py_DECREF(item);
    }
    return result;
}

/* Adds to a number in a list; -1 with an error. */
static int
add_to_item(PyObject *list, Py_ssize_t index, long long value)
{
    long long before;
    PyObject *sum;
    if (to_int64(Py_NewRef(PyList_GET_ITEM(list, index)), &before) < 0) {
        return -1;
    }
    sum = PyLong_FromLongLong(before + value);
    return sum == NULL ? -1 : PyList_SetItem(list, index, sum);
}

/* The notes of a request, borrowed; NULL without an error if there are none yet. */
static Notes *
notes_of(State *state, Span *span)
{
    if (!is_set(span->notes)) {
        return NULL;
    }
    if (!PyObject_TypeCheck(span->notes, state->notes)) {
        PyErr_SetString(PyExc_TypeError, "notes must be a NotesBase");
        return NULL;
    }
    return (Notes *)span->notes;
}

/* -- the types without methods ----------------------------------------------------------------------- */

#define EXECUTION_FIELDS(X, S) \
    X(S, OPTIONAL, span, READONLY) X(S, OPTIONAL, call_site, READONLY) \
    X(S, OPTIONAL, cpu_began, READONLY) X(S, INT64, nested_ns, READONLY) \
    X(S, INT64, nested_cpu_ns, READONLY) X(S, INT64, began, READONLY)
typedef struct {
    PyObject_HEAD
    EXECUTION_FIELDS(STRUCT_FIELD, Execution)
} Execution;
DEFINE_GC_TYPE(execution, Execution, "flask_knitperf.collectors.sql._speedups.ExecutionBase",
               EXECUTION_FIELDS, NEW)

#define STATEMENT_FIELDS(X, S) \
    X(S, OPTIONAL, fingerprint, 0) X(S, OBJECT, text, 0) X(S, OBJECT, call_site, 0) \
    X(S, OBJECT, durations, 0) X(S, OBJECT, results, 0) X(S, OBJECT, parameter_hashes, 0) \
    X(S, OBJECT, page_hashes, 0) X(S, INT64, database, 0) X(S, INT64, lazy_count, 0) \
    X(S, INT64, value_count, 0) X(S, INT64, merged, 0) X(S, INT64, text_hash, 0) \
    X(S, INT64, ended, 0) X(S, INT64, awaits_rows, 0) X(S, INT64, sender, 0) \
    X(S, INT64, setup_ns, 0)
typedef struct {
    PyObject_HEAD
    STATEMENT_FIELDS(STRUCT_FIELD, Statement)
} Statement;
DEFINE_GC_TYPE(statement, Statement, "flask_knitperf.collectors.sql._speedups.StatementBase",
               STATEMENT_FIELDS, NEW)

/* Whether the fields are as in every object that was initialised. */
static int
is_statement(State *state, PyObject *object)
{
    Statement *statement = (Statement *)object;
    return object != NULL && PyObject_TypeCheck(object, state->statement)
        && statement->durations != NULL && PyList_CheckExact(statement->durations)
        && statement->results != NULL && PyList_CheckExact(statement->results)
        && statement->parameter_hashes != NULL && PyList_CheckExact(statement->parameter_hashes);
}

#define REQUEST_QUERIES_FIELDS(X, S) \
    X(S, OBJECT, calls, 0) X(S, OBJECT, groups, 0) X(S, OBJECT, last, 0) X(S, OBJECT, statements, 0) \
    X(S, INT64, allow_depth, 0) X(S, INT64, buffered, 0) X(S, INT64, count, 0) X(S, INT64, cpu_ns, 0) \
    X(S, INT64, own_ns, 0)
typedef struct {
    PyObject_HEAD
    REQUEST_QUERIES_FIELDS(STRUCT_FIELD, RequestQueries)
} RequestQueries;
DEFINE_GC_TYPE(request_queries, RequestQueries,
               "flask_knitperf.collectors.sql._speedups.RequestQueriesBase", REQUEST_QUERIES_FIELDS, NEW)

/* A new reference to the queries of a request so far, from an object that is not of our making. */
static RequestQueries *
checked_queries(State *state, PyObject *queries)
{
    if (queries != NULL && !PyObject_TypeCheck(queries, state->request_queries)) {
        PyErr_SetString(PyExc_TypeError, "the queries of a request must be a RequestQueriesBase");
        Py_CLEAR(queries);
    }
    return (RequestQueries *)queries;
}

/* A new reference to what the notes of a request hold, NULL without an error if that is nothing. */
static PyObject *
noted_queries(State *state, Span *span)
{
    PyObject *notes = span->notes;
    if (!is_set(notes) || !PyObject_TypeCheck(notes, state->notes) || !is_set(((Notes *)notes)->queries)) {
        return NULL;
    }
    return Py_NewRef(((Notes *)notes)->queries);
}

/* -- QueryCounterBase -------------------------------------------------------------------------------- */

#define QUERY_COUNTER_FIELDS(X, S) \
    X(S, HIDDEN, current, 0) X(S, HIDDEN, caller, 0) X(S, HIDDEN, explains, 0)
typedef struct {
    PyObject_HEAD
    State *state;
    QUERY_COUNTER_FIELDS(STRUCT_FIELD, QueryCounter)
} QueryCounter;

static int
query_counter_init(QueryCounter *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"current", "caller", "explains", NULL};
    PyObject *current, *caller, *explains;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO", names, &PyContextVar_Type, &current, &caller,
                                     &explains)) {
        return -1;
    }
    if (self->current != NULL) { /* an execution that begins borrows the fields */
        PyErr_SetString(PyExc_RuntimeError, "already initialised");
        return -1;
    }
    self->state = state_of(Py_TYPE(self));
    self->current = Py_NewRef(current);
    self->caller = Py_NewRef(caller);
    self->explains = Py_NewRef(explains);
    return self->state == NULL ? -1 : 0;
}

/* Sets the fields of a new execution; -1 with an error. */
static int
start_execution(QueryCounter *self, Execution *execution, Span *span, long tracking, long depth)
{
    State *state = self->state;
    PyObject *number;
    long long cpu = 0;
    Notes *notes;
    int sampled = is_set(span->cpu_began);
    if (tracking == TRACKING_COUNT_WITH_CALL_SITE) {
        number = PyLong_FromLong(depth);
        execution->call_site = number == NULL ? NULL : PyObject_CallOneArg(self->caller, number);
        Py_XDECREF(number);
    }
    else {
        execution->call_site = Py_NewRef(state->empty);
    }
    if (execution->call_site == NULL) {
        return -1;
    }
    notes = notes_of(state, span);
    if (notes == NULL && !PyErr_Occurred() && CALL(span, state->create_notes) == 0) {
        notes = notes_of(state, span);
    }
    if (notes == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "a span has no notes");
        }
        return -1;
    }
    execution->span = Py_NewRef(span);
    execution->nested_ns = notes->nested_ns;
    execution->nested_cpu_ns = notes->nested_cpu_ns;
    if (read_clocks(state, span, &execution->began, sampled, &cpu) < 0) {
        return -1;
    }
    execution->cpu_began = sampled ? PyLong_FromLongLong(cpu) : Py_NewRef(Py_None);
    return execution->cpu_began == NULL ? -1 : 0;
}

/* A new ExecutionBase, None if queries are not tracked here, NULL with an error that is not an Exception.

   ``depth`` is the number of frames in Python to skip. */
static PyObject *
begin(QueryCounter *self, long depth)
{
    PyObject *current = NULL, *tracking, *execution = NULL;
    State *state = self->state;
    long long value = TRACKING_OFF;
    Span *span;
    if (self->current == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "never initialised");
        return NULL;
    }
    if (PyContextVar_Get(self->current, NULL, &current) < 0) {
        return NULL;
    }
    span = (Span *)current;
    if (!is_set(current) || !PyObject_TypeCheck(current, state->span) || span->ended
            || !is_set(span->owner)) {
        Py_XDECREF(current);
        Py_RETURN_NONE;
    }
    tracking = PyObject_GetAttr(span->owner, state->query_tracking);
    if (to_int64(tracking, &value) == 0) {
        execution = value == TRACKING_OFF ? Py_NewRef(Py_None)
            : state->execution->tp_alloc(state->execution, 0);
        if (value != TRACKING_OFF && execution != NULL
                && start_execution(self, (Execution *)execution, span, (long)value, depth) < 0) {
            Py_CLEAR(execution);
        }
    }
    if (execution == NULL && failed(state, span->owner) == 0) {
        execution = Py_NewRef(Py_None);
    }
    Py_DECREF(current);
    return execution;
}

static PyObject *
query_counter_begin(QueryCounter *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"depth", NULL};
    long depth = 1;
    if ((kwargs != NULL || PyTuple_GET_SIZE(args) > 0)
            && !PyArg_ParseTupleAndKeywords(args, kwargs, "|l", names, &depth)) {
        return NULL;
    }
    return begin(self, depth);
}

/* A new reference to the queries of a request so far; NULL with an error. */
static RequestQueries *
queries_of(QueryCounter *self, Span *span)
{
    PyObject *queries = noted_queries(self->state, span);
    if (queries == NULL) {
        queries = PyObject_CallMethodOneArg((PyObject *)self, self->state->queries_of, (PyObject *)span);
    }
    return checked_queries(self->state, queries);
}

/* Adds the exclusive time of an execution; stores its wall time. -1 with an error. */
static int
add_time(State *state, Execution *execution, RequestQueries *queries, long long now, int sampled,
         long long used, long long *wall)
{
    Notes *notes = notes_of(state, (Span *)execution->span);
    long long own;
    if (notes == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "a span has no notes");
        }
        return -1;
    }
    if (take_work(notes, execution->began, now, execution->nested_ns, &own) < 0) {
        return -1;
    }
    queries->own_ns += own;
    if (sampled) {
        queries->cpu_ns += take_cpu(notes, used, execution->nested_cpu_ns);
    }
    *wall = now - execution->began;
    return 0;
}

/* A new reference to the kept statement of a text, line and database; NULL without an error if there is
   none. */
static PyObject *
kept_statement(State *state, RequestQueries *queries, PyObject *text, PyObject *call_site,
               PyObject *database)
{
    PyObject *statements = queries->statements, *key, *statement = NULL;
    if (statements == NULL || !PyDict_CheckExact(statements)) {
        return NULL;
    }
    Py_INCREF(statements);
    key = PyTuple_Pack(3, text, call_site, database);
    if (key != NULL) {
        statement = PyDict_GetItemWithError(statements, key);
        statement = is_statement(state, statement) ? Py_NewRef(statement) : NULL;
        Py_DECREF(key);
    }
    Py_DECREF(statements);
    return statement;
}

/* A new reference to the statement of a text, line and database: the last one, a kept one, or a new one. */
static Statement *
find_statement(State *state, RequestQueries *queries, PyObject *text, PyObject *call_site,
               long long database)
{
    Statement *last = (Statement *)queries->last;
    PyObject *number, *statement = NULL;
    const Py_ssize_t length = PyUnicode_CheckExact(text) ? PyUnicode_GET_LENGTH(text) : 0;
    if (is_statement(state, queries->last) && text == last->text && length > 0
            && call_site == last->call_site && database == last->database) {
        return (Statement *)Py_NewRef(last);
    }
    number = PyLong_FromLongLong(database);
    if (number == NULL) {
        return NULL;
    }
    if (PyUnicode_CheckExact(text) && length <= MAX_KEPT_TEXT) {
        statement = kept_statement(state, queries, text, call_site, number);
    }
    if (statement != NULL) {
        SET(queries->last, statement);
    }
    else if (!PyErr_Occurred()) {
        statement = PyObject_CallMethodObjArgs(
            (PyObject *)queries, state->find, text, call_site, number, NULL);
        if (statement != NULL && !is_statement(state, statement)) {
            PyErr_SetString(PyExc_TypeError, "find() must return a StatementBase");
            Py_CLEAR(statement);
        }
    }
    Py_DECREF(number);
    return (Statement *)statement;
}

static int
is_plain(PyObject *value)
{
    return value == Py_None || PyUnicode_CheckExact(value) || PyLong_CheckExact(value)
        || PyFloat_CheckExact(value) || PyBytes_CheckExact(value) || PyBool_Check(value);
}

/* A new reference to the values of parameters; NULL without an error unless hashing them runs no code of
   the host. */
static PyObject *
plain_values(PyObject *parameters)
{
    PyObject *values = NULL, *list;
    Py_ssize_t i;
    if (PyTuple_CheckExact(parameters)) {
        values = Py_NewRef(parameters);
    }
    else if (PyDict_CheckExact(parameters) && (list = PyDict_Values(parameters)) != NULL) {
        values = PyList_AsTuple(list);
        Py_DECREF(list);
    }
    for (i = 0; values != NULL && i < PyTuple_GET_SIZE(values); i++) {
        if (!is_plain(PyTuple_GET_ITEM(values, i))) {
            Py_CLEAR(values);
        }
    }
    return values;
}

/* Adds the hash of all values but the last two, which are LIMIT and OFFSET; -1 with an error. */
static int
add_page_hash(PyObject *page_hashes, PyObject *values)
{
    PyObject *others, *number = NULL;
    Py_hash_t hash;
    int result = -1;
    if (page_hashes == NULL || !PySet_Check(page_hashes)
            || PySet_GET_SIZE(page_hashes) >= MAX_PAGE_HASHES) {
        return 0;
    }
    others = PyTuple_GetSlice(values, 0, PyTuple_GET_SIZE(values) - 2);
    if (others != NULL) {
        hash = PyObject_Hash(others);
        number = hash == -1 ? NULL : PyLong_FromSsize_t(hash);
        Py_DECREF(others);
    }
    if (number != NULL) {
        result = PySet_Add(page_hashes, number);
        Py_DECREF(number);
    }
    return result;
}

/* Appends a hash of parameters: 1, or 0 if they are not plain values; -1 with an error. */
static int
add_plain_parameters(Statement *statement, PyObject *parameters)
{
    PyObject *values;
    Py_ssize_t size;
    Py_hash_t hash;
    int result = -1;
    if (parameters == Py_None) {
        return append(statement->parameter_hashes, PyLong_FromLong(0)) < 0 ? -1 : 1;
    }
    values = plain_values(parameters);
    if (values == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    size = PyTuple_GET_SIZE(values);
    hash = PyObject_Hash(values);
    if (hash != -1 && append(statement->parameter_hashes, PyLong_FromSsize_t(hash)) == 0) {
        statement->value_count += size;
        result = size > 2 && add_page_hash(statement->page_hashes, values) < 0 ? -1 : 1;
    }
    Py_DECREF(values);
    return result;
}

/* Keeps an execution for the timeline of its request, if there is room; -1 with an error. */
static int
keep_call(RequestQueries *queries, Statement *statement, Py_ssize_t index, long long began,
          long long ended)
{
    PyObject *calls = queries->calls;
    if (calls == NULL || !PyList_CheckExact(calls)
            || PyList_GET_SIZE(calls) >= FIELDS_PER_CALL * EVENTS) {
        return 0;
    }
    return REQUIRE(statement, results) && append(calls, Py_NewRef(statement)) == 0
        && append(calls, Py_NewRef(statement->results)) == 0
        && append(calls, PyLong_FromSsize_t(index)) == 0
        && append(calls, PyLong_FromLongLong(began)) == 0
        && append(calls, PyLong_FromLongLong(ended)) == 0 ? 0 : -1;
}

/* Appends what is known of an execution to its statement; -1 with an error. */
static int
add_execution(QueryCounter *self, RequestQueries *queries, Statement *statement, long long wall,
              PyObject *parameters, PyObject *result)
{
    int added;
    if (append(statement->durations, PyLong_FromLongLong(wall)) < 0
            || append(statement->results, Py_NewRef(result)) < 0) {
        return -1;
    }
    if (parameters == UNCOMPARABLE || queries->allow_depth) {
        return append(statement->parameter_hashes, Py_NewRef(Py_None));
    }
    added = add_plain_parameters(statement, parameters);
    return added != 0 ? added : CALL(self, self->state->add_parameters, statement, parameters);
}

/* Ends an execution; returns a new reference to its statement and stores its number. */
static Statement *
end(QueryCounter *self, Execution *execution, PyObject *text, long long database, PyObject *parameters,
    PyObject *result, long long *number)
{
    State *state = self->state;
    Span *span = (Span *)execution->span;
    const int sampled = is_set(execution->cpu_began);
    long long now, cpu = 0, wall;
    RequestQueries *queries;
    Statement *statement = NULL;
    Py_ssize_t index;
    if (execution->cpu_began == NULL || state == NULL) { /* the field that begin() sets last */
        PyErr_SetString(PyExc_TypeError, "an execution that never began");
        return NULL;
    }
    if (read_clocks(state, span, &now, sampled, &cpu) < 0
            || (queries = queries_of(self, span)) == NULL) {
        return NULL;
    }
    if (sampled) {
        cpu -= PyLong_AsLongLong(execution->cpu_began);
    }
    if (add_time(state, execution, queries, now, sampled, cpu, &wall) == 0) {
        statement = find_statement(state, queries, text, execution->call_site, database);
    }
    if (statement != NULL) {
        index = PyList_GET_SIZE(statement->durations);
        if (add_execution(self, queries, statement, wall, parameters, result) < 0
                || keep_call(queries, statement, index, execution->began, now) < 0) {
            Py_CLEAR(statement);
        }
        else {
            statement->ended = now;
            queries->buffered++;
            *number = statement->merged + index;
            if (queries->buffered >= MAX_BUFFERED && CALL(self, state->settle, span) < 0) {
                Py_CLEAR(statement);
            }
        }
    }
    Py_DECREF(queries);
    return statement;
}

static PyObject *
query_counter_end(QueryCounter *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"execution", "text", "database", "parameters", "result", NULL};
    PyObject *execution, *text, *parameters, *result;
    long long database, number = 0;
    Statement *statement;
    State *state = state_of(Py_TYPE(self));
    if (state == NULL || !PyArg_ParseTupleAndKeywords(
            args, kwargs, "O!OLOO", names, state->execution, &execution, &text, &database, &parameters,
            &result)) {
        return NULL;
    }
    statement = end(self, (Execution *)execution, text, database, parameters, result, &number);
    return statement == NULL ? NULL : Py_BuildValue("(NL)", statement, number);
}

/* Explains a statement, if one is to be explained; -1 with an error. */
static int
explain(QueryCounter *self, Execution *execution, Statement *statement, PyObject *cursor,
        PyObject *parameters)
{
    PyObject *queued;
    int any;
    if (parameters == UNCOMPARABLE) {
        return 0;
    }
    queued = PyObject_GetAttr(self->explains, self->state->queued);
    any = queued == NULL ? -1 : PyObject_IsTrue(queued);
    Py_XDECREF(queued);
    return any <= 0 ? any
        : CALL(self, self->state->explain, execution->span, statement, cursor, parameters);
}

/* Takes the reference to a cursor's number of rows; returns one to a number, -1 if it is none. */
static PyObject *
as_count(PyObject *rows, int *positive)
{
    int overflow = 0;
    if (rows != NULL && !PyLong_CheckExact(rows)) {
        Py_SETREF(rows, PyLong_FromLong(-1));
    }
    if (rows != NULL) {
        *positive = PyLong_AsLongLongAndOverflow(rows, &overflow) > 0 || overflow > 0;
    }
    return rows;
}

/* Ends a successful execution, and takes the reference to the number of its rows. The rows to count, or
   None; NULL with an error of any kind. */
static PyObject *
end_counted(QueryCounter *self, Execution *execution, PyObject *text, long long database,
            PyObject *parameters, PyObject *cursor, PyObject *rows, int returns_rows)
{
    PyObject *pending = NULL;
    long long number = 0;
    Statement *statement = rows == NULL ? NULL
        : end(self, execution, text, database, parameters, rows, &number);
    Py_XDECREF(rows);
    if (statement == NULL) {
        return NULL;
    }
    if (explain(self, execution, statement, cursor, parameters) == 0) {
        pending = returns_rows ? Py_BuildValue("(OOL)", execution->span, statement, number)
            : Py_NewRef(Py_None);
    }
    Py_DECREF(statement);
    return pending;
}

/* Reads an attribute of a driver's cursor: None where the driver has none, or raises; NULL with an error
   of the host. */
static PyObject *
attribute(QueryCounter *self, PyObject *cursor, PyObject *name)
{
    PyObject *error, *value = PyObject_GetAttr(cursor, name);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
        error = PyErr_GetRaisedException();
        value = PyObject_CallMethodOneArg((PyObject *)self, self->state->unreadable, error);
        Py_DECREF(error);
    }
    return value;
}

/* The rest of end_with_rows(); NULL with an error of any kind. */
static PyObject *
end_with_rows_unchecked(QueryCounter *self, Execution *execution, PyObject *text, long long database,
                        PyObject *parameters, PyObject *cursor)
{
    int positive = 0, returns_rows = 0;
    PyObject *description, *rows = as_count(attribute(self, cursor, self->state->rowcount), &positive);
    if (rows != NULL && !positive) {
        description = attribute(self, cursor, self->state->description);
        if (description == NULL) {
            Py_CLEAR(rows);
        }
        returns_rows = is_set(description);
        Py_XDECREF(description);
    }
    return end_counted(self, execution, text, database, parameters, cursor, rows, returns_rows);
}

/* Ends a successful execution: the rows to count, or None. NULL with an error that is not an Exception. */
static PyObject *
end_with_rows(QueryCounter *self, Execution *execution, PyObject *text, long long database,
              PyObject *parameters, PyObject *cursor)
{
    PyObject *pending = NULL;
    if (execution->span == NULL || self->state == NULL) {
        PyErr_SetString(PyExc_TypeError, "an execution that never began");
        return NULL;
    }
    pending = end_with_rows_unchecked(self, execution, text, database, parameters, cursor);
    if (pending != NULL && pending != Py_None) {
        Statement *statement = (Statement *)PyTuple_GET_ITEM(pending, 1);
        statement->sender = DRIVER;
        statement->awaits_rows = 1;
    }
    if (pending == NULL && failed(self->state, ((Span *)execution->span)->owner) == 0) {
        Py_RETURN_NONE;
    }
    return pending;
}

static PyObject *
query_counter_end_with_rows(QueryCounter *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"execution", "text", "database", "parameters", "cursor", NULL};
    PyObject *execution, *text, *parameters, *cursor;
    long long database;
    State *state = state_of(Py_TYPE(self));
    if (state == NULL || !PyArg_ParseTupleAndKeywords(
            args, kwargs, "O!OLOO", names, state->execution, &execution, &text, &database, &parameters,
            &cursor)) {
        return NULL;
    }
    return end_with_rows(self, (Execution *)execution, text, database, parameters, cursor);
}

#define METHOD(name, function, flags) {name, (PyCFunction)(void (*)(void))function, flags, NULL}

static PyMethodDef query_counter_methods[] = {
    METHOD("begin", query_counter_begin, METH_VARARGS | METH_KEYWORDS),
    METHOD("end", query_counter_end, METH_VARARGS | METH_KEYWORDS),
    METHOD("end_with_rows", query_counter_end_with_rows, METH_VARARGS | METH_KEYWORDS),
    {0},
};

DEFINE_GC_TYPE(query_counter, QueryCounter, "flask_knitperf.collectors.sql._speedups.QueryCounterBase",
               QUERY_COUNTER_FIELDS, NEW {Py_tp_init, query_counter_init},
               {Py_tp_methods, query_counter_methods}, )

/* -- CountingCursorBase ------------------------------------------------------------------------------ */

#define COUNTING_CURSOR_FIELDS(X, S) X(S, OPTIONAL, _real, 0) X(S, OPTIONAL, _pending, 0)
typedef struct {
    PyObject_HEAD
    State *state;
    COUNTING_CURSOR_FIELDS(STRUCT_FIELD, CountingCursor)
    long long singles, sampled_wall, sampled_cpu; /* rows fetched one by one, and the times of their sample */
} CountingCursor;

static int
counting_cursor_init(CountingCursor *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"cursor", "pending", NULL};
    PyObject *cursor, *pending = Py_None;
    if (ARE_TWO(args, kwargs)) {
        cursor = PyTuple_GET_ITEM(args, 0);
        pending = PyTuple_GET_ITEM(args, 1);
    }
    else if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", names, &cursor, &pending)) {
        return -1;
    }
    self->state = state_of(Py_TYPE(self));
    SET(self->_real, cursor);
    SET(self->_pending, pending);
    return self->state == NULL ? -1 : 0;
}

static int
is_initialised(CountingCursor *self)
{
    if (self->state == NULL || self->_real == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "never initialised");
        return 0;
    }
    return 1;
}

static PyObject *
counting_cursor_close(CountingCursor *self, void *Py_UNUSED(closure))
{
    return is_initialised(self) ? PyObject_GetAttr(self->_real, self->state->close) : NULL;
}

static PyObject *
counting_cursor_description(CountingCursor *self, void *Py_UNUSED(closure))
{
    return is_initialised(self) ? PyObject_GetAttr(self->_real, self->state->description) : NULL;
}

/* Adds fetched rows to an execution, unless that was aggregated already; -1 with an error. ``error`` is
   NULL or the name of a class. */
static int
add_rows(State *state, Span *span, Statement *statement, long long number, long long wall, long long own,
         long long cpu, long long rows, PyObject *error)
{
    const long long index = number - statement->merged;
    long long before;
    RequestQueries *queries;
    int result = 0;
    if (span->ended || index < 0 || !is_statement(state, (PyObject *)statement)
            || index >= PyList_GET_SIZE(statement->durations)
            || index >= PyList_GET_SIZE(statement->results)) {
        return 0;
    }
    if (error != NULL) {
        result = PyList_SetItem(statement->results, index, Py_NewRef(error));
        if (result == 0 && index < PyList_GET_SIZE(statement->parameter_hashes)) {
            result = PyList_SetItem(statement->parameter_hashes, index, Py_NewRef(Py_None));
        }
    }
    else if (PyLong_CheckExact(PyList_GET_ITEM(statement->results, index))) {
        result = to_int64(Py_NewRef(PyList_GET_ITEM(statement->results, index)), &before);
        if (result == 0) { /* -1 stands for an unknown number */
            result = add_to_item(statement->results, index, before < 0 ? rows - before : rows);
        }
    }
    if (result < 0 || add_to_item(statement->durations, index, wall) < 0) {
        return -1;
    }
    queries = checked_queries(state, noted_queries(state, span));
    if (queries == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_AttributeError, "queries");
        }
        return -1;
    }
    queries->own_ns += own;
    queries->cpu_ns += cpu;
    Py_DECREF(queries);
    return 0;
}

static PyObject *
module_add_rows(PyObject *module, PyObject *args)
{
    State *state = PyModule_GetState(module);
    PyObject *span, *statement, *error = NULL;
    long long number, wall, own, cpu, rows;
    if (!PyArg_ParseTuple(args, "O!O!LLLLL|U", state->span, &span, state->statement, &statement, &number,
                          &wall, &own, &cpu, &rows, &error)) {
        return NULL;
    }
    if (error != NULL && PyUnicode_GET_LENGTH(error) == 0) {
        error = NULL;
    }
    if (add_rows(state, (Span *)span, (Statement *)statement, number, wall, own, cpu, rows, error) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The clocks before rows are fetched, and what they belong to. */
typedef struct {
    Span *span;
    Statement *statement;
    long long number, nested_ns, cpu_began, began;
    int sampled;
} Fetch;

/* Whether CPU time is read for a row: it takes long, so of many rows only a sample is. */
static int
is_sampled_row(long long number)
{
    return number < ALL_SAMPLED || position(number, ALL_SAMPLED) == 0;
}

/* Adds the time from an execution to the first fetch of its rows. */
static void
add_setup(Statement *statement, long long began)
{
    if (statement->awaits_rows) {
        statement->awaits_rows = 0;
        statement->setup_ns += Py_MAX(0, began - statement->ended); /* of another thread */
    }
}

/* Reads the clocks before rows are fetched; -1 with an error. The references are for drop_fetch(). */
static int
start_fetch(State *state, Fetch *fetch, PyObject *pending, CountingCursor *counting, int single)
{
    PyObject *span, *statement, *number;
    Notes *notes;
    if (!PyTuple_Check(pending) || PyTuple_GET_SIZE(pending) != 3
            || !PyObject_TypeCheck(span = PyTuple_GET_ITEM(pending, 0), state->span)
            || !PyObject_TypeCheck(statement = PyTuple_GET_ITEM(pending, 1), state->statement)
            || !PyLong_CheckExact(number = PyTuple_GET_ITEM(pending, 2))) {
        PyErr_SetString(PyExc_TypeError, "pending must be a span, a statement and a number");
        return -1;
    }
    fetch->span = (Span *)Py_NewRef(span);
    fetch->statement = (Statement *)Py_NewRef(statement);
    fetch->number = PyLong_AsLongLong(number);
    notes = notes_of(state, fetch->span);
    if (PyErr_Occurred()) {
        return -1;
    }
    fetch->nested_ns = notes == NULL ? 0 : notes->nested_ns;
    fetch->sampled = is_set(fetch->span->cpu_began) && (!single || is_sampled_row(counting->singles));
    if (read_clocks(state, fetch->span, &fetch->began, fetch->sampled, &fetch->cpu_began) < 0) {
        return -1;
    }
    add_setup(fetch->statement, fetch->began);
    return 0;
}

/* The CPU time of fetching a row: read, or the share of the time that it was in the sample. */
static long long
sampled_cpu(CountingCursor *counting, int sampled, long long wall, long long cpu)
{
    counting->singles++;
    if (!sampled) {
        return (long long)((double)wall * (double)counting->sampled_cpu
                           / (double)Py_MAX(1, counting->sampled_wall));
    }
    counting->sampled_wall += wall;
    counting->sampled_cpu += cpu;
    return cpu;
}

/* Reads the clocks again, and counts; -1 with an error. */
static int
end_fetch(State *state, Fetch *fetch, CountingCursor *counting, PyObject *rows, int single,
          PyObject *error)
{
    long long now, wall, own, cpu = 0;
    Py_ssize_t count = 0;
    Notes *notes;
    if (read_clocks(state, fetch->span, &now, fetch->sampled, &cpu) < 0) {
        return -1;
    }
    wall = now - fetch->began;
    cpu -= fetch->sampled ? fetch->cpu_began : 0;
    if (single && is_set(fetch->span->cpu_began)) {
        cpu = sampled_cpu(counting, fetch->sampled, wall, cpu);
    }
    notes = fetch->span->ended ? NULL : notes_of(state, fetch->span);
    if (notes == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (take_work(notes, fetch->began, now, fetch->nested_ns, &own) < 0) {
        return -1;
    }
    notes->nested_cpu_ns += cpu;
    if (rows != NULL && rows != Py_None) {
        count = single ? 1 : PyObject_Size(rows);
    }
    return count < 0 ? -1
        : add_rows(state, fetch->span, fetch->statement, fetch->number, wall, own, cpu, count, error);
}

static void
drop_fetch(Fetch *fetch)
{
    Py_XDECREF(fetch->span);
    Py_XDECREF(fetch->statement);
}

/* Calls a method that fetches, or without one takes the next item; NULL without an error after the last. */
static PyObject *
call_fetch(PyObject *real, PyObject *method, PyObject *args, PyObject *kwargs)
{
    PyObject *rows = method != NULL ? PyObject_Call(method, args, kwargs) : Py_TYPE(real)->tp_iternext(real);
    if (rows == NULL && method == NULL && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyErr_Clear();
    }
    return rows;
}

/* Fetches between the clocks, and counts. */
static PyObject *
fetch_timed(CountingCursor *self, PyObject *real, PyObject *method, PyObject *pending, PyObject *args,
            PyObject *kwargs, int single)
{
    State *state = self->state;
    PyObject *rows = NULL, *error = NULL, *name = NULL, *owner;
    Fetch fetch = {0};
    int started = start_fetch(state, &fetch, pending, self, single);
    owner = fetch.span == NULL ? NULL : Py_XNewRef(fetch.span->owner);
    if (started == 0 || failed(state, owner) == 0) {
        rows = call_fetch(real, method, args, kwargs);
        if (started == 0) {
            if (rows == NULL && (error = PyErr_GetRaisedException()) != NULL) {
                name = PyObject_GetAttr((PyObject *)Py_TYPE(error), state->__name__);
            }
            if (((error != NULL && name == NULL)
                    || end_fetch(state, &fetch, self, rows, single, name) < 0)
                    && failed(state, owner) < 0) { /* what ends the process */
                Py_CLEAR(rows);
                Py_CLEAR(error);
            }
            if (error != NULL) {
                PyErr_SetRaisedException(error);
            }
            Py_XDECREF(name);
        }
    }
    Py_XDECREF(owner);
    drop_fetch(&fetch);
    return rows;
}

/* Fetches one row or several; counts them, and adds their time. Without a name it takes the next item. */
static PyObject *
fetch(CountingCursor *self, PyObject *name, PyObject *args, PyObject *kwargs, int single)
{
    PyObject *real = Py_NewRef(self->_real), *method = NULL, *rows = NULL, *pending;
    if (name == NULL || (method = PyObject_GetAttr(real, name)) != NULL) {
        if (is_set(self->_pending)) {
            pending = Py_NewRef(self->_pending);
            rows = fetch_timed(self, real, method, pending, args, kwargs, single);
            Py_DECREF(pending);
        }
        else {
            rows = call_fetch(real, method, args, kwargs);
        }
    }
    Py_XDECREF(method);
    Py_DECREF(real);
    return rows;
}

#define DEFINE_FETCH(name, single) \
    static PyObject * \
    counting_cursor_##name(CountingCursor *self, PyObject *args, PyObject *kwargs) \
    { \
        return is_initialised(self) ? fetch(self, self->state->name, args, kwargs, single) : NULL; \
    }
DEFINE_FETCH(fetchone, 1)
DEFINE_FETCH(fetchmany, 0)
DEFINE_FETCH(fetchall, 0)

/* The cursor itself, as those of most drivers are; else what counts the items of the driver's iterator. */
static PyObject *
counting_cursor_iter(CountingCursor *self)
{
    PyObject *rows = is_initialised(self) ? PyObject_GetIter(self->_real) : NULL, *counting;
    if (rows == NULL || (rows != self->_real && !is_set(self->_pending))) {
        return rows;
    }
    counting = rows == self->_real ? Py_NewRef(self)
        : PyObject_CallFunctionObjArgs((PyObject *)self->state->counting_cursor, rows, self->_pending, NULL);
    Py_DECREF(rows);
    return counting;
}

static PyObject *
counting_cursor_next(CountingCursor *self)
{
    if (!is_initialised(self)) {
        return NULL;
    }
    if (!PyIter_Check(self->_real)) {
        PyErr_Format(PyExc_TypeError, "'%.200s' object is not an iterator", Py_TYPE(self->_real)->tp_name);
        return NULL;
    }
    return fetch(self, NULL, NULL, NULL, 1);
}

static PyObject *
counting_cursor_getattro(CountingCursor *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr((PyObject *)self, name);
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return value;
    }
    PyErr_Clear();
    return is_initialised(self) ? PyObject_GetAttr(self->_real, name) : NULL;
}

static int
counting_cursor_setattro(CountingCursor *self, PyObject *name, PyObject *value)
{
    return is_initialised(self) ? PyObject_SetAttr(self->_real, name, value) : -1;
}

static PyGetSetDef counting_cursor_getset[] = {
    {"close", (getter)counting_cursor_close, NULL, NULL, NULL},
    {"description", (getter)counting_cursor_description, NULL, NULL, NULL},
    {0},
};

static PyMethodDef counting_cursor_methods[] = {
    METHOD("fetchone", counting_cursor_fetchone, METH_VARARGS | METH_KEYWORDS),
    METHOD("fetchmany", counting_cursor_fetchmany, METH_VARARGS | METH_KEYWORDS),
    METHOD("fetchall", counting_cursor_fetchall, METH_VARARGS | METH_KEYWORDS),
    {0},
};

DEFINE_GC_TYPE(counting_cursor, CountingCursor,
               "flask_knitperf.collectors.sql._speedups.CountingCursorBase", COUNTING_CURSOR_FIELDS,
               NEW {Py_tp_init, counting_cursor_init}, {Py_tp_methods, counting_cursor_methods},
               {Py_tp_getset, counting_cursor_getset}, {Py_tp_getattro, counting_cursor_getattro},
               {Py_tp_setattro, counting_cursor_setattro}, {Py_tp_iter, counting_cursor_iter},
               {Py_tp_iternext, counting_cursor_next}, )

/* -- ExecutorBase ------------------------------------------------------------------------------------ */

/* Calls the driver's method of a name, without a frame in Python between the caller and the driver. */
static PyObject *
execute(State *state, PyObject *self, PyObject *name, PyObject *args, PyObject *kwargs)
{
    PyObject *real, *counter = NULL, *method = NULL, *execution = NULL, *result, *error = NULL, *ended = NULL;
    if ((real = PyObject_GetAttr(self, state->_real)) == NULL) {
        return NULL;
    }
    method = PyObject_GetAttr(real, name);
    counter = method == NULL ? NULL : PyObject_GetAttr(self, state->_counter);
    if (counter != NULL && !PyObject_TypeCheck(counter, state->query_counter)) {
        PyErr_SetString(PyExc_TypeError, "_counter must be a QueryCounterBase");
    }
    else if (counter != NULL && (execution = begin((QueryCounter *)counter, 0)) != NULL) {
        result = PyObject_Call(method, args, kwargs);
        error = result == NULL ? PyErr_GetRaisedException() : NULL;
        ended = PyObject_CallMethodObjArgs(
            self, state->_ended, name, execution, result == NULL ? Py_None : result,
            error == NULL ? Py_None : error, args, kwargs == NULL ? Py_None : kwargs, NULL);
        if (ended != NULL && error != NULL) {
            Py_CLEAR(ended);
            PyErr_SetRaisedException(Py_NewRef(error));
        }
        Py_XDECREF(result);
        Py_XDECREF(error);
    }
    Py_XDECREF(execution);
    Py_XDECREF(counter);
    Py_XDECREF(method);
    Py_DECREF(real);
    return ended;
}

#define DEFINE_EXECUTE(name) \
    static PyObject * \
    executor_##name(PyObject *self, PyObject *args, PyObject *kwargs) \
    { \
        State *state = state_of(Py_TYPE(self)); \
        return state == NULL ? NULL : execute(state, self, state->name, args, kwargs); \
    }
DEFINE_EXECUTE(execute)
DEFINE_EXECUTE(executemany)
DEFINE_EXECUTE(executescript)

static PyMethodDef executor_methods[] = {
    METHOD("execute", executor_execute, METH_VARARGS | METH_KEYWORDS),
    METHOD("executemany", executor_executemany, METH_VARARGS | METH_KEYWORDS),
    METHOD("executescript", executor_executescript, METH_VARARGS | METH_KEYWORDS),
    {0},
};

static PyType_Slot executor_slots[] = {{Py_tp_methods, executor_methods}, {0, NULL}};
static PyType_Spec executor_spec = {"flask_knitperf.collectors.sql._speedups.ExecutorBase", 0, 0, TYPE_FLAGS,
                                    executor_slots};

/* -- EngineListenerBase ------------------------------------------------------------------------------ */

#define ENGINE_LISTENER_FIELDS(X, S) \
    X(S, HIDDEN, counter, 0) X(S, HIDDEN, own_cursor, 0) X(S, HIDDEN, count_rows, 0) \
    X(S, INT64, _database, READONLY)
typedef struct {
    PyObject_HEAD
    ENGINE_LISTENER_FIELDS(STRUCT_FIELD, EngineListener)
} EngineListener;

static int
engine_listener_init(EngineListener *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"counter", "database", "own_cursor", "count_rows", NULL};
    PyObject *counter, *own_cursor, *count_rows;
    State *state = state_of(Py_TYPE(self));
    if (state == NULL || !PyArg_ParseTupleAndKeywords(
            args, kwargs, "O!LO!O", names, state->query_counter, &counter, &self->_database, &PyType_Type,
            &own_cursor, &count_rows)) {
        return -1;
    }
    if (((QueryCounter *)counter)->state == NULL || self->counter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a counter that was never initialised, or a second __init__()");
        return -1;
    }
    self->counter = Py_NewRef(counter);
    self->own_cursor = Py_NewRef(own_cursor);
    self->count_rows = Py_NewRef(count_rows);
    return 0;
}

/* The arguments of both events. */
enum { CONNECTION, CURSOR, STATEMENT, PARAMETERS, CONTEXT, MANY, ARGUMENTS };

static int
is_event(EngineListener *self, Py_ssize_t size)
{
    if (size != ARGUMENTS) {
        PyErr_Format(PyExc_TypeError, "an event has %d arguments, not %zd", ARGUMENTS, size);
        return 0;
    }
    if (self->counter == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "never initialised");
        return 0;
    }
    return 1;
}

static PyObject *
engine_listener_before(EngineListener *self, PyObject *const *args, Py_ssize_t size)
{
    QueryCounter *counter = (QueryCounter *)self->counter;
    PyObject *execution;
    int result = 0;
    if (!is_event(self, size)) {
        return NULL;
    }
    if ((PyObject *)Py_TYPE(args[CURSOR]) != self->own_cursor) {
        execution = begin(counter, 0);
        if (execution == NULL) {
            return NULL;
        }
        if (execution != Py_None
                && PyObject_SetAttr(args[CONTEXT], counter->state->_knitperf_execution, execution) < 0) {
            result = failed(counter->state, ((Span *)((Execution *)execution)->span)->owner);
        }
        Py_DECREF(execution);
    }
    return result < 0 ? NULL : PyTuple_Pack(2, args[STATEMENT], args[PARAMETERS]);
}

/* A new reference to an attribute; NULL without an error if there is none. */
static PyObject *
get_optional(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
    }
    return value;
}

/* A new reference to an option; NULL without an error if there is none. */
static PyObject *
get_option(State *state, PyObject *all, PyObject *name)
{
    if (all == NULL) {
        return NULL;
    }
    if (PyDict_Check(all)) {
        return Py_XNewRef(PyDict_GetItemWithError(all, name));
    }
    return PyObject_CallMethodOneArg(all, state->get, name);
}

/* What sent a statement of an engine, as far as the ORM's options show it; -1 with an error. */
static int
sender_of(State *state, PyObject *context)
{
    PyObject *all = get_optional(context, state->execution_options), *adapts = NULL, *from = NULL;
    PyObject *options = get_option(state, all, state->_sa_orm_load_options);
    int sender = ENGINE;
    if (options != NULL) {
        from = get_optional(options, state->_lazy_loaded_from);
    }
    if (is_set(from)) {
        sender = LAZY;
    }
    else if (!PyErr_Occurred()) {
        adapts = get_option(state, all, state->_result_disable_adapt_to_context);
        sender = is_set(adapts) ? ORM : ENGINE;
    }
    Py_XDECREF(all);
    Py_XDECREF(options);
    Py_XDECREF(from);
    Py_XDECREF(adapts);
    return PyErr_Occurred() ? -1 : sender;
}

/* Whether an attribute is true; 0 if there is none, -1 with an error. */
static int
is_true(PyObject *object, PyObject *name)
{
    PyObject *value = get_optional(object, name);
    int result = value != NULL ? PyObject_IsTrue(value) : PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(value);
    return result;
}

/* The number of rows, -1 where SQLAlchemy does not read it, as a new reference; NULL with an error. */
static PyObject *
changed_rows(State *state, PyObject *const *args, PyObject *description, int *returns_rows)
{
    PyObject *const readable[] = {state->isupdate, state->isdelete, state->is_text}, *rows;
    int ignored, reads = 0, i;
    *returns_rows = description != Py_None ? 1 : is_true(args[CONTEXT], state->_is_server_side);
    for (i = 0; i < 3 && *returns_rows == 0 && reads == 0; i++) {
        reads = is_true(args[CONTEXT], readable[i]);
    }
    if (*returns_rows < 0 || reads < 0) {
        return NULL;
    }
    if (!reads) {
        return PyLong_FromLong(-1);
    }
    rows = PyObject_GetAttr(args[CURSOR], state->rowcount);
    if (rows != NULL && PyObject_SetAttr(args[CONTEXT], state->_rowcount, rows) < 0) {
        Py_CLEAR(rows);
    }
    return as_count(rows, &ignored);
}

/* Has the rows of an execution counted as they are fetched; -1 with an error. */
static int
count_rows(EngineListener *self, PyObject *const *args, PyObject *pending, PyObject *description)
{
    PyObject *const new_args[] = {args[CONTEXT], args[CURSOR], pending, description};
    Statement *statement = (Statement *)PyTuple_GET_ITEM(pending, 1);
    const int sender = sender_of(((QueryCounter *)self->counter)->state, args[CONTEXT]);
    if (sender < 0) {
        return -1;
    }
    statement->lazy_count += sender == LAZY;
    statement->sender = sender;
    statement->awaits_rows = 1;
    return done(PyObject_Vectorcall(self->count_rows, new_args, 4, NULL));
}

/* Ends an execution that began; -1 with an error. */
static int
end_event(EngineListener *self, Execution *execution, PyObject *const *args)
{
    QueryCounter *counter = (QueryCounter *)self->counter;
    State *state = counter->state;
    PyObject *pending, *rows, *description;
    int result, returns_rows, many = PyObject_IsTrue(args[MANY]);
    if (many < 0 || PyObject_SetAttr(args[CONTEXT], state->_knitperf_execution, Py_None) < 0
            || (description = PyObject_GetAttr(args[CURSOR], state->description)) == NULL) {
        return -1;
    }
    rows = changed_rows(state, args, description, &returns_rows);
    pending = end_counted(counter, execution, args[STATEMENT], self->_database,
                          many ? UNCOMPARABLE : args[PARAMETERS], args[CURSOR], rows, returns_rows);
    result = pending == NULL ? -1
        : pending == Py_None ? 0 : count_rows(self, args, pending, description);
    Py_XDECREF(pending);
    Py_DECREF(description);
    return result;
}

static PyObject *
engine_listener_after(EngineListener *self, PyObject *const *args, Py_ssize_t size)
{
    PyObject *execution;
    State *state;
    int result = 0;
    if (!is_event(self, size)) {
        return NULL;
    }
    state = ((QueryCounter *)self->counter)->state;
    execution = get_optional(args[CONTEXT], state->_knitperf_execution);
    if (execution == NULL && PyErr_Occurred()) {
        return NULL;
    }
    if (is_set(execution) && PyObject_TypeCheck(execution, state->execution)
            && ((Execution *)execution)->span != NULL
            && end_event(self, (Execution *)execution, args) < 0) {
        result = failed(state, ((Span *)((Execution *)execution)->span)->owner);
    }
    Py_XDECREF(execution);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef engine_listener_methods[] = {
    METHOD("before", engine_listener_before, METH_FASTCALL),
    METHOD("after", engine_listener_after, METH_FASTCALL),
    {0},
};

DEFINE_GC_TYPE(engine_listener, EngineListener,
               "flask_knitperf.collectors.sql._speedups.EngineListenerBase", ENGINE_LISTENER_FIELDS,
               NEW {Py_tp_init, engine_listener_init}, {Py_tp_methods, engine_listener_methods}, )

/* -- the module -------------------------------------------------------------------------------------- */

static PyMethodDef module_methods[] = {METHOD("add_rows", module_add_rows, METH_VARARGS), {0}};

/* A type of the core, if its objects have the size that we were compiled for; NULL with an error. */
static PyTypeObject *
core_type(PyObject *core, const char *name, size_t size)
{
    PyObject *type = core == NULL || PyErr_Occurred() ? NULL : PyObject_GetAttrString(core, name);
    if (type != NULL && (!PyType_Check(type) || ((PyTypeObject *)type)->tp_basicsize != (Py_ssize_t)size)) {
        PyErr_Format(PyExc_ImportError, "%s was built from another version", name);
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

static int
module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    PyObject *core = PyImport_ImportModule("flask_knitperf.recording._speedups");
    state->span = core_type(core, "SpanBase", sizeof(Span));
    state->notes = core_type(core, "NotesBase", sizeof(Notes));
    Py_XDECREF(core);
    if (state->span == NULL || state->notes == NULL || fill_state(state) < 0) {
        return -1;
    }
    ADD_TYPE(execution, NULL)
    ADD_TYPE(statement, NULL)
    ADD_TYPE(request_queries, NULL)
    ADD_TYPE(query_counter, NULL)
    ADD_TYPE(counting_cursor, NULL)
    ADD_TYPE(executor, NULL)
    ADD_TYPE(engine_listener, NULL)
    return PyModule_AddFunctions(module, module_methods);
}
