/* The way of one statement in C: the same classes as in fastpath.py, which says what they do and why.

   Read that module first. This one holds to it line by line; where the two differ it is a bug here.
   Between two statements an application and its driver run thousands of instructions, so what is ours is
   cold each time: fields are C members and a step is one C function, to touch little. Anything unusual is
   a call of a method in Python.

   Rules: no global state but interned names and the types of the core; every object in a struct is visited
   by the collector; no private API; a failure of ours that is an Exception goes to the recorder, as in
   Python. */

#include "../../recording/_span.h"

enum { TRACKING_OFF, TRACKING_COUNT, TRACKING_CALL_SITE };
#define EVENTS 100
#define FIELDS_PER_CALL 5
#define MAX_BUFFERED 2000
#define MAX_KEPT_TEXT 2000
#define NAMES(X) \
    X(query_tracking) X(clock) X(monotonic_ns) X(runnable_ns) X(failed) X(ensure_notes) X(queries_of) X(find) X(add_parameters) X(settle) \
    X(explain) X(wanted) X(rowcount) X(description) X(close) X(cursor) X(fetchone) X(fetchmany) \
    X(fetchall) X(execution_options) X(get) X(_sa_orm_load_options) X(_lazy_loaded_from) \
    X(_knitperf_call) X(queries)
#define DECLARE(name) static PyObject *s_##name;
NAMES(DECLARE)
static PyObject *s_empty, *minus_one;
static PyTypeObject *span_type, *scope_type, *notes_type;

/* -- small things ------------------------------------------------------------------------------- */

#define TYPE_OF(name, struct_name, base) \
    static PyTypeObject name##Type = { \
        PyVarObject_HEAD_INIT(NULL, 0) \
        .tp_name = "flask_knitperf.collectors.sql._speedups." base, \
        .tp_basicsize = sizeof(name), \
        .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, \
        .tp_new = PyType_GenericNew, \
        .tp_dealloc = (destructor)struct_name##_dealloc, \
        .tp_traverse = (traverseproc)struct_name##_traverse, \
        .tp_clear = (inquiry)struct_name##_clear, \
        .tp_members = struct_name##_members

#define COLLECTED(name, struct_name, OBJECTS) \
    static int struct_name##_traverse(name *self, visitproc visit, void *arg) \
    { \
        OBJECTS(VISIT) \
        return 0; \
    } \
    static int struct_name##_clear(name *self) \
    { \
        OBJECTS(CLEAR) \
        return 0; \
    } \
    static void struct_name##_dealloc(name *self) \
    { \
        PyObject_GC_UnTrack(self); \
        struct_name##_clear(self); \
        Py_TYPE(self)->tp_free((PyObject *)self); \
    }

#define KEEP(name) Py_INCREF(name); Py_XSETREF(self->name, name);

/* Whether there is something in a field. */
static int
given(PyObject *value)
{
    return value != NULL && value != Py_None;
}

/* Gives a failure of ours that is an Exception to the recorder. 0, or -1 with an error where it is none or
   there is no recorder. */
