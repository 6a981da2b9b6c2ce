/* The usual request in C: the same classes as in fastpath.py, which says what they do and why.

   Read that module first. This one holds to it line by line; where the two differ it is a bug here. What
   it adds is only that the fields are C members and the step is one C function, so that a request that is
   cold between two others meets a few cache lines of ours instead of a few hundred bytecodes. Anything
   unusual is a call of a method in Python.

   Rules: no global state but interned names; every object in a struct is visited by the collector; no
   private API; a failure of ours that is an Exception goes to on_fastpath_error(), as in Python. */

#include "_span.h"

enum { FAST_OFF, FAST_ON, FAST_TIMED };
#define SLOW_NS 20000000LL
#define NAMES(X) \
    X(PATH_INFO) X(HTTP_COOKIE) X(REQUEST_METHOD) X(url_rule) X(endpoint) X(_callbacks) X(response) X(clock) \
    X(monotonic_ns) X(bypass) X(prepare_slow_path) X(unrouted) X(on_exception) X(on_fastpath_error) X(finish_slow) X(end_busy_period) \
    X(record_cost) X(append_to_next_log)
#define DECLARE(name) static PyObject *s_##name;
NAMES(DECLARE)
static PyObject *s_request; /* "werkzeug.request" */
static PyObject *s_empty;

/* -- small things ------------------------------------------------------------------------------- */

/* A new reference to an environment's value; NULL without an error where there is none. */
static PyObject *
lookup(PyObject *environ, PyObject *key)
{
    PyObject *found;
    if (PyDict_Check(environ)) {
        found = PyDict_GetItemWithError(environ, key);
        Py_XINCREF(found);
        return found;
    }
    found = PyObject_GetItem(environ, key);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
    }
    return found;
}

static PyObject *
required(PyObject *environ, PyObject *key)
{
    PyObject *found = lookup(environ, key);
    if (found == NULL && !PyErr_Occurred()) {
        PyErr_SetObject(PyExc_KeyError, key);
    }
    return found;
}

/* -- SpanBase ------------------------------------------------------------------------------------ */

static PyMemberDef span_members[] = {
    FIELD(Span, owner, T_OBJECT, 0),
    FIELD(Span, middleware, T_OBJECT, 0),
    FIELD(Span, environ, T_OBJECT, 0),
    FIELD(Span, start_response, T_OBJECT, 0),
    FIELD(Span, status, T_OBJECT, 0),
    FIELD(Span, headers, T_OBJECT, 0),
    FIELD(Span, endpoint, T_OBJECT, 0),
    FIELD(Span, cpu_began, T_OBJECT, 0),
    FIELD(Span, start_record, T_OBJECT, 0),
    FIELD(Span, stack, T_OBJECT, 0),
    FIELD(Span, parts, T_OBJECT, 0),
    FIELD(Span, notes, T_OBJECT, 0),
    FIELD(Span, began, T_LONGLONG, 0),
    FIELD(Span, run_queue_began, T_LONGLONG, 0),
    FIELD(Span, process_began, T_LONGLONG, 0),
    FIELD(Span, gc_began, T_LONGLONG, 0),
    FIELD(Span, cost, T_LONGLONG, 0),
    FIELD(Span, length, T_LONGLONG, 0),
    FIELD(Span, wall, T_LONGLONG, 0),
    FIELD(Span, runnable_ns, T_LONGLONG, 0),
    FIELD(Span, thread, T_ULONGLONG, 0),
    FIELD(Span, weight, T_LONG, 0),
    FIELD(Span, fast, T_INT, 0),
    FIELD(Span, concurrent, T_BOOL, 0),
    FIELD(Span, ended, T_BOOL, 0),
    {NULL},
};

#define SPAN_OBJECTS(DO) \
    DO(owner) DO(middleware) DO(environ) DO(start_response) DO(status) DO(headers) DO(endpoint) DO(cpu_began) \
    DO(start_record) DO(stack) DO(parts) DO(notes)

