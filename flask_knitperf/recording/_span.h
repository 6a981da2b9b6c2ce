/* What a span and what sums up its parts look like in memory, for what is written in C elsewhere in this
   package. A part that relies on it asks for the size of each type before it does. */

#ifndef KNITPERF_SPAN_H
#define KNITPERF_SPAN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

#if PY_BIG_ENDIAN
#error "logs are little-endian; the classes in Python serve here"
#endif
#ifdef Py_GIL_DISABLED
#error "this relies on the GIL; the classes in Python serve here"
#endif

#define FIELD(type, name, kind, flags) {#name, kind, offsetof(type, name), flags, NULL}
#define VISIT(name) Py_VISIT(self->name);
#define CLEAR(name) Py_CLEAR(self->name);

typedef struct {
    PyObject_HEAD
    PyObject *owner, *middleware, *environ, *start_response, *status, *headers, *endpoint;
    PyObject *cpu_began, *start_record, *stack, *parts, *notes;
    long long began, run_queue_began, process_began, gc_began, cost, length, wall, runnable_ns;
    unsigned long long thread;
    long weight;
    int fast;
    char concurrent, ended;
} Span;

typedef struct {
    PyObject_HEAD
    long long nested_ns, nested_cpu_ns;
} Scope;

typedef struct {
    Scope scope;
    PyObject *queries;
} Notes;

/* Takes the pending exception off, as an object; its traceback is attached. */
static PyObject *
caught(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
        Py_DECREF(traceback);
    }
    Py_DECREF(type);
    return value;
#endif
}

/* Makes an exception that was caught() pending again; takes the reference. */
static void
raise_again(PyObject *value)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(value);
#else
    PyObject *type = (PyObject *)Py_TYPE(value);
    Py_INCREF(type);
    PyErr_Restore(type, value, PyException_GetTraceback(value));
#endif
}

static int
read_clock(PyObject *now, long long *value)
{
    PyObject *number = PyObject_CallNoArgs(now);
    if (number == NULL) {
        return -1;
    }
    *value = PyLong_AsLongLong(number);
    Py_DECREF(number);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

static int
add_type(PyObject *made, const char *name, PyTypeObject *type)
{
    if (PyType_Ready(type) < 0) {
        return -1;
    }
    Py_INCREF(type);
    if (PyModule_AddObject(made, name, (PyObject *)type) < 0) {
        Py_DECREF(type);
        return -1;
    }
    return 0;
}

#endif