static int
failed(PyObject *owner)
{
    PyObject *error, *done;
    if (owner == NULL || !PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    error = caught();
    done = PyObject_CallMethodObjArgs(owner, s_failed, s_queries, error, NULL);
    Py_DECREF(error);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* A new reference to a recorder's clock; NULL with an error. */
static PyObject *
clock_of(PyObject *owner)
{
    if (owner == NULL) {
        PyErr_SetString(PyExc_AttributeError, "owner");
        return NULL;
    }
    return PyObject_GetAttr(owner, s_clock);
}

static int
runnable_ns(PyObject *clock, long long *value)
{
    PyObject *number = PyObject_CallMethodNoArgs(clock, s_runnable_ns);
    if (number == NULL) {
        return -1;
    }
    *value = PyLong_AsLongLong(number);
    Py_DECREF(number);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

static int
append_number(PyObject *list, long long value)
{
    PyObject *number = PyLong_FromLongLong(value);
    int result = number == NULL ? -1 : PyList_Append(list, number);
    Py_XDECREF(number);
    return result;
}

/* Puts a number in a list's place; -1 with an error. */
static int
set_number(PyObject *list, Py_ssize_t place, long long value)
{
    PyObject *number = PyLong_FromLongLong(value);
    return number == NULL ? -1 : PyList_SetItem(list, place, number);
}

/* What sums up the parts within whatever runs now, borrowed; NULL without an error where nothing does. */
static Scope *
scope_of(Span *span)
{
    PyObject *found = span->notes;
    if (span->stack != NULL && PyList_CheckExact(span->stack) && PyList_GET_SIZE(span->stack) > 0) {
        found = PyList_GET_ITEM(span->stack, PyList_GET_SIZE(span->stack) - 1);
    }
    if (!given(found)) {
        return NULL;
    }
    if (!PyObject_TypeCheck(found, scope_type)) {
        PyErr_SetString(PyExc_TypeError, "what is around a statement must be an ScopeBase");
        return NULL;
    }
    return (Scope *)found;
}

/* -- ExecutionBase ----------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *span, *call_site, *scope;
    long long nested_ns, nested_cpu_ns, cpu_began, began;
    char sampled;
} Began;

#define BEGAN_OBJECTS(DO) DO(span) DO(call_site) DO(scope)
COLLECTED(Began, began, BEGAN_OBJECTS)

static PyMemberDef began_members[] = {
    FIELD(Began, span, T_OBJECT, READONLY),
    FIELD(Began, call_site, T_OBJECT, READONLY),
    FIELD(Began, scope, T_OBJECT, READONLY),
    FIELD(Began, nested_ns, T_LONGLONG, READONLY),
    FIELD(Began, nested_cpu_ns, T_LONGLONG, READONLY),
    FIELD(Began, began, T_LONGLONG, READONLY),
    {NULL},
};

static PyObject *
began_cpu(Began *self, void *Py_UNUSED(closure))
{
    if (!self->sampled) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLongLong(self->cpu_began);
}

static PyGetSetDef began_getset[] = {{"cpu_began", (getter)began_cpu, NULL, NULL, NULL}, {NULL}};

TYPE_OF(Began, began, "ExecutionBase"), .tp_getset = began_getset};

/* Its recorder, borrowed; NULL where it was never begun. */
static PyObject *
owner_of(Began *began)
{
    return began->span == NULL ? NULL : ((Span *)began->span)->owner;
}

/* -- StatementBase ------------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    PyObject *fingerprint, *text, *call_site, *durations, *results, *parameter_hashes, *page_hashes;
    long long database, lazy_count, value_count, merged;
    Py_ssize_t text_hash;
} Sent;

#define SENT_OBJECTS(DO) DO(fingerprint) DO(text) DO(call_site) DO(durations) DO(results) \
    DO(parameter_hashes) DO(page_hashes)
COLLECTED(Sent, sent, SENT_OBJECTS)

static PyMemberDef sent_members[] = {
    FIELD(Sent, fingerprint, T_OBJECT, 0),
    FIELD(Sent, text, T_OBJECT_EX, 0),
    FIELD(Sent, call_site, T_OBJECT_EX, 0),
    FIELD(Sent, durations, T_OBJECT_EX, 0),
    FIELD(Sent, results, T_OBJECT_EX, 0),
    FIELD(Sent, parameter_hashes, T_OBJECT_EX, 0),
    FIELD(Sent, page_hashes, T_OBJECT_EX, 0),
    FIELD(Sent, database, T_LONGLONG, 0),
    FIELD(Sent, lazy_count, T_LONGLONG, 0),
    FIELD(Sent, value_count, T_LONGLONG, 0),
    FIELD(Sent, merged, T_LONGLONG, 0),
    FIELD(Sent, text_hash, T_PYSSIZET, 0),
    {NULL},
};

TYPE_OF(Sent, sent, "StatementBase")};

/* Whether the fields are what they are in every object that was initialised. */
static int
is_sent(PyObject *object)
{
    Sent *sent = (Sent *)object;
    return object != NULL && PyObject_TypeCheck(object, &SentType) && sent->durations != NULL
        && PyList_CheckExact(sent->durations) && sent->results != NULL && PyList_CheckExact(sent->results)
        && sent->parameter_hashes != NULL && PyList_CheckExact(sent->parameter_hashes);
}

/* -- RequestQueriesBase ----------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *calls, *groups, *last, *statements;
    long long allow_depth, count, cpu_ns, own_ns, buffered;
} Asked;

#define ASKED_OBJECTS(DO) DO(calls) DO(groups) DO(last) DO(statements)
COLLECTED(Asked, asked, ASKED_OBJECTS)

static PyMemberDef asked_members[] = {
    FIELD(Asked, calls, T_OBJECT_EX, 0),
    FIELD(Asked, groups, T_OBJECT_EX, 0),
    FIELD(Asked, last, T_OBJECT_EX, 0),
    FIELD(Asked, statements, T_OBJECT_EX, 0),
    FIELD(Asked, allow_depth, T_LONGLONG, 0),
    FIELD(Asked, count, T_LONGLONG, 0),
    FIELD(Asked, cpu_ns, T_LONGLONG, 0),
    FIELD(Asked, own_ns, T_LONGLONG, 0),
    FIELD(Asked, buffered, T_LONGLONG, 0),
    {NULL},
};

TYPE_OF(Asked, asked, "RequestQueriesBase")};

/* The statements of a text, line and database, as a new reference. */
static Sent *
find(Asked *asked, PyObject *text, PyObject *where, long long database)
{
    PyObject *found = asked->last, *number, *key;
    if (is_sent(found) && text == ((Sent *)found)->text && where == ((Sent *)found)->call_site
            && database == ((Sent *)found)->database && PyUnicode_CheckExact(text)
            && PyUnicode_GET_LENGTH(text) > 0) {
        Py_INCREF(found);
        return (Sent *)found;
    }
    number = PyLong_FromLongLong(database);
    if (number == NULL) {
        return NULL;
    }
    if (PyUnicode_CheckExact(text) && PyUnicode_GET_LENGTH(text) <= MAX_KEPT_TEXT && asked->statements != NULL
            && PyDict_CheckExact(asked->statements)) {
        key = PyTuple_Pack(3, text, where, number);
        found = key == NULL ? NULL : PyDict_GetItemWithError(asked->statements, key);
        Py_XDECREF(key);
        if (is_sent(found)) {
            Py_DECREF(number);
            Py_INCREF(found); /* for the field, */
            Py_XSETREF(asked->last, found);
            Py_INCREF(found); /* and for the caller */
            return (Sent *)found;
        }
        if (PyErr_Occurred()) {
            Py_DECREF(number);
            return NULL;
        }
    }
    found = PyObject_CallMethodObjArgs((PyObject *)asked, s_find, text, where, number, NULL);
    Py_DECREF(number);
    if (found != NULL && !is_sent(found)) {
        Py_DECREF(found);
        PyErr_SetString(PyExc_TypeError, "find() must return a StatementBase");
        return NULL;
    }
    return (Sent *)found;
}

/* -- QueryCounterBase --------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *current, *caller, *explains, *uncomparable;
} Queries;

#define QUERIES_OBJECTS(DO) DO(current) DO(caller) DO(explains) DO(uncomparable)
COLLECTED(Queries, queries, QUERIES_OBJECTS)

static PyMemberDef queries_members[] = {
    FIELD(Queries, explains, T_OBJECT, READONLY),
    {NULL},
};

static int
queries_init(Queries *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"current", "caller", "explains", NULL};
    PyObject *current, *caller, *explains, *module, *uncomparable;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO", names, &PyContextVar_Type, &current, &caller,
                                     &explains)) {
        return -1;
    }
    module = PyImport_ImportModule("flask_knitperf.collectors.sql.fastpath");
    uncomparable = module == NULL ? NULL : PyObject_GetAttrString(module, "UNCOMPARABLE");
    Py_XDECREF(module);
    if (uncomparable == NULL) {
        return -1;
    }
    KEEP(current)
    KEEP(caller)
    KEEP(explains)
    Py_XSETREF(self->uncomparable, uncomparable);
    return 0;
}

/* Begins a statement: the fields of a new object; -1 with an error. */
static int
fill(Queries *self, Began *began, Span *span, long lines, long depth)
{
    Scope *scope;
    PyObject *clock, *now, *made;
    int result = -1;
    if (lines == TRACKING_CALL_SITE) {
        PyObject *number = PyLong_FromLong(depth);
        began->call_site = number == NULL ? NULL : PyObject_CallOneArg(self->caller, number);
        Py_XDECREF(number);
        if (began->call_site == NULL) {
            return -1;
        }
    }
    else {
        Py_INCREF(s_empty);
        began->call_site = s_empty;
    }
    scope = scope_of(span);
    if (scope == NULL && !PyErr_Occurred()) {
        made = PyObject_CallMethodNoArgs((PyObject *)span, s_ensure_notes);
        Py_XDECREF(made); /* the span holds it */
        scope = made == NULL ? NULL : scope_of(span);
    }
    if (scope == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "a span has no notes");
        }
        return -1;
    }
    Py_INCREF(scope);
    began->scope = (PyObject *)scope;
    began->nested_ns = scope->nested_ns;
    began->nested_cpu_ns = scope->nested_cpu_ns;
    clock = clock_of(span->owner);
    if (clock == NULL) {
        return -1;
    }
    began->sampled = given(span->cpu_began);
    now = PyObject_GetAttr(clock, s_monotonic_ns);
    if (now != NULL && (!began->sampled || runnable_ns(clock, &began->cpu_began) == 0)) {
        result = read_clock(now, &began->began);
    }
    Py_XDECREF(now);
    Py_DECREF(clock);
    return result;
}

/* A new ExecutionBase, None where nothing is counted, NULL with an error that is no Exception.

   ``depth`` is how many frames to leave out before the line that asks is looked for. */
static PyObject *
begin(Queries *self, long depth)
{
    PyObject *current = NULL, *asks;
    Began *made;
    Span *span;
    long lines;
    if (self->current == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "never initialised");
        return NULL;
    }
    if (PyContextVar_Get(self->current, NULL, &current) < 0) {
        return NULL;
    }
    span = (Span *)current;
    if (!given(current) || !PyObject_TypeCheck(current, span_type) || span->ended || !given(span->owner)) {
        Py_XDECREF(current);
        Py_RETURN_NONE;
    }
    asks = PyObject_GetAttr(span->owner, s_query_tracking);
    lines = asks == NULL ? -1 : PyLong_AsLong(asks);
    Py_XDECREF(asks);
    if (lines == TRACKING_OFF) {
        Py_DECREF(current);
        Py_RETURN_NONE;
    }
    made = PyErr_Occurred() ? NULL : (Began *)BeganType.tp_alloc(&BeganType, 0);
    if (made != NULL) {
        Py_INCREF(current);
        made->span = current;
        if (fill(self, made, span, lines, depth) < 0) {
            Py_CLEAR(made);
        }
    }
    if (made == NULL && failed(span->owner) == 0) {
        Py_INCREF(Py_None);
        made = (Began *)Py_None;
    }
    Py_DECREF(current);
    return (PyObject *)made;
}