static int
span_traverse(Span *self, visitproc visit, void *arg)
{
    SPAN_OBJECTS(VISIT)
    return 0;
}

static int
span_clear(Span *self)
{
    SPAN_OBJECTS(CLEAR)
    return 0;
}

static void
span_dealloc(Span *self)
{
    PyObject_GC_UnTrack(self);
    span_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static Span *
span_made(PyTypeObject *type)
{
    Span *self = (Span *)type->tp_alloc(type, 0);
    if (self != NULL) {
        Py_INCREF(s_empty);
        self->status = s_empty;
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
    return (PyObject *)span_made(type);
}

static int
span_init(Span *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"owner", "environ", "began", NULL};
    PyObject *owner = Py_None, *environ = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOL", names, &owner, &environ, &self->began)) {
        return -1;
    }
    Py_INCREF(owner);
    Py_XSETREF(self->owner, owner);
    Py_INCREF(environ);
    Py_XSETREF(self->environ, environ);
    return 0;
}

/* Reads the endpoint of the request that is at hand; -1 with an error where it does not tell. */
static int
read_endpoint(Span *self)
{
    PyObject *request, *rule, *endpoint;
    request = self->environ == NULL ? NULL : required(self->environ, s_request);
    if (request == NULL) {
        return -1;
    }
    rule = PyObject_GetAttr(request, s_url_rule);
    Py_DECREF(request);
    if (rule == NULL) {
        return -1;
    }
    endpoint = PyObject_GetAttr(rule, s_endpoint);
    Py_DECREF(rule);
    if (endpoint == NULL) {
        return -1;
    }
    Py_XSETREF(self->endpoint, endpoint);
    return 0;
}

static PyObject *
span_call(Span *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"status", "headers", "exc_info", NULL};
    PyObject *status, *headers, *info = Py_None, *done;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O", names, &status, &headers, &info)) {
        return NULL;
    }
    Py_INCREF(status);
    Py_XSETREF(self->status, status);
    Py_INCREF(headers);
    Py_XSETREF(self->headers, headers);
    if (read_endpoint(self) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return NULL;
        }
        if (self->endpoint != NULL && self->endpoint != Py_None) {
            PyErr_Clear();
        }
        else {
            PyObject *error = caught();
            done = self->middleware == NULL ? NULL
                : PyObject_CallMethodObjArgs(self->middleware, s_unrouted, self, error, NULL);
            if (done == NULL) {
                if (!PyErr_Occurred()) {
                    raise_again(error);
                }
                else {
                    Py_DECREF(error);
                }
                return NULL;
            }
            Py_DECREF(error);
            Py_DECREF(done);
        }
    }
    if (info == Py_None) {
        return PyObject_CallFunctionObjArgs(self->start_response, status, headers, NULL);
    }
    return PyObject_CallFunctionObjArgs(self->start_response, status, headers, info, NULL);
}

static PyTypeObject SpanType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "flask_knitperf.recording._speedups.SpanBase",
    .tp_basicsize = sizeof(Span),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = span_new,
    .tp_init = (initproc)span_init,
    .tp_call = (ternaryfunc)span_call,
    .tp_dealloc = (destructor)span_dealloc,
    .tp_traverse = (traverseproc)span_traverse,
    .tp_clear = (inquiry)span_clear,
    .tp_members = span_members,
};

/* -- ScopeBase, NotesBase ----------------------------------------------------------------------- */

static PyMemberDef scope_members[] = {
    FIELD(Scope, nested_ns, T_LONGLONG, 0),
    FIELD(Scope, nested_cpu_ns, T_LONGLONG, 0),
    {NULL},
};

static PyTypeObject ScopeType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "flask_knitperf.recording._speedups.ScopeBase",
    .tp_basicsize = sizeof(Scope),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_members = scope_members,
};

static PyMemberDef notes_members[] = {FIELD(Notes, queries, T_OBJECT, 0), {NULL}};

static int
notes_traverse(Notes *self, visitproc visit, void *arg)
{
    Py_VISIT(self->queries);
    return 0;
}

