/* Shared by both C files: types and module state from tables of fields, the layout of spans and scopes,
   and small helpers. A module that relies on the layout compares the sizes of the types at import. */

#ifndef KNITPERF_SPEEDUPS_H
#define KNITPERF_SPEEDUPS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>
#include <time.h>

#if PY_BIG_ENDIAN
#error "logs are little-endian; the classes in Python are used here"
#endif
#ifdef Py_GIL_DISABLED
#error "this relies on the GIL; the classes in Python are used here"
#endif

/* -- types: a table of fields is a macro FIELDS(X, Struct) of rows X(Struct, KIND, name, flags) ------ */

#define TYPE_OBJECT(name) PyObject *name;   /* reading raises AttributeError while it is unset */
#define TYPE_OPTIONAL(name) PyObject *name; /* reads as None while it is unset */
#define TYPE_HIDDEN(name) PyObject *name;   /* not an attribute */
#define TYPE_INT64(name) long long name;
#define TYPE_UINT64(name) unsigned long long name;
#define TYPE_UINT(name) unsigned int name;
#define TYPE_INT(name) int name;
#define TYPE_BOOL(name) char name;
#define STRUCT_FIELD(Struct, KIND, name, flags) TYPE_##KIND(name)

#define MEMBER(kind, Struct, name, flags) {#name, kind, offsetof(Struct, name), flags, NULL},
#define MEMBER_OBJECT(Struct, name, flags) MEMBER(T_OBJECT_EX, Struct, name, flags)
#define MEMBER_OPTIONAL(Struct, name, flags) MEMBER(T_OBJECT, Struct, name, flags)
#define MEMBER_HIDDEN(Struct, name, flags)
#define MEMBER_INT64(Struct, name, flags) MEMBER(T_LONGLONG, Struct, name, flags)
#define MEMBER_UINT64(Struct, name, flags) MEMBER(T_ULONGLONG, Struct, name, flags)
#define MEMBER_UINT(Struct, name, flags) MEMBER(T_UINT, Struct, name, flags)
#define MEMBER_INT(Struct, name, flags) MEMBER(T_INT, Struct, name, flags)
#define MEMBER_BOOL(Struct, name, flags) MEMBER(T_BOOL, Struct, name, flags)
#define MEMBER_FIELD(Struct, KIND, name, flags) MEMBER_##KIND(Struct, name, flags)

#define EACH_OBJECT(DO, name) DO(name);
#define EACH_OPTIONAL(DO, name) DO(name);
#define EACH_HIDDEN(DO, name) DO(name);
#define EACH_INT64(DO, name)
#define EACH_UINT64(DO, name)
#define EACH_UINT(DO, name)
#define EACH_INT(DO, name)
#define EACH_BOOL(DO, name)
#define VISIT_FIELD(Struct, KIND, name, flags) EACH_##KIND(Py_VISIT, self->name)
#define CLEAR_FIELD(Struct, KIND, name, flags) EACH_##KIND(Py_CLEAR, self->name)

#define TYPE_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE)
#define DEFINE_SPEC(prefix, Struct, type_name, flags, ...) \
    static PyType_Slot prefix##_slots[] = {{Py_tp_members, prefix##_members}, __VA_ARGS__ {0, NULL}}; \
    static PyType_Spec prefix##_spec = {type_name, sizeof(Struct), 0, flags, prefix##_slots};

/* A separate __new__: pickle must not mistake the objects for ones without state. */
#define NEW {Py_tp_new, PyType_GenericNew},