static PyObject *
queries_begin(Queries *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"depth", NULL};
    long depth = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|l", names, &depth)) {
        return NULL;
    }
    return begin(self, depth);
}

/* Whether the hash of a value of this type runs no code of others. */
static int
is_plain(PyObject *value)
{
    return value == Py_None || PyUnicode_CheckExact(value) || PyLong_CheckExact(value)
        || PyFloat_CheckExact(value) || PyBytes_CheckExact(value) || PyBool_Check(value);
}

/* The values of parameters as a tuple, where all are plain, as a new reference; NULL without an error
   where they are something else. */
static PyObject *
plain_values(PyObject *parameters)
{
    PyObject *values;
    Py_ssize_t i;
    if (PyTuple_CheckExact(parameters)) {
        Py_INCREF(parameters);
        values = parameters;
    }
    else if (PyDict_CheckExact(parameters)) {
        PyObject *list = PyDict_Values(parameters);
        values = list == NULL ? NULL : PyList_AsTuple(list);
        Py_XDECREF(list);
        if (values == NULL) {
            return NULL;
        }
    }
    else {
        return NULL;
    }
    for (i = 0; i < PyTuple_GET_SIZE(values); i++) {
        if (!is_plain(PyTuple_GET_ITEM(values, i))) {
            Py_DECREF(values);
            return NULL;
        }
    }
    return values;
}