static int
notes_clear(Notes *self)
{
    Py_CLEAR(self->queries);
    return 0;
}

static void
notes_dealloc(Notes *self)
{
    PyObject_GC_UnTrack(self);
    notes_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject NotesType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "flask_knitperf.recording._speedups.NotesBase",
    .tp_basicsize = sizeof(Notes),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_base = &ScopeType,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)notes_dealloc,
    .tp_traverse = (traverseproc)notes_traverse,
    .tp_clear = (inquiry)notes_clear,
    .tp_members = notes_members,
};

/* -- PauseTotalBase ----------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    long long total;
} Pause;

static PyMemberDef pause_members[] = {FIELD(Pause, total, T_LONGLONG, 0), {NULL}};

static PyTypeObject PauseType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "flask_knitperf.recording._speedups.PauseTotalBase",
    .tp_basicsize = sizeof(Pause),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_members = pause_members,
};

/* -- RequestSeriesBase ------------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    PyObject *append;
    unsigned int solo, concurrent, bytes_out;
} Plan;

static PyMemberDef plan_members[] = {
    FIELD(Plan, append, T_OBJECT_EX, 0),
    FIELD(Plan, solo, T_UINT, 0),
    FIELD(Plan, concurrent, T_UINT, 0),
    FIELD(Plan, bytes_out, T_UINT, 0),
    {NULL},
};

static int
plan_traverse(Plan *self, visitproc visit, void *arg)
{
    Py_VISIT(self->append);
    return 0;
}

static int
plan_clear(Plan *self)
{
    Py_CLEAR(self->append);
    return 0;
}

static void
plan_dealloc(Plan *self)
{
    PyObject_GC_UnTrack(self);
    plan_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject PlanType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "flask_knitperf.recording._speedups.RequestSeriesBase",
    .tp_basicsize = sizeof(Plan),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)plan_dealloc,
    .tp_traverse = (traverseproc)plan_traverse,
    .tp_clear = (inquiry)plan_clear,
    .tp_members = plan_members,
};

/* -- ProfileBase --------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *slow_urls, *request_series;
    long long requests_started, prepare_at, busy_ns;
} Profile;

static PyMemberDef profile_members[] = {
    FIELD(Profile, slow_urls, T_OBJECT_EX, 0),
    FIELD(Profile, request_series, T_OBJECT_EX, 0),
    FIELD(Profile, requests_started, T_LONGLONG, 0),
    FIELD(Profile, prepare_at, T_LONGLONG, 0),
    FIELD(Profile, busy_ns, T_LONGLONG, 0),
    {NULL},
};

static int
profile_traverse(Profile *self, visitproc visit, void *arg)
{
    Py_VISIT(self->slow_urls);
    Py_VISIT(self->request_series);
    return 0;
}

static int
profile_clear(Profile *self)
{
    Py_CLEAR(self->slow_urls);
    Py_CLEAR(self->request_series);
    return 0;
}

static void
profile_dealloc(Profile *self)
{
    PyObject_GC_UnTrack(self);
    profile_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject ProfileType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "flask_knitperf.recording._speedups.ProfileBase",
    .tp_basicsize = sizeof(Profile),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)profile_dealloc,
    .tp_traverse = (traverseproc)profile_traverse,
    .tp_clear = (inquiry)profile_clear,
    .tp_members = profile_members,
};

/* -- FastPathBase --------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *app, *recorder, *profile, *spans, *aside, *span, *current, *pauses, *closing, *viewer;
} Passage;

static PyMemberDef passage_members[] = {
    FIELD(Passage, app, T_OBJECT_EX, 0),
    FIELD(Passage, recorder, T_OBJECT, READONLY),
    FIELD(Passage, profile, T_OBJECT, READONLY),
    {NULL},
};

#define PASSAGE_OBJECTS(DO) \
    DO(app) DO(recorder) DO(profile) DO(spans) DO(aside) DO(span) DO(current) DO(pauses) DO(closing) \
    DO(viewer)

static int
passage_traverse(Passage *self, visitproc visit, void *arg)
{
    PASSAGE_OBJECTS(VISIT)
    return 0;
}

static int
passage_clear(Passage *self)
{
    PASSAGE_OBJECTS(CLEAR)
    return 0;
}

static void
passage_dealloc(Passage *self)
{
    PyObject_GC_UnTrack(self);
    passage_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int
passage_init(Passage *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"app", "recorder", "profile", "spans", "aside", "span", "current",
                            "pauses", "closing", "viewer", NULL};
    PyObject *app, *recorder, *profile, *spans, *aside, *span, *current, *pauses, *closing, *viewer;
    Py_ssize_t i;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OOO!O!O!O!O!O!O!U", names, &app, &recorder, &ProfileType, &profile,
            &PyDict_Type, &spans, &PyTuple_Type, &aside, &PyType_Type, &span, &PyContextVar_Type,
            &current, &PauseType, &pauses, &PyType_Type, &closing, &viewer)) {
        return -1;
    }
    if (!PyType_IsSubtype((PyTypeObject *)span, &SpanType)) {
        PyErr_SetString(PyExc_TypeError, "span must be a subclass of SpanBase");
        return -1;
    }
    for (i = 0; i < PyTuple_GET_SIZE(aside); i++) {
        if (!PyUnicode_Check(PyTuple_GET_ITEM(aside, i))) {
            PyErr_SetString(PyExc_TypeError, "aside must hold strings");
            return -1;
        }
    }
#define KEEP(name) Py_INCREF(name); Py_XSETREF(self->name, name);
    PASSAGE_OBJECTS(KEEP)
#undef KEEP
    return 0;
}

/* Whether a path begins with one of the beginnings; -1 with an error. */
static int
begins(PyObject *path, PyObject *beginnings)
{
    Py_ssize_t i;
    if (!PyUnicode_Check(path)) {
        PyErr_SetString(PyExc_TypeError, "PATH_INFO must be a string");
        return -1;
    }
    for (i = 0; i < PyTuple_GET_SIZE(beginnings); i++) {
        Py_ssize_t found =
            PyUnicode_Tailmatch(path, PyTuple_GET_ITEM(beginnings, i), 0, PY_SSIZE_T_MAX, -1);
        if (found != 0) {
            return (int)found;
        }
    }
    return 0;
}

