/* The fast path of a request in C: the classes of fastpath.py, which explains what they do and why.

   Read that module first. The functions here have the names and the order of steps of those there; a
   difference is a bug here. C adds only this: fields are members of a struct and the path is a few
   functions, so that a request between two others touches a few cold cache lines of ours instead of a few
   hundred bytecodes. The slow path is a call of a method in Python.

   Rules: no global state; every object in a struct is visited by the garbage collector; no private API; a
   failure of ours that is an Exception goes to on_fastpath_error(), as in Python. */

#include "_speedups.h"

enum { FAST_OFF, FAST_ON, FAST_COLLECT };
#define SLOW_NS 20000000LL
#define SHORT_PAUSE_NS 1000000LL
#define MIN_HOOK_NS 50000LL
#define MAX_PARTS 12
#define MAX_NESTED_BODIES 4
#define WARM_UP_REQUESTS 256
#define COST_EVERY 64
#define COST_STRIDE 65
#define MAX_CELLS (7 + 4 * MAX_PARTS)
#define END 0x80000000U

#define SAME(X, name) X(name, #name)
#define NAMES(X) \
    SAME(X, PATH_INFO) SAME(X, HTTP_COOKIE) SAME(X, REQUEST_METHOD) SAME(X, url_rule) SAME(X, endpoint) \
    SAME(X, _callbacks) SAME(X, response) SAME(X, clock) SAME(X, monotonic_ns) SAME(X, thread_ns) \
    SAME(X, run_queue_ns) SAME(X, process_ns) SAME(X, bypass) SAME(X, prepare_slow_path) \
    SAME(X, unrouted) SAME(X, collect) SAME(X, on_exception) SAME(X, on_fastpath_error) SAME(X, finish_slow) \
    SAME(X, record_cost) SAME(X, append_to_next_log) \
    SAME(X, start_hook) SAME(X, end_hook) SAME(X, failed) X(request, "werkzeug.request") X(empty, "")
#define TYPES(X) \
    X(span) X(notes) X(pause_total) X(request_series) X(profile) X(fast_path) X(hook_mark)
DEFINE_STATE(NAMES, TYPES)

/* Passes a pending Exception to a method that handles failures of ours; -1 with an error. */
static int
report_error(PyObject *object, PyObject *method)
{
    PyObject *error;
    int result;
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    error = PyErr_GetRaisedException();
    result = CALL(object, method, error);
    Py_DECREF(error);
    return result;
}

/* A new reference to a value of an environment; NULL without an error if there is none. */
static PyObject *
get(PyObject *environ, PyObject *key)
{
    PyObject *value;
    if (PyDict_Check(environ)) {
        return Py_XNewRef(PyDict_GetItemWithError(environ, key));
    }
    value = PyObject_GetItem(environ, key);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
    }
    return value;
}

/* A new reference to a value of a span's environment; NULL with an error. */
static PyObject *
get_required(Span *span, PyObject *key)
{
    PyObject *environ, *value;
    if (!REQUIRE(span, environ)) {
        return NULL;
    }
    environ = Py_NewRef(span->environ);
    value = get(environ, key);
    Py_DECREF(environ);
    if (value == NULL && !PyErr_Occurred()) {
        PyErr_SetObject(PyExc_KeyError, key);
    }
    return value;
}

/* -- SpanBase ---------------------------------------------------------------------------------------- */

static Span *
new_span(State *state, PyTypeObject *type)
{
    Span *self = (Span *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->state = state;
        self->status = Py_NewRef(state->empty);
        self->fast = FAST_ON;
        self->weight = 1;
        self->length = -1;
        self->runnable_ns = -1;
    }
    return self;
}

static PyObject *
span_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    State *state = state_of(type);
    return state == NULL ? NULL : (PyObject *)new_span(state, type);
}

static int
span_init(Span *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"owner", "environ", "began", NULL};
    PyObject *owner = Py_None, *environ = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOL", names, &owner, &environ, &self->began)) {
        return -1;
    }
    SET(self->owner, owner);
    SET(self->environ, environ);
    return 0;
}

/* Starts (-1) or ends (1) a stretch of our code in a request whose cost is measured; -1 with an error. */
static int
measure_cost(Span *span, int sign)
{
    State *state = span->state;
    long long cpu;
    if (!span->timed) {
        return 0;
    }
    if (REQUIRE(span, owner) && read_clock(state, span->owner, state->thread_ns, &cpu) == 0) {
        span->cost += sign * cpu;
        span->timed += sign > 0;
        return 0;
    }
    span->timed = 0;
    return REQUIRE(span, middleware) ? report_error(span->middleware, state->on_fastpath_error) : -1;
}

/* Stores the endpoint of the span's request; -1 with an error. */
static int
read_endpoint(State *state, Span *self)
{
    PyObject *request = get_required(self, state->request);
    PyObject *rule = request == NULL ? NULL : PyObject_GetAttr(request, state->url_rule);
    PyObject *endpoint = rule == NULL ? NULL : PyObject_GetAttr(rule, state->endpoint);
    Py_XDECREF(request);
    Py_XDECREF(rule);
    if (endpoint == NULL) {
        return -1;
    }
    Py_XSETREF(self->endpoint, endpoint);
    return 0;
}

/* Handles the pending error of read_endpoint(); -1 with an error. */
static int
handle_unrouted(State *state, Span *self)
{
    PyObject *error;
    int result;
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    error = PyErr_GetRaisedException();
    if (self->endpoint != NULL && self->endpoint != Py_None) {
        result = 0; /* it was read when the response was started before */
    }
    else {
        result = REQUIRE(self, middleware) ? CALL(self->middleware, state->unrouted, self, error) : -1;
    }
    Py_DECREF(error);
    return result;
}