/* Remembers one number for parameters; -1 with an error. */
static int
judge(Queries *self, Sent *sent, PyObject *parameters)
{
    PyObject *values = parameters == Py_None ? NULL : plain_values(parameters), *first, *number;
    Py_ssize_t size;
    Py_hash_t hash;
    int result = -1;
    if (PyErr_Occurred()) {
        return -1;
    }
    if (values == NULL) {
        PyObject *done;
        if (parameters == Py_None) {
            return append_number(sent->parameter_hashes, 0);
        }
        done = PyObject_CallMethodObjArgs((PyObject *)self, s_add_parameters, sent, parameters, NULL);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    size = PyTuple_GET_SIZE(values);
    hash = PyObject_Hash(values);
    if (hash != -1 || !PyErr_Occurred()) {
        sent->value_count += size;
        result = append_number(sent->parameter_hashes, hash);
        if (result == 0 && size > 2 && sent->page_hashes != NULL && PySet_Check(sent->page_hashes)
                && PySet_GET_SIZE(sent->page_hashes) < 2) {
            first = PyTuple_GetSlice(values, 0, size - 2);
            hash = first == NULL ? -1 : PyObject_Hash(first);
            Py_XDECREF(first);
            number = PyErr_Occurred() ? NULL : PyLong_FromSsize_t(hash);
            result = number == NULL ? -1 : PySet_Add(sent->page_hashes, number);
            Py_XDECREF(number);
        }
    }
    Py_DECREF(values);
    return result;
}

/* What a request asked so far, as a new reference. */
static Asked *
asked_of(Queries *self, Span *span)
{
    PyObject *found = NULL;
    if (given(span->notes) && PyObject_TypeCheck(span->notes, notes_type)) {
        found = ((Notes *)span->notes)->queries;
    }
    if (given(found)) {
        Py_INCREF(found);
    }
    else {
        found = PyObject_CallMethodOneArg((PyObject *)self, s_queries_of, (PyObject *)span);
    }
    if (found != NULL && !PyObject_TypeCheck(found, &AskedType)) {
        Py_DECREF(found);
        PyErr_SetString(PyExc_TypeError, "what a request asked must be an RequestQueriesBase");
        return NULL;
    }
    return (Asked *)found;
}

/* Notes a statement for the timeline of its request; -1 with an error. */
static int
keep_call(Asked *asked, Sent *sent, Py_ssize_t place, long long start, long long now)
{
    PyObject *calls = asked->calls;
    if (calls == NULL || !PyList_CheckExact(calls) || PyList_GET_SIZE(calls) >= FIELDS_PER_CALL * EVENTS) {
        return 0;
    }
    if (PyList_Append(calls, (PyObject *)sent) < 0 || PyList_Append(calls, sent->results) < 0
            || append_number(calls, place) < 0 || append_number(calls, start) < 0) {
        return -1;
    }
    return append_number(calls, now);
}

/* Ends a statement: the ones like it as a new reference, and its number among them. */
static Sent *
count(Queries *self, Began *began, PyObject *text, long long database, PyObject *parameters,
      PyObject *result, long long *number)
{
    Span *span = (Span *)began->span;
    Scope *scope = (Scope *)began->scope;
    PyObject *clock, *reader, *done;
    long long now, wall, used = 0;
    Py_ssize_t place;
    Sent *sent;
    Asked *asked;
    if (span == NULL || scope == NULL) {
        PyErr_SetString(PyExc_TypeError, "a statement that was never begun");
        return NULL;
    }
    clock = clock_of(span->owner);
    reader = clock == NULL ? NULL : PyObject_GetAttr(clock, s_monotonic_ns);
    if (reader == NULL || read_clock(reader, &now) < 0
            || (began->sampled && runnable_ns(clock, &used) < 0)) {
        Py_XDECREF(clock);
        Py_XDECREF(reader);
        return NULL;
    }
    Py_DECREF(clock);
    Py_DECREF(reader);
    asked = asked_of(self, span);
    if (asked == NULL) {
        return NULL;
    }
    wall = now - began->began;
    asked->own_ns += wall - scope->nested_ns + began->nested_ns;
    scope->nested_ns = began->nested_ns + wall;
    if (began->sampled) {
        used -= began->cpu_began;
        asked->cpu_ns += used - scope->nested_cpu_ns + began->nested_cpu_ns;
        scope->nested_cpu_ns = began->nested_cpu_ns + used;
    }
    sent = find(asked, text, began->call_site == NULL ? s_empty : began->call_site, database);
    if (sent == NULL) {
        goto failure;
    }
    place = PyList_GET_SIZE(sent->durations);
    if (append_number(sent->durations, wall) < 0 || PyList_Append(sent->results, result) < 0) {
        goto failure;
    }
    if (parameters == self->uncomparable || asked->allow_depth) {
        if (PyList_Append(sent->parameter_hashes, Py_None) < 0) {
            goto failure;
        }
    }
    else if (judge(self, sent, parameters) < 0) {
        goto failure;
    }
    *number = sent->merged + place;
    if (keep_call(asked, sent, place, began->began, now) < 0) {
        goto failure;
    }
    asked->buffered++;
    if (asked->buffered >= MAX_BUFFERED) {
        done = PyObject_CallMethodOneArg((PyObject *)self, s_settle, (PyObject *)span);
        if (done == NULL) {
            goto failure;
        }
        Py_DECREF(done);
    }
    Py_DECREF(asked);
    return sent;
failure:
    Py_XDECREF(sent);
    Py_DECREF(asked);
    return NULL;
}

static PyObject *
queries_count(Queries *self, PyObject *args)
{
    PyObject *began, *text, *parameters, *result;
    long long database, number = 0;
    Sent *sent;
    if (!PyArg_ParseTuple(args, "O!OLOO", &BeganType, &began, &text, &database, &parameters, &result)) {
        return NULL;
    }
    sent = count(self, (Began *)began, text, database, parameters, result, &number);
    return sent == NULL ? NULL : Py_BuildValue("(NL)", sent, number);
}

/* The rows that a cursor says it gave or changed, as a new reference, and as a number; NULL with an error. */
static PyObject *
rows_queries_of(PyObject *cursor, int *none)
{
    PyObject *rows = PyObject_GetAttr(cursor, s_rowcount);
    int overflow = 0;
    if (rows == NULL) {
        return NULL;
    }
    if (!PyLong_CheckExact(rows)) {
        Py_DECREF(rows);
        Py_INCREF(minus_one);
        rows = minus_one;
    }
    *none = PyLong_AsLongLongAndOverflow(rows, &overflow) <= 0 && overflow <= 0;
    return rows;
}

/* Has a statement explained where one like it waits for that; -1 with an error. */
static int
explain(Queries *self, Began *began, Sent *sent, PyObject *cursor, PyObject *parameters)
{
    PyObject *wanted, *done;
    int any;
    if (parameters == self->uncomparable) {
        return 0;
    }
    wanted = PyObject_GetAttr(self->explains, s_wanted);
    any = wanted == NULL ? -1 : PyObject_IsTrue(wanted);
    Py_XDECREF(wanted);
    if (any <= 0) {
        return any;
    }
    done = PyObject_CallMethodObjArgs((PyObject *)self, s_explain, began->span, sent, cursor, parameters, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* What counted() returns, NULL with an error of any kind. */
static PyObject *
count_rows(Queries *self, Began *began, PyObject *statement, long long database, PyObject *parameters,
           PyObject *cursor, int lazy)
{
    PyObject *described, *answer = NULL, *rows;
    long long number = 0;
    int none = 0;
    Sent *sent;
    rows = rows_queries_of(cursor, &none);
    if (rows == NULL) {
        return NULL;
    }
    sent = count(self, began, statement, database, parameters, rows, &number);
    Py_DECREF(rows);
    if (sent == NULL) {
        return NULL;
    }
    sent->lazy_count += lazy;
    if (explain(self, began, sent, cursor, parameters) == 0) {
        described = none ? PyObject_GetAttr(cursor, s_description) : Py_None;
        if (described == Py_None) {
            Py_INCREF(Py_None);
            answer = Py_None;
        }
        else if (described != NULL) {
            answer = Py_BuildValue("(OOL)", began->span, sent, number);
        }
        if (none) {
            Py_XDECREF(described);
        }
    }
    Py_DECREF(sent);
    return answer;
}

/* Counts a statement that succeeded: what is to be fetched, or None. NULL with an error that is no
   Exception. */
static PyObject *
counted(Queries *self, Began *began, PyObject *statement, long long database, PyObject *parameters,
        PyObject *cursor, int lazy)
{
    PyObject *answer = count_rows(self, began, statement, database, parameters, cursor, lazy);
    if (answer == NULL && failed(owner_of(began)) == 0) {
        Py_RETURN_NONE;
    }
    return answer;
}

static PyObject *
queries_counted(Queries *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"began", "statement", "database", "parameters", "cursor", "lazy", NULL};
    PyObject *began, *statement, *parameters, *cursor;
    long long database;
    int lazy = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OLOO|p", names, &BeganType, &began, &statement,
                                     &database, &parameters, &cursor, &lazy)) {
        return NULL;
    }
    return counted(self, (Began *)began, statement, database, parameters, cursor, lazy);
}