/* Whether a request must be looked at before it runs; -1 with an error. */
static int
is_special(Passage *self, Profile *profile, PyObject *path)
{
    if (PyDict_GET_SIZE(self->spans) > 0 || profile->requests_started >= profile->prepare_at) {
        return 1;
    }
    if (profile->slow_urls != NULL && PyDict_CheckExact(profile->slow_urls)
            && PyDict_GET_SIZE(profile->slow_urls) == 0) {
        return 0;
    }
    if (profile->slow_urls == NULL) {
        PyErr_SetString(PyExc_AttributeError, "slow_urls");
        return -1;
    }
    return PySequence_Contains(profile->slow_urls, path);
}

/* The response's only piece, as a new reference; NULL where it is none or, with an error, where the
   body is not what it usually is. */
static PyObject *
only_piece(PyObject *body)
{
    PyObject *callbacks, *last, *response, *pieces, *piece = NULL;
    callbacks = PyObject_GetAttr(body, s__callbacks);
    if (callbacks == NULL) {
        return NULL;
    }
    last = PySequence_GetItem(callbacks, -1);
    Py_DECREF(callbacks);
    if (last == NULL) {
        return NULL;
    }
    if (!PyMethod_Check(last)) {
        Py_DECREF(last);
        return NULL; /* a function of the host: finish_slow() finds out what it is */
    }
    response = PyMethod_GET_SELF(last);
    pieces = PyObject_GetAttr(response, s_response);
    Py_DECREF(last);
    if (pieces == NULL) {
        return NULL;
    }
    if (PyList_CheckExact(pieces) && PyList_GET_SIZE(pieces) == 1) {
        piece = PyList_GET_ITEM(pieces, 0);
        if (PyBytes_CheckExact(piece) && PyBytes_GET_SIZE(piece) > 0) {
            Py_INCREF(piece);
        }
        else {
            piece = NULL;
        }
    }
    Py_DECREF(pieces);
    return piece;
}