static PyObject *
span_call(Span *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"status", "headers", "exc_info", NULL};
    PyObject *status, *headers, *exc_info = Py_None;
    if (ARE_TWO(args, kwargs)) {
        status = PyTuple_GET_ITEM(args, 0);
        headers = PyTuple_GET_ITEM(args, 1);
    }
    else if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O", names, &status, &headers, &exc_info)) {
        return NULL;
    }
    if (measure_cost(self, -1) < 0) {
        return NULL;
    }
    SET(self->status, status);
    SET(self->headers, headers);
    if (read_endpoint(self->state, self) < 0 && handle_unrouted(self->state, self) < 0) {
        return NULL;
    }
    if (measure_cost(self, 1) < 0 || !REQUIRE(self, start_response)) {
        return NULL;
    }
    return PyObject_CallFunctionObjArgs(
        self->start_response, status, headers, exc_info == Py_None ? NULL : exc_info, NULL);
}

DEFINE_GC_TYPE(span, Span, "flask_knitperf.recording._speedups.SpanBase", SPAN_FIELDS,
               {Py_tp_new, span_new}, {Py_tp_init, span_init}, {Py_tp_call, span_call}, )

/* -- NotesBase --------------------------------------------------------------------------------------- */

static PyObject *
notes_take(Notes *self, PyObject *args)
{
    long long began, ended, before;
    return PyArg_ParseTuple(args, "LLL", &began, &ended, &before)
        ? PyLong_FromLongLong(take(self, began, ended, before)) : NULL;
}

static PyObject *
notes_take_work(Notes *self, PyObject *args)
{
    long long began, ended, before, own;
    return PyArg_ParseTuple(args, "LLL", &began, &ended, &before)
            && take_work(self, began, ended, before, &own) == 0
        ? PyLong_FromLongLong(own) : NULL;
}

static PyObject *
notes_take_cpu(Notes *self, PyObject *args)
{
    long long used, before;
    return PyArg_ParseTuple(args, "LL", &used, &before)
        ? PyLong_FromLongLong(take_cpu(self, used, before)) : NULL;
}

static PyMethodDef notes_methods[] = {
    {"take", (PyCFunction)notes_take, METH_VARARGS, NULL},
    {"take_work", (PyCFunction)notes_take_work, METH_VARARGS, NULL},
    {"take_cpu", (PyCFunction)notes_take_cpu, METH_VARARGS, NULL}, {0}};

DEFINE_GC_TYPE(notes, Notes, "flask_knitperf.recording._speedups.NotesBase", NOTES_FIELDS,
               NEW {Py_tp_methods, notes_methods}, )

/* -- PauseTotalBase ---------------------------------------------------------------------------------- */

#define PAUSE_TOTAL_FIELDS(X, S) \
    X(S, OBJECT, now, 0) X(S, OBJECT, pauses, 0) X(S, OBJECT, latest, 0) X(S, INT64, total, 0) \
    X(S, INT64, began, 0)
typedef struct {
    PyObject_HEAD
    PAUSE_TOTAL_FIELDS(STRUCT_FIELD, PauseTotal)
} PauseTotal;

/* Adds to an item of a list of ints; -1 with an error. */
static int
add_to_item(PyObject *list, Py_ssize_t index, long long more)
{
    PyObject *sum;
    long long value;
    if (!PyList_CheckExact(list) || PyList_GET_SIZE(list) <= index) {
        PyErr_SetString(PyExc_TypeError, "pauses must be a list of lists of two ints");
        return -1;
    }
    if (to_int64(Py_NewRef(PyList_GET_ITEM(list, index)), &value) < 0
            || (sum = PyLong_FromLongLong(value + more)) == NULL) {
        return -1;
    }
    return PyList_SetItem(list, index, sum);
}

/* Adds a pause that has just ended; -1 with an error. */
static int
add_pause(PauseTotal *self, PyObject *info, long long began, long long ended)
{
    PyObject *pause, *row;
    long long generation;
    const long long took = ended - began;
    self->total += took;
    if (took > SHORT_PAUSE_NS) {
        pause = Py_BuildValue("(LLK)", began, ended, (unsigned long long)PyThread_get_thread_ident());
        if (pause == NULL || !REQUIRE(self, latest)) {
            Py_XDECREF(pause);
            return -1;
        }
        row = PyObject_CallMethod(self->latest, "append", "(N)", pause);
        if (done(row) < 0) {
            return -1;
        }
    }
    if (!PyDict_Check(info) || (row = PyDict_GetItemString(info, "generation")) == NULL) {
        PyErr_SetString(PyExc_TypeError, "a collection has a generation");
        return -1;
    }
    if (to_int64(Py_NewRef(row), &generation) < 0 || !REQUIRE(self, pauses)) {
        return -1;
    }
    if (!PyList_CheckExact(self->pauses) || generation < 0
            || generation >= PyList_GET_SIZE(self->pauses)) {
        PyErr_SetString(PyExc_TypeError, "pauses must be a list with an item for each generation");
        return -1;
    }
    row = PyList_GET_ITEM(self->pauses, generation);
    return add_to_item(row, 0, 1) < 0 ? -1 : add_to_item(row, 1, took);
}

static PyObject *
pause_total_call(PauseTotal *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"phase", "info", NULL};
    PyObject *phase, *info;
    long long now, began = self->began;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "UO", names, &phase, &info) || !REQUIRE(self, now)
            || to_int64(PyObject_CallNoArgs(self->now), &now) < 0) {
        return NULL;
    }
    self->began = 0;
    if (PyUnicode_CompareWithASCIIString(phase, "start") == 0) {
        self->began = now;
    }
    else if (began != 0 && add_pause(self, info, began, now) < 0) {
        return NULL;
    }
    return Py_NewRef(Py_None);
}

DEFINE_GC_TYPE(pause_total, PauseTotal, "flask_knitperf.recording._speedups.PauseTotalBase",
               PAUSE_TOTAL_FIELDS, NEW {Py_tp_call, pause_total_call}, )

/* -- RequestSeriesBase and ProfileBase ---------------------------------------------------------------- */