static PyMethodDef queries_methods[] = {
    {"begin", (PyCFunction)(void (*)(void))queries_begin, METH_VARARGS | METH_KEYWORDS, NULL},
    {"end", (PyCFunction)queries_count, METH_VARARGS, NULL},
    {"end_with_rows", (PyCFunction)(void (*)(void))queries_counted, METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL},
};

TYPE_OF(Queries, queries, "QueryCounterBase"), .tp_init = (initproc)queries_init, .tp_methods = queries_methods};

/* -- CountingCursorBase -------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *_cursor, *_pending;
} Fetching;

#define FETCHING_OBJECTS(DO) DO(_cursor) DO(_pending)
COLLECTED(Fetching, fetching, FETCHING_OBJECTS)

static PyMemberDef fetching_members[] = {
    FIELD(Fetching, _cursor, T_OBJECT, 0),
    FIELD(Fetching, _pending, T_OBJECT, 0),
    {NULL},
};

static int
fetching_init(Fetching *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"cursor", "now", NULL};
    PyObject *_cursor, *_pending = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", names, &_cursor, &_pending)) {
        return -1;
    }
    KEEP(_cursor)
    KEEP(_pending)
    return 0;
}

static PyObject *
fetching_own(Fetching *self, PyObject *name)
{
    if (self->_cursor == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "never initialised");
        return NULL;
    }
    return PyObject_GetAttr(self->_cursor, name);
}

static PyObject *
fetching_close(Fetching *self, void *Py_UNUSED(closure))
{
    return fetching_own(self, s_close);
}

static PyObject *
fetching_description(Fetching *self, void *Py_UNUSED(closure))
{
    return fetching_own(self, s_description);
}

static PyGetSetDef fetching_getset[] = {
    {"close", (getter)fetching_close, NULL, NULL, NULL},
    {"description", (getter)fetching_description, NULL, NULL, NULL},
    {NULL},
};

/* Adds what was fetched to its statement; -1 with an error. ``error`` is NULL or the class's name. */
static int
add_fetched(Span *span, Sent *sent, long long number, long long took, long long own, long long used,
            long long rows, PyObject *error)
{
    const long long place = number - sent->merged;
    PyObject *before, *asked;
    long long so_far;
    if (span->ended || place < 0 || !is_sent((PyObject *)sent) || place >= PyList_GET_SIZE(sent->durations)
            || place >= PyList_GET_SIZE(sent->results)) {
        return 0;
    }
    before = PyList_GET_ITEM(sent->results, place);
    if (error != NULL) {
        Py_INCREF(error);
        if (PyList_SetItem(sent->results, place, error) < 0) {
            return -1;
        }
        if (place < PyList_GET_SIZE(sent->parameter_hashes)) {
            Py_INCREF(Py_None);
            if (PyList_SetItem(sent->parameter_hashes, place, Py_None) < 0) {
                return -1;
            }
        }
    }
    else if (PyLong_CheckExact(before)) {
        so_far = PyLong_AsLongLong(before);
        if (so_far == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (set_number(sent->results, place, so_far < 0 ? rows : so_far + rows) < 0) {
            return -1;
        }
    }
    so_far = PyLong_AsLongLong(PyList_GET_ITEM(sent->durations, place));
    if ((so_far == -1 && PyErr_Occurred()) || set_number(sent->durations, place, so_far + took) < 0) {
        return -1;
    }
    asked = given(span->notes) && PyObject_TypeCheck(span->notes, notes_type)
        ? ((Notes *)span->notes)->queries : NULL;
    if (asked == NULL || !PyObject_TypeCheck(asked, &AskedType)) {
        PyErr_SetString(PyExc_TypeError, "what a request asked must be an RequestQueriesBase");
        return -1;
    }
    ((Asked *)asked)->own_ns += own;
    ((Asked *)asked)->cpu_ns += used;
    return 0;
}

static PyObject *
fetched(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *span, *sent, *error = NULL;
    long long number, took, own, used, rows;
    if (!PyArg_ParseTuple(args, "O!OLLLLL|U", span_type, &span, &sent, &number, &took, &own, &used, &rows,
                          &error)) {
        return NULL;
    }
    if (!is_sent(sent)) {
        PyErr_SetString(PyExc_TypeError, "what was sent must be a StatementBase");
        return NULL;
    }
    if (error != NULL && PyUnicode_GET_LENGTH(error) == 0) {
        error = NULL;
    }
    if (add_fetched((Span *)span, (Sent *)sent, number, took, own, used, rows, error) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

typedef struct {
    Span *span;
    Sent *sent;
    Scope *scope;
    PyObject *clock, *reader;
    long long number, nested_ns, cpu, began;
    int sampled;
} Clocks;

/* Reads the clocks before rows are fetched; -1 with an error. What it takes is let go by drop(). */
static int
start(Clocks *clocks, PyObject *now)
{
    PyObject *span, *sent;
    memset(clocks, 0, sizeof(*clocks));
    if (!PyTuple_Check(now) || PyTuple_GET_SIZE(now) != 3
            || !PyObject_TypeCheck(PyTuple_GET_ITEM(now, 0), span_type) || !is_sent(PyTuple_GET_ITEM(now, 1))) {
        PyErr_SetString(PyExc_TypeError, "now must be a span, what it sent and a number");
        return -1;
    }
    span = PyTuple_GET_ITEM(now, 0);
    sent = PyTuple_GET_ITEM(now, 1);
    Py_INCREF(span);
    clocks->span = (Span *)span;
    Py_INCREF(sent);
    clocks->sent = (Sent *)sent;
    clocks->number = PyLong_AsLongLong(PyTuple_GET_ITEM(now, 2));
    if (clocks->number == -1 && PyErr_Occurred()) {
        return -1;
    }
    clocks->scope = scope_of(clocks->span);
    if (clocks->scope == NULL && PyErr_Occurred()) {
        return -1;
    }
    Py_XINCREF(clocks->scope);
    clocks->nested_ns = clocks->scope == NULL ? 0 : clocks->scope->nested_ns;
    clocks->clock = clock_of(clocks->span->owner);
    clocks->reader = clocks->clock == NULL ? NULL : PyObject_GetAttr(clocks->clock, s_monotonic_ns);
    if (clocks->reader == NULL) {
        return -1;
    }
    clocks->sampled = given(clocks->span->cpu_began);
    if (clocks->sampled && runnable_ns(clocks->clock, &clocks->cpu) < 0) {
        return -1;
    }
    return read_clock(clocks->reader, &clocks->began);
}

/* Reads them again, and counts; -1 with an error. */
static int
stop(Clocks *clocks, PyObject *rows, int single, PyObject *error)
{
    long long now, took, used = 0, own;
    Py_ssize_t many = 0;
    Scope *scope = clocks->scope;
    if (read_clock(clocks->reader, &now) < 0
            || (clocks->sampled && runnable_ns(clocks->clock, &used) < 0)) {
        return -1;
    }
    took = now - clocks->began;
    used = clocks->sampled ? used - clocks->cpu : 0;
    if (scope == NULL || clocks->span->ended) {
        return 0;
    }
    own = took - scope->nested_ns + clocks->nested_ns;
    scope->nested_ns = clocks->nested_ns + took;
    scope->nested_cpu_ns += used;
    if (rows != NULL && rows != Py_None) {
        many = single ? 1 : PyObject_Size(rows);
        if (many < 0) {
            return -1;
        }
    }
    return add_fetched(clocks->span, clocks->sent, clocks->number, took, own, used, many, error);
}

static void
drop(Clocks *clocks)
{
    Py_XDECREF(clocks->span);
    Py_XDECREF(clocks->sent);
    Py_XDECREF(clocks->scope);
    Py_XDECREF(clocks->clock);
    Py_XDECREF(clocks->reader);
}

/* The name of an exception's class, as a new reference. */
static PyObject *
class_queries_of(PyObject *error)
{
    return PyObject_GetAttrString((PyObject *)Py_TYPE(error), "__name__");
}

/* Fetches and counts. */
static PyObject *
fetch(Fetching *self, PyObject *name, PyObject *args, PyObject *kwargs, int single)
{
    PyObject *function = fetching_own(self, name), *rows, *error = NULL, *said = NULL, *owner;
    Clocks clocks;
    int timed;
    if (function == NULL || !given(self->_pending)) {
        rows = function == NULL ? NULL : PyObject_Call(function, args, kwargs);
        Py_XDECREF(function);
        return rows;
    }
    timed = start(&clocks, self->_pending) == 0;
    owner = clocks.span == NULL ? NULL : clocks.span->owner;
    Py_XINCREF(owner);
    if (!timed && failed(owner) < 0) {
        rows = NULL;
        goto end;
    }
    rows = PyObject_Call(function, args, kwargs);
    if (timed) {
        if (rows == NULL) {
            error = caught();
            said = class_queries_of(error);
        }
        if ((rows == NULL && said == NULL) || stop(&clocks, rows, single, said) < 0) {
            if (failed(owner) < 0) { /* not to be held back */
                Py_CLEAR(rows);
                Py_CLEAR(error);
            }
        }
        if (error != NULL) {
            raise_again(error);
        }
        Py_XDECREF(said);
    }
end:
    Py_XDECREF(owner);
    Py_DECREF(function);
    drop(&clocks);
    return rows;
}

static PyObject *
fetching_fetchone(Fetching *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *nothing = PyTuple_New(0), *row;
    row = nothing == NULL ? NULL : fetch(self, s_fetchone, nothing, NULL, 1);
    Py_XDECREF(nothing);
    return row;
}

static PyObject *
fetching_fetchall(Fetching *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *nothing = PyTuple_New(0), *rows;
    rows = nothing == NULL ? NULL : fetch(self, s_fetchall, nothing, NULL, 0);
    Py_XDECREF(nothing);
    return rows;
}

static PyObject *
fetching_fetchmany(Fetching *self, PyObject *args, PyObject *kwargs)
{
    return fetch(self, s_fetchmany, args, kwargs, 0);
}

static PyMethodDef fetching_methods[] = {
    {"fetchone", (PyCFunction)fetching_fetchone, METH_NOARGS, "Give the next row, ``None`` behind the last."},
    {"fetchmany", (PyCFunction)(void (*)(void))fetching_fetchmany, METH_VARARGS | METH_KEYWORDS,
     "Give the next rows."},
    {"fetchall", (PyCFunction)fetching_fetchall, METH_NOARGS, "Give the rows that are left."},
    {NULL},
};

/* What is not ours is the cursor's. */
static PyObject *
fetching_getattro(Fetching *self, PyObject *name)
{
    PyObject *found = PyObject_GenericGetAttr((PyObject *)self, name);
    if (found != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return found;
    }
    PyErr_Clear();
    return fetching_own(self, name);
}

static int
fetching_setattro(Fetching *self, PyObject *name, PyObject *value)
{
    if (self->_cursor == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "never initialised");
        return -1;
    }
    return PyObject_SetAttr(self->_cursor, name, value);
}

TYPE_OF(Fetching, fetching, "CountingCursorBase"), .tp_init = (initproc)fetching_init, .tp_methods = fetching_methods,
    .tp_getset = fetching_getset, .tp_getattro = (getattrofunc)fetching_getattro,
    .tp_setattro = (setattrofunc)fetching_setattro};

/* -- EngineListenerBase ----------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *queries, *watched, *fetching;
    long long _database;
} Watch;

#define WATCH_OBJECTS(DO) DO(queries) DO(watched) DO(fetching)
COLLECTED(Watch, watch, WATCH_OBJECTS)

static PyMemberDef watch_members[] = {FIELD(Watch, _database, T_LONGLONG, READONLY), {NULL}};

static int
watch_init(Watch *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"queries", "database", "watched", "fetching", NULL};
    PyObject *queries, *watched, *fetching;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!LO!O!", names, &QueriesType, &queries,
                                     &self->_database, &PyType_Type, &watched, &PyType_Type, &fetching)) {
        return -1;
    }
    KEEP(queries)
    KEEP(watched)
    KEEP(fetching)
    return 0;
}

static int
of_event(Py_ssize_t size)
{
    if (size == 6) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "an event of a statement has 6 arguments, not %zd", size);
    return -1;
}

static PyObject *
watch_before(Watch *self, PyObject *const *args, Py_ssize_t size)
{
    PyObject *began;
    int result = 0;
    if (of_event(size) < 0) {
        return NULL;
    }
    if (self->queries != NULL && (PyObject *)Py_TYPE(args[1]) != self->watched) {
        began = begin((Queries *)self->queries, 0);
        if (began == NULL) {
            return NULL;
        }
        if (began != Py_None && PyObject_SetAttr(args[4], s__knitperf_call, began) < 0) {
            result = failed(owner_of((Began *)began));
        }
        Py_DECREF(began);
        if (result < 0) {
            return NULL;
        }
    }
    return PyTuple_Pack(2, args[2], args[3]);
}

/* Whether an attribute of an ORM's object sent a statement, as far as that can be told; -1 with an error. */
static int
is_lazy(PyObject *context)
{
    PyObject *options = PyObject_GetAttr(context, s_execution_options), *found, *from;
    int lazy;
    if (options == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    if (PyDict_Check(options)) {
        found = PyDict_GetItemWithError(options, s__sa_orm_load_options);
        Py_XINCREF(found);
    }
    else {
        found = PyObject_CallMethodOneArg(options, s_get, s__sa_orm_load_options);
    }
    Py_DECREF(options);
    if (!given(found)) {
        Py_XDECREF(found);
        return PyErr_Occurred() ? -1 : 0;
    }
    from = PyObject_GetAttr(found, s__lazy_loaded_from);
    Py_DECREF(found);
    if (from == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    lazy = from != Py_None;
    Py_DECREF(from);
    return lazy;
}

/* Ends a statement that was begun; -1 with an error. */
static int
ended(Watch *self, Began *began, PyObject *const *args)
{
    Queries *queries = (Queries *)self->queries;
    PyObject *context = args[4], *now, *fetching, *given_ones[2];
    int lazy, many = PyObject_IsTrue(args[5]), result;
    if (many < 0 || PyObject_SetAttr(context, s__knitperf_call, Py_None) < 0) {
        return -1;
    }
    lazy = is_lazy(context);
    if (lazy < 0) {
        return -1;
    }
    now = counted(queries, began, args[2], self->_database, many ? queries->uncomparable : args[3], args[1], lazy);
    if (now == NULL || now == Py_None) {
        Py_XDECREF(now);
        return now == NULL ? -1 : 0;
    }
    given_ones[0] = args[1];
    given_ones[1] = now;
    fetching = PyObject_Vectorcall(self->fetching, given_ones, 2, NULL);
    Py_DECREF(now);
    result = fetching == NULL ? -1 : PyObject_SetAttr(context, s_cursor, fetching);
    Py_XDECREF(fetching);
    return result;
}

static PyObject *
watch_after(Watch *self, PyObject *const *args, Py_ssize_t size)
{
    PyObject *began;
    int result = 0;
    if (of_event(size) < 0) {
        return NULL;
    }
    began = PyObject_GetAttr(args[4], s__knitperf_call);
    if (began == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return NULL;
        }
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    if (self->queries != NULL && PyObject_TypeCheck(began, &BeganType)
            && ended(self, (Began *)began, args) < 0) {
        result = failed(owner_of((Began *)began));
    }
    Py_DECREF(began);
    if (result < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef watch_methods[] = {
    {"before", (PyCFunction)(void (*)(void))watch_before, METH_FASTCALL, NULL},
    {"after", (PyCFunction)(void (*)(void))watch_after, METH_FASTCALL, NULL},
    {NULL},
};

TYPE_OF(Watch, watch, "EngineListenerBase"), .tp_init = (initproc)watch_init, .tp_methods = watch_methods};

/* -- the module ---------------------------------------------------------------------------------- */

static PyMethodDef module_methods[] = {{"add_rows", fetched, METH_VARARGS, NULL}, {NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_speedups",
    .m_doc = "The way of one statement in C. See fastpath.py.",
    .m_size = -1,
    .m_methods = module_methods,
};

/* A type of the core, if it is as large as we know it; NULL with an error. */
static PyTypeObject *
of_core(PyObject *core, const char *name, size_t size)
{
    PyObject *found = PyObject_GetAttrString(core, name);
    if (found != NULL && (!PyType_Check(found) || ((PyTypeObject *)found)->tp_basicsize != (Py_ssize_t)size)) {
        PyErr_Format(PyExc_ImportError, "%s was built from another version", name);
        Py_CLEAR(found);
    }
    return (PyTypeObject *)found;
}

PyMODINIT_FUNC
PyInit__speedups(void)
{
    PyObject *made, *core;
#define INTERN(name) \
    if (s_##name == NULL && (s_##name = PyUnicode_InternFromString(#name)) == NULL) { return NULL; }
    NAMES(INTERN)
#undef INTERN
    if (s_empty == NULL && (s_empty = PyUnicode_InternFromString("")) == NULL) {
        return NULL;
    }
    if (minus_one == NULL && (minus_one = PyLong_FromLong(-1)) == NULL) {
        return NULL;
    }
    core = PyImport_ImportModule("flask_knitperf.recording._speedups");
    if (core == NULL) {
        return NULL;
    }
    span_type = of_core(core, "SpanBase", sizeof(Span));
    scope_type = span_type == NULL ? NULL : of_core(core, "ScopeBase", sizeof(Scope));
    notes_type = scope_type == NULL ? NULL : of_core(core, "NotesBase", sizeof(Notes));
    Py_DECREF(core);
    made = notes_type == NULL ? NULL : PyModule_Create(&module);
    if (made == NULL) {
        return NULL;
    }
    if (add_type(made, "ExecutionBase", &BeganType) < 0 || add_type(made, "StatementBase", &SentType) < 0
            || add_type(made, "RequestQueriesBase", &AskedType) < 0 || add_type(made, "QueryCounterBase", &QueriesType) < 0
            || add_type(made, "CountingCursorBase", &FetchingType) < 0
            || add_type(made, "EngineListenerBase", &WatchType) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