/* The plan of a request like this one, as a new reference; NULL where there is none or with an error. */
static Plan *
plan_of(Profile *profile, Span *span)
{
    PyObject *method, *key, *plan;
    if (profile->request_series == NULL || !PyDict_Check(profile->request_series)) {
        PyErr_SetString(PyExc_TypeError, "request_series must be a dict");
        return NULL;
    }
    method = span->environ == NULL ? NULL : required(span->environ, s_REQUEST_METHOD);
    if (method == NULL) {
        return NULL;
    }
    key = PyTuple_Pack(3, span->endpoint == NULL ? Py_None : span->endpoint, method,
                       span->status == NULL ? s_empty : span->status);
    Py_DECREF(method);
    if (key == NULL) {
        return NULL;
    }
    plan = PyDict_GetItemWithError(profile->request_series, key);
    Py_DECREF(key);
    if (plan == NULL || !PyObject_TypeCheck(plan, &PlanType)) {
        return NULL;
    }
    Py_INCREF(plan);
    return (Plan *)plan;
}

static PyObject *
group_of(Plan *plan, unsigned int series, long long wall, Py_ssize_t length)
{
    char cells[32];
    const uint32_t one = 1, first = series, last = plan->bytes_out;
    const double took = (double)wall, sent = (double)length;
    memcpy(cells, &first, 4);
    memcpy(cells + 4, &one, 4);
    memcpy(cells + 8, &took, 8);
    memcpy(cells + 16, &last, 4);
    memcpy(cells + 20, &one, 4);
    memcpy(cells + 24, &sent, 8);
    return PyBytes_FromStringAndSize(cells, sizeof(cells));
}