#define REQUEST_SERIES_FIELDS(X, S) \
    X(S, OBJECT, append, 0) X(S, UINT, solo, 0) X(S, UINT, concurrent, 0) X(S, UINT, bytes_out, 0) \
    X(S, UINT, streamed, 0) X(S, UINT, gc, 0) X(S, UINT, cpu, 0) X(S, UINT, sampled_wall, 0) \
    X(S, UINT, run_queue, 0) X(S, INT64, detailed_at, 0) X(S, INT64, detailed_above, 0) \
    X(S, OPTIONAL, parts, 0) X(S, BOOL, bodiless, 0)
typedef struct {
    PyObject_HEAD
    REQUEST_SERIES_FIELDS(STRUCT_FIELD, RequestSeries)
} RequestSeries;
DEFINE_GC_TYPE(request_series, RequestSeries, "flask_knitperf.recording._speedups.RequestSeriesBase",
               REQUEST_SERIES_FIELDS, NEW)

#define PROFILE_FIELDS(X, S) \
    X(S, OBJECT, slow_urls, 0) X(S, OBJECT, request_series, 0) X(S, INT64, requests_started, 0) \
    X(S, INT64, prepare_at, 0) X(S, INT64, cpu_every, 0) X(S, INT64, busy_ns, 0) \
    X(S, INT64, busy_since, 0) X(S, INT64, sampled_ns, 0)
typedef struct {
    PyObject_HEAD
    PROFILE_FIELDS(STRUCT_FIELD, Profile)
} Profile;
DEFINE_GC_TYPE(profile, Profile, "flask_knitperf.recording._speedups.ProfileBase", PROFILE_FIELDS, NEW)

/* -- FastPathBase ------------------------------------------------------------------------------------ */

#define FAST_PATH_FIELDS(X, S) \
    X(S, OBJECT, app, 0) X(S, OPTIONAL, recorder, READONLY) X(S, OPTIONAL, profile, READONLY) \
    X(S, HIDDEN, spans, 0) X(S, HIDDEN, bypassed, 0) X(S, HIDDEN, span_class, 0) \
    X(S, HIDDEN, current, 0) X(S, HIDDEN, pauses, 0) X(S, HIDDEN, body_class, 0) \
    X(S, HIDDEN, viewer_cookie, 0)
typedef struct {
    PyObject_HEAD
    State *state;
    FAST_PATH_FIELDS(STRUCT_FIELD, FastPath)
} FastPath;

static int
is_tuple_of_strings(PyObject *tuple)
{
    Py_ssize_t i;
    for (i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        if (!PyUnicode_Check(PyTuple_GET_ITEM(tuple, i))) {
            return 0;
        }
    }
    return 1;
}

static int
fast_path_init(FastPath *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"app", "recorder", "profile", "spans", "bypassed", "span_class", "current",
                            "pauses", "body_class", "viewer_cookie", NULL};
    PyObject *app, *recorder, *profile, *spans, *bypassed, *span_class, *current, *pauses, *body_class;
    PyObject *viewer_cookie;
    State *state = state_of(Py_TYPE(self));
    if (state == NULL || !PyArg_ParseTupleAndKeywords(
            args, kwargs, "OOO!O!O!O!O!O!O!U", names, &app, &recorder, state->profile, &profile,
            &PyDict_Type, &spans, &PyTuple_Type, &bypassed, &PyType_Type, &span_class,
            &PyContextVar_Type, &current, state->pause_total, &pauses, &PyType_Type, &body_class,
            &viewer_cookie)) {
        return -1;
    }
    if (!PyType_IsSubtype((PyTypeObject *)span_class, state->span) || !is_tuple_of_strings(bypassed)) {
        PyErr_SetString(PyExc_TypeError, "span_class must be a SpanBase, bypassed must hold strings");
        return -1;
    }
    if (self->recorder != NULL) { /* a request that is being served borrows the fields */
        PyErr_SetString(PyExc_RuntimeError, "already initialised");
        return -1;
    }
    self->state = state;
#define KEEP(S, KIND, name, flags) self->name = Py_NewRef(name);
    FAST_PATH_FIELDS(KEEP, FastPath)
#undef KEEP
    return 0;
}

/* Whether a path starts with one of the prefixes; -1 with an error. */
static int
starts_with(PyObject *path, PyObject *prefixes)
{
    Py_ssize_t i, match = 0;
    if (!PyUnicode_Check(path)) {
        PyErr_SetString(PyExc_TypeError, "PATH_INFO must be a string");
        return -1;
    }
    for (i = 0; match == 0 && i < PyTuple_GET_SIZE(prefixes); i++) {
        match = PyUnicode_Tailmatch(path, PyTuple_GET_ITEM(prefixes, i), 0, PY_SSIZE_T_MAX, -1);
    }
    return (int)match;
}