/* A type whose objects are visited by the garbage collector; the remaining arguments are further slots. */
#define DEFINE_GC_TYPE(prefix, Struct, type_name, FIELDS, ...) \
    static PyMemberDef prefix##_members[] = {FIELDS(MEMBER_FIELD, Struct) {0}}; \
    static int prefix##_traverse(Struct *self, visitproc visit, void *arg) \
    { \
        Py_VISIT(Py_TYPE(self)); \
        FIELDS(VISIT_FIELD, Struct) \
        return 0; \
    } \
    static int prefix##_clear(Struct *self) \
    { \
        FIELDS(CLEAR_FIELD, Struct) \
        return 0; \
    } \
    static void prefix##_dealloc(Struct *self) \
    { \
        PyTypeObject *type = Py_TYPE(self); \
        PyObject_GC_UnTrack(self); \
        prefix##_clear(self); \
        type->tp_free((PyObject *)self); \
        Py_DECREF(type); \
    } \
    DEFINE_SPEC(prefix, Struct, type_name, TYPE_FLAGS | Py_TPFLAGS_HAVE_GC, \
                {Py_tp_traverse, prefix##_traverse}, {Py_tp_clear, prefix##_clear}, \
                {Py_tp_dealloc, prefix##_dealloc}, __VA_ARGS__)

/* -- the state of a module: interned NAMES and TYPES, one for each interpreter ----------------------- */

#define DECLARE_NAME(name, text) PyObject *name;
#define CLEAR_NAME(name, text) Py_CLEAR(state->name);
#define INTERN_NAME(name, text) \
    if ((state->name = PyUnicode_InternFromString(text)) == NULL) { \
        return -1; \
    }
#define DECLARE_TYPE(prefix) PyTypeObject *prefix;
#define VISIT_TYPE(prefix) Py_VISIT(state->prefix);
#define CLEAR_TYPE(prefix) Py_CLEAR(state->prefix);

#define DEFINE_STATE(NAMES, TYPES) \
    typedef struct { \
        NAMES(DECLARE_NAME) \
        TYPES(DECLARE_TYPE) \
        PyObject *perf_counter_ns; \
    } State; \
    static int module_traverse(PyObject *module, visitproc visit, void *arg) \
    { \
        State *state = PyModule_GetState(module); \
        TYPES(VISIT_TYPE) \
        Py_VISIT(state->perf_counter_ns); \
        return 0; \
    } \
    static int module_clear(PyObject *module) \
    { \
        State *state = PyModule_GetState(module); \
        TYPES(CLEAR_TYPE) \
        Py_CLEAR(state->perf_counter_ns); \
        return 0; \
    } \
    static void module_free(void *module) /* objects may use the names until their types are gone */ \
    { \
        State *state = PyModule_GetState(module); \
        TYPES(CLEAR_TYPE) \
        Py_CLEAR(state->perf_counter_ns); \
        NAMES(CLEAR_NAME) \
    } \
    static int fill_state(State *state) \
    { \
        PyObject *module; \
        NAMES(INTERN_NAME) \
        module = PyImport_ImportModule("time"); \
        state->perf_counter_ns = module == NULL ? NULL : PyObject_GetAttrString(module, "perf_counter_ns"); \
        Py_XDECREF(module); \
        return state->perf_counter_ns == NULL ? -1 : 0; \
    } \
    /* Calls a clock; the default one of Clock is read without a call. -1 with an error. */ \
    static int read_now(State *state, PyObject *now, long long *value) \
    { \
        if (now == state->perf_counter_ns && read_monotonic(value)) { \
            return 0; \
        } \
        return to_int64(PyObject_CallNoArgs(now), value); \
    } \
    /* Reads a clock of a recorder by its name; -1 with an error. */ \
    static int read_clock(State *state, PyObject *recorder, PyObject *name, long long *value) \
    { \
        PyObject *clock = PyObject_GetAttr(recorder, state->clock); \
        PyObject *now = clock == NULL ? NULL : PyObject_GetAttr(clock, name); \
        const int result = now == NULL ? -1 : read_now(state, now, value); \
        Py_XDECREF(clock); \
        Py_XDECREF(now); \
        return result; \
    } \
    static int module_exec(PyObject *module); \
    static PyModuleDef_Slot module_slots[] = { \
        {Py_mod_exec, module_exec}, MULTIPLE_INTERPRETERS {0, NULL}}; \
    static struct PyModuleDef module_def = { \
        PyModuleDef_HEAD_INIT, \
        .m_name = "_speedups", \
        .m_doc = "The fast path in C. See fastpath.py.", \
        .m_size = sizeof(State), \
        .m_slots = module_slots, \
        .m_traverse = module_traverse, \
        .m_clear = module_clear, \
        .m_free = module_free, \
    }; \
    PyMODINIT_FUNC PyInit__speedups(void) \
    { \
        return PyModuleDef_Init(&module_def); \
    } \
    /* The state for a type of this module or a subclass; NULL with an error. */ \
    static State *state_of(PyTypeObject *type) \
    { \
        PyObject *module = PyType_GetModuleByDef(type, &module_def); \
        return module == NULL ? NULL : PyModule_GetState(module); \
    }

#if PY_VERSION_HEX >= 0x030C0000
#define MULTIPLE_INTERPRETERS {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#else
#define MULTIPLE_INTERPRETERS
#endif

/* Creates a type and adds it to the module. */
#define ADD_TYPE(prefix, base) \
    state->prefix = (PyTypeObject *)PyType_FromModuleAndSpec(module, &prefix##_spec, (PyObject *)(base)); \
    if (state->prefix == NULL || PyModule_AddType(module, state->prefix) < 0) { \
        return -1; \
    }

/* -- the layout that both files share ---------------------------------------------------------------- */

#define SPAN_FIELDS(X, S) \
    X(S, OPTIONAL, owner, 0) X(S, OPTIONAL, middleware, 0) X(S, OPTIONAL, environ, 0) \
    X(S, OPTIONAL, start_response, 0) X(S, OPTIONAL, status, 0) X(S, OPTIONAL, headers, 0) \
    X(S, OPTIONAL, endpoint, 0) X(S, OPTIONAL, cpu_began, 0) X(S, OPTIONAL, start_record, 0) \
    X(S, OPTIONAL, stack, 0) X(S, OPTIONAL, parts, 0) X(S, OPTIONAL, notes, 0) \
    X(S, OPTIONAL, hook, 0) X(S, OPTIONAL, hook_start, 0) X(S, OPTIONAL, hooks, 0) \
    X(S, INT64, hook_began, 0) \
    X(S, INT64, began, 0) X(S, INT64, run_queue_began, 0) X(S, INT64, process_began, 0) \
    X(S, INT64, gc_began, 0) X(S, INT64, cost, 0) X(S, INT64, length, 0) X(S, INT64, wall, 0) \
    X(S, INT64, runnable_ns, 0) X(S, INT64, weight, 0) X(S, UINT64, thread, 0) \
    X(S, INT, fast, 0) X(S, INT, timed, 0) X(S, BOOL, concurrent, 0) X(S, BOOL, ended, 0)
#define NOTES_FIELDS(X, S) \
    X(S, INT64, nested_ns, 0) X(S, INT64, nested_cpu_ns, 0) X(S, OPTIONAL, queries, 0) \
    X(S, OPTIONAL, sleeps, 0)
#define MAX_INTERVALS 8

typedef struct {
    PyObject_HEAD
    void *state;
    SPAN_FIELDS(STRUCT_FIELD, Span)
} Span;

/* A stretch of a request that parts have taken, and the time that they have taken up to its end. */
typedef struct {
    long long began, ended, total_ns;
} Interval;

typedef struct {
    PyObject_HEAD
    NOTES_FIELDS(STRUCT_FIELD, Notes)
    Interval intervals[MAX_INTERVALS]; /* disjoint, the latest last */
    int interval_count;
} Notes;

/* -- the division of a request's time among its parts, see NotesBase ---------------------------------- */

/* Adds a part that ends; returns its exclusive wall time. Runs no Python. */
static inline long long
take(Notes *notes, long long began, long long ended, long long before)
{
    Interval *const all = notes->intervals;
    Interval taken = {began, ended, 0};
    int count = notes->interval_count;
    long long own;
    for (; count > 0 && all[count - 1].ended >= began; count--) {
        if (all[count - 1].began < began) {
            before = Py_MAX(before, all[count - 1].total_ns - (all[count - 1].ended - began));
        }
        taken.began = Py_MIN(taken.began, all[count - 1].began);
        taken.ended = Py_MAX(taken.ended, all[count - 1].ended);
    }
    if (count == MAX_INTERVALS) {
        memmove(all, all + 1, (MAX_INTERVALS - 1) * sizeof(Interval));
        count--;
    }
    own = Py_MAX(0, ended - began - notes->nested_ns + before);
    notes->nested_ns += own;
    taken.total_ns = notes->nested_ns;
    all[count] = taken;
    notes->interval_count = count + 1;
    return own;
}

static inline int
is_set(PyObject *field)
{
    return field != NULL && field != Py_None;
}

/* Adds a part that ends; stores its exclusive wall time, that of sleeps beside it included. -1 with an
   error. */
static inline int
take_work(Notes *notes, long long began, long long ended, long long before, long long *own)
{
    PyObject *result;
    *own = take(notes, began, ended, before);
    if (!is_set(notes->sleeps)) {
        return 0;
    }
    result = PyObject_CallMethod(notes->sleeps, "take", "LL", began, ended);
    *own += result == NULL ? 0 : PyLong_AsLongLong(result);
    Py_XDECREF(result);
    return PyErr_Occurred() ? -1 : 0;
}

/* Adds the CPU time of a part that ends; returns its exclusive CPU time. */
static inline long long
take_cpu(Notes *notes, long long used, long long before)
{
    const long long own = Py_MAX(0, used - notes->nested_cpu_ns + before);
    notes->nested_cpu_ns += own;
    return own;
}

/* -- helpers ----------------------------------------------------------------------------------------- */

#if PY_VERSION_HEX < 0x030C0000
static PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
        Py_DECREF(traceback);
    }
    Py_XDECREF(type);
    return value;
}

static void
PyErr_SetRaisedException(PyObject *value)
{
    PyErr_Restore(Py_NewRef(Py_TYPE(value)), value, PyException_GetTraceback(value));
}
#endif

#define SET(field, value) Py_XSETREF(field, Py_NewRef(value))

/* Calls a method for its effect; -1 with an error. */
#define CALL(object, ...) done(PyObject_CallMethodObjArgs((PyObject *)(object), __VA_ARGS__, NULL))

static inline int
done(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Whether an optional field holds something. */
#define IS_SET(field) ((field) != NULL && (field) != Py_None)

/* Whether a field is set; sets AttributeError if it was deleted. */
#define REQUIRE(object, field) \
    ((object)->field != NULL || (PyErr_SetString(PyExc_AttributeError, #field), 0))

/* Stores an int, whose reference it takes; -1 with an error. */
static inline int
to_int64(PyObject *number, long long *value)
{
    if (number == NULL) {
        return -1;
    }
    *value = PyLong_AsLongLong(number);
    Py_DECREF(number);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Whether there are exactly two positional arguments, as nearly always; parsing them takes longer. */
#define ARE_TWO(args, kwargs) ((kwargs) == NULL && PyTuple_GET_SIZE(args) == 2)

/* In which of some equal parts an event falls; as in core/sampling.py. */
static inline long long
position(long long number, long long parts)
{
    return (long long)(((uint32_t)number * 2654435769U * (uint64_t)parts) >> 32);
}

/* What time.perf_counter_ns() returns on Linux; 0 where that is another clock. */
static inline int
read_monotonic(long long *value)
{
#ifdef __linux__
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) == 0) {
        *value = now.tv_sec * 1000000000LL + now.tv_nsec;
        return 1;
    }
#endif
    (void)value;
    return 0;
}

#endif