/* Appends a group to the log, or to the next one where that is full; -1 with an error. */
static int
append(Plan *plan, PyObject *group)
{
    PyObject *done;
    if (plan->append == NULL) {
        PyErr_SetString(PyExc_AttributeError, "append");
        return -1;
    }
    done = PyObject_CallOneArg(plan->append, group);
    if (done == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        done = PyObject_CallMethodOneArg((PyObject *)plan, s_append_to_next_log, group);
    }
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Takes an ended span out of those in flight and adds its time to what the worker was busy. */
static int
land(Passage *self, Profile *profile, Span *span, long long wall)
{
    PyObject *done, *number;
    span->wall = wall;
    span->ended = 1;
    if (PyDict_DelItem(self->spans, (PyObject *)span) < 0) {
        return -1;
    }
    if (PyDict_GET_SIZE(self->spans) > 0) {
        return 0;
    }
    if (!span->concurrent) {
        profile->busy_ns += wall;
        return 0;
    }
    number = PyLong_FromLongLong(wall);
    if (number == NULL) {
        return -1;
    }
    done = PyObject_CallMethodObjArgs((PyObject *)profile, s_end_busy_period, span, number, NULL);
    Py_DECREF(number);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Writes a usual request down. 1: done; 0: it is not fast; -1: with an error. */
static int
written(Passage *self, Profile *profile, Span *span, PyObject *body, long long ended)
{
    const long long wall = ended - span->began;
    PyObject *piece, *group;
    unsigned int series;
    int result = -1;
    Plan *plan;
    if ((PyObject *)Py_TYPE(body) != self->closing
            || span->gc_began != ((Pause *)self->pauses)->total) {
        return 0;
    }
    plan = plan_of(profile, span);
    if (plan == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    piece = only_piece(body);
    series = span->concurrent ? plan->concurrent : plan->solo;
    if (piece == NULL || series == 0 || wall <= 0 || wall >= SLOW_NS) {
        result = PyErr_Occurred() ? -1 : 0;
    }
    else if (land(self, profile, span, wall) == 0) {
        group = group_of(plan, series, wall, PyBytes_GET_SIZE(piece));
        if (group != NULL) {
            result = append(plan, group) < 0 ? -1 : 1;
            Py_DECREF(group);
        }
    }
    Py_XDECREF(piece);
    Py_DECREF(plan);
    return result;
}

/* Tells the profile what a usual request cost us, where that is timed; -1 with an error. */
static int
timed(Profile *profile, Span *span, PyObject *now, long long ended)
{
    PyObject *done, *cost;
    long long finished;
    if (read_clock(now, &finished) < 0) {
        return -1;
    }
    cost = PyLong_FromLongLong(finished - ended + span->cost);
    if (cost == NULL) {
        return -1;
    }
    done = PyObject_CallMethodOneArg((PyObject *)profile, s_record_cost, cost);
    Py_DECREF(cost);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Ends a span, now or with its body. Takes the reference to the body, returns one. */
static PyObject *
finish(Passage *self, Profile *profile, Span *span, PyObject *body, PyObject *now, long long ended)
{
    PyObject *done, *error;
    int result = span->fast ? written(self, profile, span, body, ended) : 0;
    if (result > 0 && span->fast == FAST_TIMED && timed(profile, span, now, ended) < 0) {
        result = -1;
    }
    if (result > 0) {
        return body;
    }
    if (result < 0) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            Py_DECREF(body);
            return NULL;
        }
        error = caught();
        done = PyObject_CallMethodOneArg((PyObject *)self, s_on_fastpath_error, error);
        Py_DECREF(error);
        if (done == NULL) {
            Py_DECREF(body);
            return NULL;
        }
        Py_DECREF(done);
    }
    done = PyObject_CallMethodObjArgs((PyObject *)self, s_finish_slow, span, body, NULL);
    Py_DECREF(body);
    return done;
}

/* Calls the application with the span current. */
static PyObject *
run(Passage *self, PyObject *environ, Span *span)
{
    PyObject *token, *body, *error, *done, *app = self->app;
    PyObject *given[2];
    if (app == NULL) {
        PyErr_SetString(PyExc_AttributeError, "app");
        return NULL;
    }
    token = PyContextVar_Set(self->current, (PyObject *)span);
    if (token == NULL) {
        return NULL;
    }
    given[0] = environ;
    given[1] = (PyObject *)span;
    Py_INCREF(app); /* a host may put another in its place meanwhile */
    body = PyObject_Vectorcall(app, given, 2, NULL);
    Py_DECREF(app);
    if (body == NULL) {
        error = caught();
        done = PyObject_CallMethodObjArgs((PyObject *)self, s_on_exception, span, error, NULL);
        if (done == NULL) { /* that never raises but at the end of the process */
            Py_DECREF(error);
            error = caught();
        }
        Py_XDECREF(done);
        if (PyContextVar_Reset(self->current, token) < 0) {
            PyErr_Clear();
        }
        Py_DECREF(token);
        raise_again(error);
        return NULL;
    }
    if (PyContextVar_Reset(self->current, token) < 0) {
        Py_CLEAR(body);
    }
    Py_DECREF(token);
    return body;
}

/* Whether a request carries the cookie of a viewer, so far as its name tells; -1 with an error. */
static int
is_viewer(Passage *self, PyObject *environ)
{
    int found = 0;
    PyObject *cookie = lookup(environ, s_HTTP_COOKIE);
    if (cookie == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (PyUnicode_Check(cookie)) {
        found = PyUnicode_Contains(cookie, self->viewer);
    }
    Py_DECREF(cookie);
    return found;
}

/* Begins a span, runs the application, ends the span. */
static PyObject *
through(Passage *self, PyObject *environ, PyObject *start, PyObject *path, PyObject *now)
{
    Profile *profile = (Profile *)self->profile;
    PyObject *done, *body = NULL;
    long long ended;
    int special;
    Span *span = span_made((PyTypeObject *)self->span);
    if (span == NULL) {
        return NULL;
    }
    Py_INCREF(self->recorder);
    span->owner = self->recorder;
    Py_INCREF(self);
    span->middleware = (PyObject *)self;
    Py_INCREF(environ);
    span->environ = environ;
    Py_INCREF(start);
    span->start_response = start;
    span->thread = PyThread_get_thread_ident();
    profile->requests_started++;
    special = is_special(self, profile, path);
    if (special == 0) {
        special = is_viewer(self, environ);
    }
    if (special < 0) {
        goto end;
    }
    if (special) {
        done = PyObject_CallMethodObjArgs((PyObject *)self, s_prepare_slow_path, span, environ, path, NULL);
        if (done == NULL) {
            goto end;
        }
        Py_DECREF(done);
    }
    span->gc_began = ((Pause *)self->pauses)->total;
    if (read_clock(now, &span->began) < 0
            || PyDict_SetItem(self->spans, (PyObject *)span, Py_None) < 0) {
        goto end;
    }
    body = run(self, environ, span);
    if (body == NULL) {
        goto end;
    }
    if (read_clock(now, &ended) < 0) {
        Py_CLEAR(body);
        goto end;
    }
    body = finish(self, profile, span, body, now, ended);
end:
    Py_DECREF(span);
    return body;
}

static PyObject *
passage_call(Passage *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"environ", "start_response", NULL};
    PyObject *environ, *start, *path, *clock, *now, *answer = NULL;
    int found;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO", names, &environ, &start)) {
        return NULL;
    }
    if (self->recorder == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a middleware that was never initialised");
        return NULL;
    }
    path = lookup(environ, s_PATH_INFO);
    if (path == NULL) {
        if (PyErr_Occurred()) {
            return NULL;
        }
        Py_INCREF(s_empty);
        path = s_empty;
    }
    found = begins(path, self->aside);
    if (found > 0) {
        answer = PyObject_CallMethodObjArgs(
            (PyObject *)self, s_bypass, environ, start, path, NULL);
        if (answer == Py_None) {
            Py_CLEAR(answer);
            found = 0;
        }
    }
    if (found == 0) {
        clock = PyObject_GetAttr(self->recorder, s_clock);
        now = clock == NULL ? NULL : PyObject_GetAttr(clock, s_monotonic_ns);
        Py_XDECREF(clock);
        if (now != NULL) {
            answer = through(self, environ, start, path, now);
            Py_DECREF(now);
        }
    }
    Py_DECREF(path);
    return answer;
}

static PyTypeObject PassageType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "flask_knitperf.recording._speedups.FastPathBase",
    .tp_basicsize = sizeof(Passage),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)passage_init,
    .tp_call = (ternaryfunc)passage_call,
    .tp_dealloc = (destructor)passage_dealloc,
    .tp_traverse = (traverseproc)passage_traverse,
    .tp_clear = (inquiry)passage_clear,
    .tp_members = passage_members,
};

/* -- the module ---------------------------------------------------------------------------------- */

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_speedups",
    .m_doc = "The usual request in C. See fastpath.py.",
    .m_size = -1,
};

PyMODINIT_FUNC
PyInit__speedups(void)
{
    PyObject *made;
#define INTERN(name) \
    if (s_##name == NULL && (s_##name = PyUnicode_InternFromString(#name)) == NULL) { return NULL; }
    NAMES(INTERN)
#undef INTERN
    if (s_request == NULL
            && (s_request = PyUnicode_InternFromString("werkzeug.request")) == NULL) {
        return NULL;
    }
    if (s_empty == NULL && (s_empty = PyUnicode_InternFromString("")) == NULL) {
        return NULL;
    }
    made = PyModule_Create(&module);
    if (made == NULL) {
        return NULL;
    }
    if (add_type(made, "SpanBase", &SpanType) < 0 || add_type(made, "ScopeBase", &ScopeType) < 0
            || add_type(made, "NotesBase", &NotesType) < 0 || add_type(made, "PauseTotalBase", &PauseType) < 0
            || add_type(made, "RequestSeriesBase", &PlanType) < 0 || add_type(made, "ProfileBase", &ProfileType) < 0
            || add_type(made, "FastPathBase", &PassageType) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