/* Whether a request must be prepared before it runs; -1 with an error. */
static int
needs_preparation(FastPath *self, PyObject *environ)
{
    Profile *profile = (Profile *)self->profile;
    PyObject *cookie;
    int result;
    if (profile->requests_started >= profile->prepare_at) {
        return 1;
    }
    cookie = get(environ, self->state->HTTP_COOKIE);
    if (cookie == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    result = PyUnicode_Check(cookie) ? PyUnicode_Contains(cookie, self->viewer_cookie) : 0;
    Py_DECREF(cookie);
    return result;
}

/* Marks a span and all that are in flight as concurrent. Runs no Python, so that none is added or ends. */
static void
mark_concurrent(FastPath *self, Span *span)
{
    Profile *profile = (Profile *)self->profile;
    PyObject *key;
    Py_ssize_t position = 0;
    long long first = LLONG_MAX;
    while (PyDict_Next(self->spans, &position, &key, NULL)) {
        if (PyObject_TypeCheck(key, self->state->span)) {
            ((Span *)key)->concurrent = 1;
            first = Py_MIN(first, ((Span *)key)->began);
        }
    }
    span->concurrent = 1;
    if (profile->busy_since == 0 && first != LLONG_MAX) {
        profile->busy_since = first;
    }
}

/* Whether a path was slow in its latest requests; -1 with an error. */
static int
is_watched(Profile *profile, PyObject *path)
{
    PyObject *until;
    long long last;
    if (!REQUIRE(profile, slow_urls)) {
        return -1;
    }
    if (!PyDict_CheckExact(profile->slow_urls)) {
        PyErr_SetString(PyExc_TypeError, "slow_urls must be a dict");
        return -1;
    }
    until = PyDict_GET_SIZE(profile->slow_urls) == 0 || !PyUnicode_CheckExact(path)
        ? NULL : PyDict_GetItemWithError(profile->slow_urls, path);
    if (until == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    return to_int64(Py_NewRef(until), &last) < 0 ? -1 : profile->requests_started <= last;
}

/* Starts to measure the CPU time of a request, if it is to be measured; -1 with an error. */
static int
sample_cpu(FastPath *self, Span *span, PyObject *path)
{
    Profile *profile = (Profile *)self->profile;
    State *state = self->state;
    const long long number = profile->requests_started, every = profile->cpu_every;
    long long weight = 0, cpu;
    int watched;
    if (every <= 0) {
        return 0;
    }
    watched = is_watched(profile, path);
    if (watched < 0) {
        return -1;
    }
    if (number <= WARM_UP_REQUESTS) {
        weight = 1;
    }
    else if (position(number, every) == 0) {
        weight = every;
    }
    if (weight == 0 && !watched) {
        return 0;
    }
    span->weight = watched ? -weight : weight;
    if ((span->concurrent
                && read_clock(state, self->recorder, state->process_ns, &span->process_began) < 0)
            || read_clock(state, self->recorder, state->run_queue_ns, &span->run_queue_began) < 0
            || read_clock(state, self->recorder, state->thread_ns, &cpu) < 0) {
        return -1;
    }
    Py_XSETREF(span->cpu_began, PyLong_FromLongLong(cpu));
    return span->cpu_began == NULL ? -1 : 0;
}

/* Resets the current span while the application's error is pending, which is the one to raise. */
static void
reset_after_error(FastPath *self, PyObject *token)
{
    PyObject *error = PyErr_GetRaisedException();
    if (PyContextVar_Reset(self->current, token) < 0) {
        PyErr_Clear();
    }
    PyErr_SetRaisedException(error);
}

/* Ends a span whose application raised the pending error, or whose end the host interrupted with it. */
static void
end_after_error(FastPath *self, Span *span)
{
    PyObject *error = PyErr_GetRaisedException();
    if (CALL(self, self->state->on_exception, span, error) < 0) {
        Py_DECREF(error); /* only what ends the process is raised there */
    }
    else {
        PyErr_SetRaisedException(error);
    }
}

/* Calls the application with the span current, as a method of an instance unless that is None. */
static PyObject *
run(FastPath *self, PyObject *environ, Span *span, PyObject *instance)
{
    PyObject *token, *body, *app;
    PyObject *args[3] = {instance, environ, (PyObject *)span};
    if (!REQUIRE(self, app) || (token = PyContextVar_Set(self->current, (PyObject *)span)) == NULL) {
        return NULL;
    }
    app = Py_NewRef(self->app); /* the host may replace it meanwhile */
    body = instance == Py_None
        ? PyObject_Vectorcall(app, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
        : PyObject_Vectorcall(app, args, 3, NULL);
    Py_DECREF(app);
    if (body == NULL) {
        reset_after_error(self, token);
    }
    else if (PyContextVar_Reset(self->current, token) < 0) {
        Py_CLEAR(body);
    }
    Py_DECREF(token);
    return body;
}

/* The bytes of a list of at most one piece, -1 for anything else. */
static Py_ssize_t
length_of_chunks(PyObject *chunks)
{
    PyObject *chunk;
    if (!PyList_CheckExact(chunks) || PyList_GET_SIZE(chunks) > 1) {
        return -1;
    }
    chunk = PyList_GET_SIZE(chunks) == 0 ? NULL : PyList_GET_ITEM(chunks, 0);
    return chunk == NULL ? 0 : PyBytes_CheckExact(chunk) ? PyBytes_GET_SIZE(chunk) : -1;
}

/* The bytes of a body that is complete, -1 if it is of another kind; check PyErr_Occurred(). */
static Py_ssize_t
body_length(FastPath *self, PyObject *body)
{
    PyObject *callbacks, *last, *owner, *chunks;
    Py_ssize_t length = -1;
    int depth, direct, nested = 1;
    Py_INCREF(body);
    for (depth = 0; nested && depth < MAX_NESTED_BODIES; depth++) {
        callbacks = PyObject_GetAttr(body, self->state->_callbacks);
        last = callbacks == NULL ? NULL : PySequence_GetItem(callbacks, -1);
        Py_XDECREF(callbacks);
        if (last == NULL || !PyMethod_Check(last)) { /* a callback of the host */
            Py_XDECREF(last);
            break;
        }
        owner = PyMethod_GET_SELF(last);
        direct = (PyObject *)Py_TYPE(owner) == self->body_class;
        if (direct && depth == 0) { /* a middleware of the host iterates over the body */
            Py_DECREF(last);
            break;
        }
        chunks = direct ? Py_NewRef(owner) : PyObject_GetAttr(owner, self->state->response);
        Py_DECREF(last);
        if (chunks == NULL) {
            break;
        }
        Py_SETREF(body, chunks);
        nested = (PyObject *)Py_TYPE(body) == self->body_class;
        length = nested ? -1 : length_of_chunks(body);
    }
    Py_DECREF(body);
    return length;
}

/* The series of requests like this one, as a new reference; NULL without an error if there are none. */
static RequestSeries *
find_request_series(FastPath *self, Span *span)
{
    Profile *profile = (Profile *)self->profile;
    PyObject *all, *method, *key = NULL, *request_series = NULL;
    if (!REQUIRE(profile, request_series)
            || (method = get_required(span, self->state->REQUEST_METHOD)) == NULL) {
        return NULL;
    }
    all = Py_NewRef(profile->request_series);
    if (!PyDict_Check(all)) {
        PyErr_SetString(PyExc_TypeError, "request_series must be a dict");
    }
    else {
        key = PyTuple_Pack(3, span->endpoint == NULL ? Py_None : span->endpoint, method,
                           span->status == NULL ? self->state->empty : span->status);
    }
    if (key != NULL) {
        request_series = PyDict_GetItemWithError(all, key);
        if (request_series != NULL && !PyObject_TypeCheck(request_series, self->state->request_series)) {
            request_series = NULL;
        }
        Py_XINCREF(request_series);
    }
    Py_XDECREF(key);
    Py_DECREF(method);
    Py_DECREF(all);
    return (RequestSeries *)request_series;
}

/* A group of observations while it is built. */
typedef struct {
    char cells[MAX_CELLS * 16];
    int size;
} Group;

static void
add(Group *group, unsigned int series, long long weight, long long value)
{
    const uint32_t head[] = {(uint32_t)series, (uint32_t)weight};
    const double number = value == 0 ? -0.0 : (double)value;
    memcpy(group->cells + group->size, head, 8);
    memcpy(group->cells + group->size + 8, &number, 8);
    group->size += 16;
}

/* Appends a group to the current log, or to the next one if that is full; -1 with an error. */
static int
write_group(State *state, RequestSeries *request_series, Group *cells)
{
    PyObject *group;
    uint32_t last;
    int result = -1;
    memcpy(&last, cells->cells + cells->size - 16, 4);
    last |= END;
    memcpy(cells->cells + cells->size - 16, &last, 4);
    group = PyBytes_FromStringAndSize(cells->cells, cells->size);
    if (group != NULL && REQUIRE(request_series, append)) {
        result = done(PyObject_CallOneArg(request_series->append, group));
        if (result < 0 && PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();
            result = CALL(request_series, state->append_to_next_log, group);
        }
    }
    Py_XDECREF(group);
    return result;
}

/* Removes a span from those in flight, and adds its time to the worker's busy time; -1 with an error. */
static int
finish_span(FastPath *self, Span *span, long long wall)
{
    Profile *profile = (Profile *)self->profile;
    long long since;
    if (PyDict_DelItem(self->spans, (PyObject *)span) < 0) {
        return -1;
    }
    span->wall = wall;
    span->ended = 1;
    if (PyDict_GET_SIZE(self->spans) == 0) {
        since = profile->busy_since;
        profile->busy_since = 0;
        profile->busy_ns += since == 0 ? wall : Py_MAX(0, span->began + wall - since);
    }
    return 0;
}

/* The number of requests that the CPU sample of a fast request stands for, 0 for none. */
static long long
sample_weight(Span *span)
{
    return !IS_SET(span->cpu_began) ? 0 : span->weight < 0 ? -span->weight : span->weight;
}

/* Whether a field that holds a container is unset, or of the right type and not too large. */
#define IS_AT_MOST(field, Type, limit) \
    (!IS_SET(field) || (Py##Type##_CheckExact(field) && Py##Type##_GET_SIZE(field) <= (limit)))

/* Stores the series of a part: 1, or 0 if they are unknown; -1 with an error. */
static int
find_part(RequestSeries *request_series, PyObject *name, unsigned int *series)
{
    PyObject *ids;
    if (!IS_SET(request_series->parts) || !PyDict_CheckExact(request_series->parts)
            || !PyUnicode_CheckExact(name)) {
        return 0;
    }
    ids = PyDict_GetItemWithError(request_series->parts, name);
    if (ids == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (!PyTuple_CheckExact(ids)) {
        PyErr_SetString(PyExc_TypeError, "parts must hold tuples");
        return -1;
    }
    return PyArg_ParseTuple(ids, "III", series, series + 1, series + 2) ? 1 : -1;
}

/* Adds the hooks of a request that were not short, as find_part(). */
static int
add_hooks(Span *span, RequestSeries *request_series, Group *group)
{
    PyObject *name, *cpu;
    Py_ssize_t i;
    long long began, ended;
    unsigned int series[3];
    int result = 1;
    for (i = 0; result > 0 && IS_SET(span->hooks) && i < PyList_GET_SIZE(span->hooks); i++) {
        if (!PyArg_ParseTuple(PyList_GET_ITEM(span->hooks, i), "OLLO", &name, &began, &ended, &cpu)) {
            return -1;
        }
        result = find_part(request_series, name, series);
        if (result > 0) {
            add(group, series[0], 1, ended - began);
        }
    }
    return result;
}

/* Adds the parts of a request: 1, or 0 if it must take the slow path; -1 with an error. */
static int
add_parts(Span *span, RequestSeries *request_series, long long ended, Group *group)
{
    const long long weight = sample_weight(span);
    PyObject *name, *row;
    Py_ssize_t position = 0;
    long long count, wall, cpu;
    unsigned int series[3];
    int result;
    if (IS_SET(span->hook) && ended - span->hook_began >= MIN_HOOK_NS) {
        return 0; /* it answered the request */
    }
    if (!IS_AT_MOST(span->stack, List, 0) || !IS_AT_MOST(span->hooks, List, MAX_PARTS)
            || !IS_AT_MOST(span->parts, Dict, MAX_PARTS - (IS_SET(span->hooks)
                                                          ? PyList_GET_SIZE(span->hooks) : 0))) {
        return 0;
    }
    result = add_hooks(span, request_series, group);
    while (result > 0 && IS_SET(span->parts) && PyDict_Next(span->parts, &position, &name, &row)) {
        if (!PyList_CheckExact(row) || PyList_GET_SIZE(row) != 3
                || to_int64(Py_NewRef(PyList_GET_ITEM(row, 0)), &count) < 0
                || to_int64(Py_NewRef(PyList_GET_ITEM(row, 1)), &wall) < 0
                || to_int64(Py_NewRef(PyList_GET_ITEM(row, 2)), &cpu) < 0) {
            return PyErr_Occurred() ? -1 : 0;
        }
        result = find_part(request_series, name, series);
        if (result <= 0 || (weight != 0 && series[1] == 0)) {
            return Py_MIN(result, 0);
        }
        add(group, series[0], 1, wall);
        if (count > 1) { /* the first carries the sum, these only the count */
            add(group, series[0], count - 1, 0);
        }
        if (weight != 0) {
            add(group, series[1], weight, wall);
            add(group, series[2], weight, Py_MIN(cpu, wall));
        }
    }
    return result;
}

/* Whether a request takes the slow path so that its details may be kept. */
static int
is_detailed(RequestSeries *request_series, long long wall, long long ended)
{
    return ended >= request_series->detailed_at || wall > request_series->detailed_above;
}

/* Adds the CPU time of a sampled request: 1, or 0 if it must take the slow path; -1 with an error. */
static int
add_cpu(FastPath *self, Span *span, RequestSeries *request_series, long long wall, Group *group)
{
    const long long weight = sample_weight(span), ended = span->began + wall;
    State *state = self->state;
    long long cpu, run_queue, began;
    if (weight == 0) {
        return 1;
    }
    if (span->concurrent || IS_SET(span->hooks) || request_series->cpu == 0
            || span->thread != PyThread_get_thread_ident() || is_detailed(request_series, wall, ended)) {
        return 0;
    }
    if (to_int64(Py_NewRef(span->cpu_began), &began) < 0
            || read_clock(state, self->recorder, state->thread_ns, &cpu) < 0
            || read_clock(state, self->recorder, state->run_queue_ns, &run_queue) < 0) {
        return -1;
    }
    cpu = Py_MIN(cpu - began, wall);
    run_queue = Py_MIN(run_queue - span->run_queue_began, wall - cpu);
    if (cpu < 0 || (run_queue > 0 && request_series->run_queue == 0)) {
        return 0;
    }
    if (run_queue > 0) {
        add(group, request_series->run_queue, weight, run_queue);
    }
    add(group, request_series->cpu, weight, cpu);
    add(group, request_series->sampled_wall, weight, wall);
    ((Profile *)self->profile)->sampled_ns += wall * weight;
    return 1;
}

/* Writes the group of a request: 1, or 0 if it must take the slow path; -1 with an error. */
static int
record_group(FastPath *self, Span *span, RequestSeries *request_series, long long ended,
             long long length, int streamed)
{
    const long long wall = ended - span->began;
    const long long pause = ((PauseTotal *)self->pauses)->total - span->gc_began;
    const unsigned int series = span->concurrent ? request_series->concurrent : request_series->solo;
    Group group = {{0}, 0};
    int result;
    if (series == 0 || wall <= 0 || wall >= SLOW_NS || pause > SHORT_PAUSE_NS
            || (pause > 0 && request_series->gc == 0)) {
        return 0;
    }
    if (span->fast == FAST_COLLECT) {
        if (is_detailed(request_series, wall, ended)) {
            return 0;
        }
        if (CALL(self, self->state->collect, span) < 0) {
            return -1;
        }
    }
    add(&group, series, 1, wall);
    if (pause > 0) {
        add(&group, request_series->gc, 1, Py_MIN(pause, wall));
    }
    result = add_parts(span, request_series, ended, &group);
    if (result > 0) {
        result = add_cpu(self, span, request_series, wall, &group);
    }
    if (result <= 0) {
        return result;
    }
    if (length > 0) {
        add(&group, request_series->bytes_out, 1, length);
        if (streamed) {
            add(&group, request_series->streamed, 1, length);
        }
    }
    return finish_span(self, span, wall) < 0 || write_group(self->state, request_series, &group) < 0
        ? -1 : 1;
}

/* Records a request: 1, or 0 if it must take the slow path; -1 with an error. */
static int
record(FastPath *self, Span *span, PyObject *body, long long ended)
{
    RequestSeries *request_series;
    Py_ssize_t length;
    int result = 0;
    if ((PyObject *)Py_TYPE(body) != self->body_class) {
        return 0;
    }
    request_series = find_request_series(self, span);
    if (request_series != NULL) {
        length = request_series->bodiless ? 0 : body_length(self, body);
        result = length < 0 ? 0 : record_group(self, span, request_series, ended, length, 0);
        Py_DECREF(request_series);
    }
    return PyErr_Occurred() ? -1 : result;
}

/* Records the CPU time of the measured stretches, without that of reading the clock; -1 with an error. */
static int
record_cost(FastPath *self, Span *span)
{
    State *state = self->state;
    PyObject *cost;
    long long began, ended, stretches;
    int result;
    if (measure_cost(span, 1) < 0) {
        return -1;
    }
    if (!span->timed) {
        return 0;
    }
    stretches = span->timed - 1;
    span->timed = 0;
    if (read_clock(state, self->recorder, state->thread_ns, &began) < 0
            || read_clock(state, self->recorder, state->thread_ns, &ended) < 0) {
        return report_error((PyObject *)self, state->on_fastpath_error);
    }
    if (stretches <= 0 || span->cost < 0) { /* negative: a stretch was interrupted */
        return 0;
    }
    cost = PyLong_FromLongLong(Py_MAX(0, span->cost - stretches * (ended - began)));
    result = cost == NULL ? -1 : CALL(self->profile, state->record_cost, cost);
    Py_XDECREF(cost);
    return result < 0 ? report_error((PyObject *)self, state->on_fastpath_error) : 0;
}

/* Finishes a span, at once or with its body. Takes the reference to the body, returns one. */
static PyObject *
finish(FastPath *self, Span *span, PyObject *body, long long ended)
{
    PyObject *result;
    int recorded = span->fast ? record(self, span, body, ended) : 0;
    if (recorded > 0) {
        return body;
    }
    if (recorded < 0) {
        recorded = report_error((PyObject *)self, self->state->on_fastpath_error);
    }
    result = recorded < 0 ? NULL
        : PyObject_CallMethodObjArgs((PyObject *)self, self->state->finish_slow, span, body, NULL);
    Py_DECREF(body);
    return result;
}

/* Starts a span, runs the application, finishes the span. */
static PyObject *
record_request(FastPath *self, PyObject *environ, PyObject *start_response, PyObject *instance,
               PyObject *path, PyObject *now)
{
    PyObject *body = NULL;
    Profile *profile = (Profile *)self->profile;
    long long ended;
    int failed, in_flight = 0;
    Span *span = new_span(self->state, (PyTypeObject *)self->span_class);
    if (span == NULL) {
        return NULL;
    }
    span->owner = Py_NewRef(self->recorder);
    span->middleware = Py_NewRef(self);
    span->environ = Py_NewRef(environ);
    span->start_response = Py_NewRef(start_response);
    span->thread = PyThread_get_thread_ident();
    profile->requests_started++;
    if (PyDict_GET_SIZE(self->spans) > 0) {
        mark_concurrent(self, span);
    }
    if (position(profile->requests_started * COST_STRIDE, COST_EVERY) == COST_EVERY - 1) {
        span->timed = 1;
    }
    failed = measure_cost(span, -1) < 0 ? -1 : needs_preparation(self, environ);
    if (failed > 0) {
        failed = CALL(self, self->state->prepare_slow_path, span, environ);
    }
    if (failed == 0 && sample_cpu(self, span, path) < 0) {
        failed = report_error((PyObject *)self, self->state->on_fastpath_error);
    }
    if (failed == 0) {
        span->gc_began = ((PauseTotal *)self->pauses)->total;
        in_flight = read_now(self->state, now, &span->began) == 0
            && PyDict_SetItem(self->spans, (PyObject *)span, Py_None) == 0;
        if (in_flight && measure_cost(span, 1) == 0) {
            body = run(self, environ, span, instance);
        }
    }
    if (body != NULL && (read_now(self->state, now, &ended) < 0 || measure_cost(span, -1) < 0)) {
        Py_CLEAR(body);
    }
    if (body != NULL) {
        body = finish(self, span, body, ended);
    }
    if (body == NULL && in_flight && !span->ended) {
        end_after_error(self, span);
    }
    if (body != NULL && (span->ended ? record_cost(self, span) : measure_cost(span, 1)) < 0) {
        Py_CLEAR(body);
    }
    Py_DECREF(span);
    return body;
}

/* Serves one request; the application is called as a method of an instance unless that is None. */
static PyObject *
serve(FastPath *self, PyObject *environ, PyObject *start_response, PyObject *instance)
{
    PyObject *path, *clock, *now, *response = NULL;
    State *state = self->state;
    int bypassed;
    if (self->recorder == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "never initialised");
        return NULL;
    }
    path = get(environ, state->PATH_INFO);
    if (path == NULL && !PyErr_Occurred()) {
        path = Py_NewRef(state->empty);
    }
    bypassed = path == NULL ? -1 : starts_with(path, self->bypassed);
    if (bypassed > 0) {
        response = PyObject_CallMethodObjArgs(
            (PyObject *)self, state->bypass, environ, start_response, instance, path, NULL);
        if (response == Py_None) {
            Py_CLEAR(response);
            bypassed = 0;
        }
    }
    if (bypassed == 0) {
        clock = PyObject_GetAttr(self->recorder, state->clock);
        now = clock == NULL ? NULL : PyObject_GetAttr(clock, state->monotonic_ns);
        if (now != NULL) {
            response = record_request(self, environ, start_response, instance, path, now);
        }
        Py_XDECREF(clock);
        Py_XDECREF(now);
    }
    Py_XDECREF(path);
    return response;
}

static PyObject *
fast_path_call(FastPath *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"environ", "start_response", NULL};
    PyObject *environ, *start_response;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO", names, &environ, &start_response)) {
        return NULL;
    }
    return serve(self, environ, start_response, Py_None);
}

static PyObject *
fast_path_serve(FastPath *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_Format(PyExc_TypeError, "serve() takes 3 arguments, not %zd", count);
        return NULL;
    }
    return serve(self, args[0], args[1], args[2]);
}

/* The span that a method was passed; NULL with an error. */
static Span *
checked_span(FastPath *self, PyObject *span)
{
    if (self->recorder == NULL || !PyObject_TypeCheck(span, self->state->span)) {
        PyErr_SetString(PyExc_TypeError, "this takes a span of an initialised fast path");
        return NULL;
    }
    return (Span *)span;
}

/* Records a request whose streamed body was sent; returns whether it need not take the slow path. */
static PyObject *
fast_path_record_streamed(FastPath *self, PyObject *args)
{
    PyObject *object;
    Span *span;
    RequestSeries *request_series = NULL;
    long long length, ended;
    int in_flight, recorded = 0;
    if (!PyArg_ParseTuple(args, "OL", &object, &length) || (span = checked_span(self, object)) == NULL) {
        return NULL;
    }
    in_flight = span->fast && !span->ended ? PyDict_Contains(self->spans, object) : 0;
    if (in_flight > 0) {
        request_series = find_request_series(self, span);
    }
    if (request_series != NULL && !request_series->bodiless && request_series->streamed != 0) {
        recorded = read_clock(self->state, self->recorder, self->state->monotonic_ns, &ended) < 0
            ? -1 : record_group(self, span, request_series, ended, length, 1);
    }
    Py_XDECREF(request_series);
    if (PyErr_Occurred()) {
        if (report_error((PyObject *)self, self->state->on_fastpath_error) < 0) {
            return NULL;
        }
        recorded = 0;
    }
    return PyBool_FromLong(recorded);
}

/* Records our own cost of a request that has ended after its application returned. */
static PyObject *
fast_path_end_cost(FastPath *self, PyObject *object)
{
    Span *span = checked_span(self, object);
    return span == NULL || record_cost(self, span) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef fast_path_methods[] = {
    {"serve", (PyCFunction)(void (*)(void))fast_path_serve, METH_FASTCALL, NULL},
    {"record_streamed", (PyCFunction)fast_path_record_streamed, METH_VARARGS, NULL},
    {"end_cost", (PyCFunction)fast_path_end_cost, METH_O, NULL}, {0}};

DEFINE_GC_TYPE(fast_path, FastPath, "flask_knitperf.recording._speedups.FastPathBase", FAST_PATH_FIELDS,
               NEW {Py_tp_init, fast_path_init}, {Py_tp_call, fast_path_call},
               {Py_tp_methods, fast_path_methods}, )

/* -- HookMarkBase ------------------------------------------------------------------------------------ */

#define HOOK_MARK_FIELDS(X, S) \
    X(S, OPTIONAL, recorder, READONLY) X(S, HIDDEN, current, 0) X(S, OPTIONAL, name, READONLY)
typedef struct {
    PyObject_HEAD
    State *state;
    HOOK_MARK_FIELDS(STRUCT_FIELD, HookMark)
} HookMark;

static int
hook_mark_init(HookMark *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"recorder", "current", "name", NULL};
    PyObject *recorder, *current, *name;
    State *state = state_of(Py_TYPE(self));
    if (state == NULL || !PyArg_ParseTupleAndKeywords(
            args, kwargs, "OO!O", names, &recorder, &PyContextVar_Type, &current, &name)) {
        return -1;
    }
    self->state = state;
    SET(self->recorder, recorder);
    SET(self->current, current);
    SET(self->name, name);
    return 0;
}

/* The runnable time of this thread, None where it is not sampled for this request; NULL with an error. */
static PyObject *
read_runnable(HookMark *self, Span *span)
{
    long long cpu, run_queue;
    if (!IS_SET(span->cpu_began)) {
        return Py_NewRef(Py_None);
    }
    if (read_clock(self->state, self->recorder, self->state->thread_ns, &cpu) < 0
            || read_clock(self->state, self->recorder, self->state->run_queue_ns, &run_queue) < 0) {
        return NULL;
    }
    return PyLong_FromLongLong(cpu + run_queue);
}

/* Keeps a hook that has just ended, with nothing inside; -1 with an error. */
static int
keep_hook(HookMark *self, Span *span, long long now)
{
    PyObject *hook, *runnable = read_runnable(self, span);
    int result;
    if (runnable != NULL && !IS_SET(span->hooks)) {
        Py_XSETREF(span->hooks, PyList_New(0));
    }
    hook = runnable == NULL || span->hooks == NULL
        ? NULL : Py_BuildValue("(OLLO)", span->hook, span->hook_began, now, runnable);
    Py_XDECREF(runnable);
    if (hook == NULL || !PyList_Check(span->hooks)) {
        Py_XDECREF(hook);
        return PyErr_Occurred() ? -1 : 0;
    }
    result = PyList_Append(span->hooks, hook);
    Py_DECREF(hook);
    return result;
}

/* Ends the hook of a span, if one runs, and starts the next one, if there is one; -1 with an error. */
static int
mark(HookMark *self, Span *span)
{
    State *state = self->state;
    long long now;
    int simple = span->fast && !IS_SET(span->parts) && !IS_SET(span->notes), failed = 0;
    if (read_clock(state, self->recorder, state->monotonic_ns, &now) < 0) {
        return -1;
    }
    if (IS_SET(span->hook) && now - span->hook_began >= MIN_HOOK_NS) {
        failed = simple ? keep_hook(self, span, now) : CALL(self, state->end_hook, span);
    }
    SET(span->hook, self->name);
    span->hook_began = now;
    Py_CLEAR(span->hook_start);
    if (failed == 0 && IS_SET(self->name)
            && (!span->fast || IS_SET(span->parts) || IS_SET(span->notes))) {
        failed = CALL(self, state->start_hook, span);
    }
    return failed;
}

static PyObject *
hook_mark_call(HookMark *self, PyObject *args, PyObject *kwargs)
{
    PyObject *span = NULL;
    State *state = self->state;
    int failed = 0;
    if (!PyArg_ParseTuple(args, "") || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0)) {
        PyErr_SetString(PyExc_TypeError, "a mark takes no arguments");
        return NULL;
    }
    if (self->current == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "never initialised");
        return NULL;
    }
    if (PyContextVar_Get(self->current, Py_None, &span) < 0) {
        return NULL;
    }
    if (PyObject_TypeCheck(span, state->span) && ((Span *)span)->owner == self->recorder
            && !((Span *)span)->ended) {
        failed = measure_cost((Span *)span, -1) < 0 ? -1 : mark(self, (Span *)span);
        if (failed < 0) {
            failed = report_error((PyObject *)self, state->failed);
        }
        if (failed == 0) {
            failed = measure_cost((Span *)span, 1);
        }
    }
    Py_DECREF(span);
    return failed < 0 ? NULL : Py_NewRef(Py_None);
}

DEFINE_GC_TYPE(hook_mark, HookMark, "flask_knitperf.recording._speedups.HookMarkBase", HOOK_MARK_FIELDS,
               NEW {Py_tp_init, hook_mark_init}, {Py_tp_call, hook_mark_call}, )

static int
module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    if (fill_state(state) < 0) {
        return -1;
    }
    ADD_TYPE(span, NULL)
    ADD_TYPE(notes, NULL)
    ADD_TYPE(pause_total, NULL)
    ADD_TYPE(request_series, NULL)
    ADD_TYPE(profile, NULL)
    ADD_TYPE(fast_path, NULL)
    ADD_TYPE(hook_mark, NULL)
    return 0;
}
