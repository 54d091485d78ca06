// SPDX-License-Identifier: Apache-2.0
// The extension `nopspan` of CPython: a binding of nopspan/c.h by Python's limited API. README.md shows its use.
//
// The current span is in a contextvars.ContextVar, which asyncio copies for each task. It is set only for spans that
// are recorded. While nothing is attached, span() returns the one object that stands for all other spans.
//
// Nothing raises because a tracer is attached. Only a wrong number of arguments raises, whether or not one is.
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <nopspan/c.h>

typedef struct Span {
  PyObject_HEAD nopspan_handle handle;  // none: not recorded, or ended
  nopspan_context context;              // of a span that has ended: tasks that it started may still run
  struct Span* previous;                // that was current before __enter__(); null: none
  int is_entered;                       // between __enter__() and __exit__()
  int is_left;                          // __exit__() was called while another span was current
} Span;

static PyTypeObject* span_type;
static PyObject* not_recorded;  // the Span of all spans that are not recorded
static PyObject* get_current;   // methods of the ContextVar
static PyObject* set_current;

// Null for what is not a str, or has surrogates. Such a text is none, or an unnamed span.
static const char* utf8(PyObject* text, size_t* size) {
  Py_ssize_t bytes = 0;
  const char* const data = PyUnicode_Check(text) ? PyUnicode_AsUTF8AndSize(text, &bytes) : NULL;
  if (data == NULL) PyErr_Clear();
  *size = (size_t)bytes;
  return data;
}
static int64_t int_of(PyObject* value) {
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
  return overflow == 0 ? number : overflow > 0 ? INT64_MAX : INT64_MIN;
}
// A number without its fraction. False for what is not a number, or not finite.
static int read_int(PyObject* value, int64_t* to) {
  PyObject* const number = PyNumber_Check(value) ? PyNumber_Long(value) : NULL;
  PyErr_Clear();
  if (number != NULL) *to = int_of(number);
  Py_XDECREF(number);
  return number != NULL;
}

// A list or tuple whose items are all ints, all floats or all texts. False for any other one.
static int set_list(nopspan_handle span, const char* key, size_t key_size, PyObject* list, unsigned use) {
  const Py_ssize_t count = PyList_Check(list) ? PyList_Size(list) : PyTuple_Size(list);
  PyTypeObject* type = &PyUnicode_Type;
  int64_t* const integers = PyMem_Malloc(sizeof(int64_t) * (size_t)(count > 0 ? count : 1));
  double* const reals = (double*)integers;
  const char** const texts = (const char**)integers;
  int is_same = integers != NULL;
  for (Py_ssize_t i = 0; is_same && i < count; ++i) {
    PyObject* const item = PyList_Check(list) ? PyList_GetItem(list, i) : PyTuple_GetItem(list, i);
    size_t size;
    if (i == 0) type = Py_TYPE(item);
    is_same = Py_TYPE(item) == type && (type == &PyLong_Type || type == &PyFloat_Type || type == &PyUnicode_Type);
    if (is_same && type == &PyLong_Type) integers[i] = int_of(item);
    if (is_same && type == &PyFloat_Type) reals[i] = PyFloat_AsDouble(item);
    if (is_same && type == &PyUnicode_Type) texts[i] = utf8(item, &size);
  }
  if (is_same && type == &PyLong_Type) nopspan_call_set_ints(span, key, key_size, integers, (size_t)count, use);
  if (is_same && type == &PyFloat_Type) nopspan_call_set_doubles(span, key, key_size, reals, (size_t)count, use);
  if (is_same && type == &PyUnicode_Type) nopspan_call_set_texts(span, key, key_size, texts, (size_t)count, use);
  PyMem_Free(integers);
  return is_same;
}

// Everything else is set as the text that str() returns.
static void set_value(nopspan_handle span, PyObject* key, PyObject* value, unsigned use) {
  size_t key_size, size;
  const char* const name = utf8(key, &key_size);
  if (value == Py_None) {
    nopspan_call_set_null(span, name, key_size, use);
  } else if (PyBool_Check(value)) {
    nopspan_call_set_bool(span, name, key_size, value == Py_True, use);
  } else if (PyLong_Check(value)) {
    nopspan_call_set_int(span, name, key_size, int_of(value), use);
  } else if (PyFloat_Check(value)) {
    nopspan_call_set_double(span, name, key_size, PyFloat_AsDouble(value), use);
  } else if (!(PyList_Check(value) || PyTuple_Check(value)) || !set_list(span, name, key_size, value, use)) {
    PyObject* const text = PyObject_Str(value);
    const char* const data = text != NULL ? utf8(text, &size) : NULL;
    nopspan_call_set_text(span, name, key_size, data, data != NULL ? size : 0, use);
    Py_XDECREF(text);
    PyErr_Clear();
  }
}
static void set_keywords(nopspan_handle span, PyObject* keywords, PyObject* const* values) {
  const Py_ssize_t count = keywords != NULL ? PyTuple_Size(keywords) : 0;
  for (Py_ssize_t i = 0; i < count; ++i) set_value(span, PyTuple_GetItem(keywords, i), values[i], NOPSPAN_METADATA);
}
static int has_arguments(Py_ssize_t given, Py_ssize_t least, Py_ssize_t most) {
  if (given >= least && given <= most) return 1;
  PyErr_Format(PyExc_TypeError, "takes %zd to %zd arguments, and not %zd", least, most, given);
  return 0;
}

// Spans are left in another order if a generator ends after its caller's span, or in another context.
static Span* skip_left(Span* span) {
  while (span != NULL && span->is_left) span = span->previous;
  return span;
}
// The span of this task or thread: a new reference; null if there is none.
static Span* current_span(void) {
  PyObject* const current = PyObject_CallFunctionObjArgs(get_current, Py_None, NULL);  // None: the default
  if (current == NULL) PyErr_Clear();
  Span* const span = skip_left(current != NULL && Py_TYPE(current) == span_type ? (Span*)current : NULL);
  Py_XINCREF((PyObject*)span);
  Py_XDECREF(current);
  return span;
}
static void make_current(PyObject* span) {
  PyObject* const token = PyObject_CallFunctionObjArgs(set_current, span, NULL);
  if (token == NULL) PyErr_Clear();
  Py_XDECREF(token);
}
// Where the children of a span are. Without a span, that is where this thread is.
static nopspan_context context_of(const Span* span) {
  if (span == NULL || (PyObject*)span == not_recorded) return nopspan_context_current();
  return nopspan_span_context_or(span->handle, &span->context);
}
static nopspan_context current_context(void) {
  Span* const span = current_span();
  const nopspan_context context = context_of(span);
  Py_XDECREF((PyObject*)span);
  return context;
}
static nopspan_handle take(Span* span) {
  const nopspan_handle handle = span->handle;
  // If there are other references, a task that goes on may have it as its current span.
  if (Py_REFCNT((PyObject*)span) > 1) span->context = nopspan_span_context_or(handle, &span->context);
  span->handle = nopspan_none();
  return handle;
}

static void span_dealloc(PyObject* object) {
  Span* const span = (Span*)object;
  PyObject* const previous = (PyObject*)span->previous;
  nopspan_span_cancel(take(span), "abandoned");
  PyObject_Free(span);
  Py_DECREF(span_type);
  Py_XDECREF(previous);  // the last call, because there may be many
}

static PyObject* span_enter(PyObject* self, PyObject* unused) {
  Span* const span = (Span*)self;
  if (nopspan_is_recorded(span->handle) && !span->is_entered) {
    span->is_entered = 1;
    span->previous = current_span();
    make_current(self);
  }
  return Py_NewRef(self);
}

// An exception that is not an Exception, such as asyncio.CancelledError, means that the work was stopped.
static void end_by_exception(nopspan_handle span, PyObject* type, PyObject* value) {
  size_t name_size = 0, size = 0;
  PyObject* const name = PyType_GetQualName((PyTypeObject*)type);
  PyObject* const text = PyObject_Str(value);
  PyErr_Clear();
  const char* const class_name = name != NULL ? utf8(name, &name_size) : NULL;
  const char* const message = text != NULL ? utf8(text, &size) : NULL;
  if (PyErr_GivenExceptionMatches(type, PyExc_Exception)) {
    nopspan_call_exception(span, class_name, name_size, message, size, NULL, 0);
  } else {
    nopspan_call_cancel(span, class_name, name_size);
  }
  Py_XDECREF(name);
  Py_XDECREF(text);
}

static PyObject* span_exit(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  Span* const span = (Span*)self;
  if (!has_arguments(count, 3, 3)) return NULL;
  if (span->is_entered) {
    Span* const current = current_span();
    span->is_entered = 0;
    span->is_left = current != span;
    if (current == span) {
      PyObject* const previous = (PyObject*)skip_left(span->previous);
      make_current(previous != NULL ? previous : Py_None);
      Py_CLEAR(span->previous);
    }
    Py_XDECREF((PyObject*)current);
  }
  const nopspan_handle handle = take(span);
  if (!nopspan_is_recorded(handle) || !PyType_Check(args[0])) {
    nopspan_span_end(handle);
  } else {
    end_by_exception(handle, args[0], args[1]);
  }
  Py_RETURN_FALSE;
}
static PyObject* set_field(PyObject* self, PyObject* const* args, Py_ssize_t count, unsigned use) {
  if (!has_arguments(count, 2, 2)) return NULL;
  if (nopspan_is_recorded(((Span*)self)->handle)) set_value(((Span*)self)->handle, args[0], args[1], use);
  return Py_NewRef(self);
}
#define SETTER(name, use)                                                          \
  static PyObject* name(PyObject* self, PyObject* const* args, Py_ssize_t count) { \
    return set_field(self, args, count, use);                                      \
  }
SETTER(span_set, NOPSPAN_METADATA)
SETTER(span_content, NOPSPAN_CONTENT)
SETTER(span_measure, NOPSPAN_MEASUREMENT)
SETTER(span_label, NOPSPAN_LABEL)

static PyObject* span_usage(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  if (!has_arguments(count, 2, 4)) return NULL;
  int64_t tokens[4] = {-1, -1, -1, -1};
  for (Py_ssize_t i = 0; i < count; ++i) read_int(args[i], &tokens[i]);
  nopspan_span_usage(((Span*)self)->handle, tokens[0], tokens[1], tokens[2], tokens[3]);
  return Py_NewRef(self);
}
static PyObject* span_first_token(PyObject* self, PyObject* unused) {
  nopspan_span_first_token(((Span*)self)->handle);
  return Py_NewRef(self);
}
static PyObject* span_fail(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  if (!has_arguments(count, 1, 2)) return NULL;
  size_t size, message_size = 0;
  const char* const type = utf8(args[0], &size);
  const char* const message = count > 1 ? utf8(args[1], &message_size) : NULL;
  nopspan_call_fail(take((Span*)self), type, size, message, message_size);
  Py_RETURN_NONE;
}
static PyObject* span_cancel(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  if (!has_arguments(count, 0, 1)) return NULL;
  size_t size = 0;
  const char* const reason = count > 0 ? utf8(args[0], &size) : NULL;
  nopspan_call_cancel(take((Span*)self), reason, size);
  Py_RETURN_NONE;
}
static PyObject* span_end(PyObject* self, PyObject* unused) {
  nopspan_span_end(take((Span*)self));
  Py_RETURN_NONE;
}
static nopspan_handle begin_event(const Span* span, const char* name, size_t size) {
  if (span != NULL && nopspan_is_recorded(span->handle)) return nopspan_call_event_begin(name, size, span->handle, 0);
  const nopspan_context context = context_of(span);
  return nopspan_call_event_begin_in(name, size, &context, 0);
}
static PyObject* emit(const Span* span, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  if (!has_arguments(count, 1, 1)) return NULL;
  size_t size;
  const char* const name = utf8(args[0], &size);
  const nopspan_handle event = begin_event(span, name, size);
  if (nopspan_is_recorded(event)) set_keywords(event, keywords, args + 1);
  nopspan_span_end(event);
  Py_RETURN_NONE;
}
static PyObject* span_event(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  return emit((Span*)self, args, count, keywords);
}
static PyObject* traceparent_of(nopspan_context context) {
  char text[NOPSPAN_ROOM_TRACEPARENT];
  nopspan_context_traceparent(&context, text, sizeof(text));
  return PyUnicode_FromString(text);
}
static PyObject* span_traceparent(PyObject* self, PyObject* unused) { return traceparent_of(context_of((Span*)self)); }
static int span_bool(PyObject* self) { return nopspan_is_recorded(((Span*)self)->handle); }

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL
static PyMethodDef span_methods[] = {
    {"__enter__", span_enter, METH_NOARGS, NULL},
    {"__exit__", FAST(span_exit), NULL},
    {"set", FAST(span_set), "set(key, value): a field. Returns the span."},
    {"content", FAST(span_content), "content(key, value): a prompt or response, which probes receive if asked to."},
    {"measure", FAST(span_measure), "measure(key, number): a number to be summed and averaged."},
    {"label", FAST(span_label), "label(key, text): a text that child spans inherit."},
    {"usage", FAST(span_usage), "usage(input, output, cached=None, reasoning=None): tokens."},
    {"first_token", span_first_token, METH_NOARGS, "first_token(): the first token of a stream arrived."},
    {"fail", FAST(span_fail), "fail(type, message=None): ends the span as failed."},
    {"cancel", FAST(span_cancel), "cancel(reason=None): ends the span as cancelled."},
    {"end", span_end, METH_NOARGS, "end(): ends the span, if there is no `with`."},
    {"event", FAST(span_event) | METH_KEYWORDS, "event(name, **fields): an event of this span."},
    {"traceparent", span_traceparent, METH_NOARGS, "traceparent(): the header for a call inside this span."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot span_slots[] = {{Py_tp_dealloc, span_dealloc},
                                   {Py_tp_methods, span_methods},
                                   {Py_nb_bool, span_bool},
                                   {Py_tp_doc, "A span. It is true if it is recorded and has not ended."},
                                   {0, NULL}};
static PyType_Spec span_spec = {"nopspan.Span", sizeof(Span), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
                                span_slots};

static Span* new_span(void) {
  Span* const span = PyObject_Calloc(1, sizeof(Span));
  return span != NULL ? (Span*)PyObject_Init((PyObject*)span, span_type) : NULL;
}

// The place of a text in a list of `count`; -1 if it is not in there.
static int find(PyObject* text, const char* const* list, int count) {
  while (--count >= 0 && (!PyUnicode_Check(text) || PyUnicode_CompareWithASCIIString(text, list[count]) != 0)) continue;
  return count;
}
static nopspan_handle begin(const Span* parent, PyObject* const* args, PyObject* keywords) {
  static const char* const own[] = {"traceparent", "kind"};  // keywords that are not fields
  static const char* const kinds[] = {"unspecified", "internal", "server", "client", "producer", "consumer"};
  size_t size, ignored;
  const char* const name = utf8(args[0], &size);
  if (keywords == NULL && parent != NULL && nopspan_is_recorded(parent->handle))
    return nopspan_call_span_begin(name, size, parent->handle, 0);  // most spans
  nopspan_context context = context_of(parent);
  struct nopspan_span_options options = {.size = sizeof(options), .flags = NOPSPAN_START_LATER, .context = &context};
  const Py_ssize_t count = keywords != NULL ? PyTuple_Size(keywords) : 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* const value = args[1 + i];
    const int option = find(PyTuple_GetItem(keywords, i), own, 2);
    if (option == 1 && find(value, kinds, 6) > 0) options.kind = (uint32_t)find(value, kinds, 6);
    if (option == 0 && value != Py_None) context = nopspan_context_from(utf8(value, &ignored));
  }
  const nopspan_handle span = nopspan_call_span_begin_with(name, size, &options, 0);
  for (Py_ssize_t i = 0; nopspan_is_recorded(span) && i < count; ++i) {
    if (find(PyTuple_GetItem(keywords, i), own, 2) >= 0) continue;
    set_value(span, PyTuple_GetItem(keywords, i), args[1 + i], NOPSPAN_METADATA);
  }
  nopspan_span_start(span);
  return span;
}

static PyObject* module_span(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  if (!has_arguments(count, 1, 1)) return NULL;
  if (!nopspan_enabled()) return Py_NewRef(not_recorded);
  Span* const parent = current_span();
  const nopspan_handle handle = begin(parent, args, keywords);
  Py_XDECREF((PyObject*)parent);
  Span* const span = nopspan_is_recorded(handle) ? new_span() : NULL;
  if (span == NULL) {
    nopspan_span_end(handle);
    return Py_NewRef(not_recorded);
  }
  span->handle = handle;
  return (PyObject*)span;
}

static PyObject* module_event(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
  if (!nopspan_enabled() && count == 1) Py_RETURN_NONE;
  Span* const span = current_span();
  PyObject* const result = emit(span, args, count, keywords);
  Py_XDECREF((PyObject*)span);
  return result;
}

// A gauge or counter with keywords: engine, model, maximum and labels.
static PyObject* report(PyObject* const* args, Py_ssize_t count, PyObject* keywords, bool is_counter) {
  if (!has_arguments(count, 2, 2)) return NULL;
  const nopspan_handle gauge = nopspan_gauge_begin();
  if (!nopspan_is_recorded(gauge)) Py_RETURN_NONE;
  size_t size;
  const char* const name = utf8(args[0], &size);
  int64_t value;
  set_keywords(gauge, keywords, args + 2);
  if (read_int(args[1], &value)) {
    nopspan_call_gauge_end(gauge, name, size, value, is_counter);
  } else {
    nopspan_span_end(gauge);  // discards and counts it
  }
  Py_RETURN_NONE;
}
#define REPORT(name, is_counter)                                                                         \
  static PyObject* name(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* keywords) { \
    return report(args, count, keywords, is_counter);                                                    \
  }
REPORT(module_gauge, false)
REPORT(module_counter, true)
static PyObject* module_current(PyObject* module, PyObject* unused) {
  Span* const current = current_span();
  return current != NULL ? (PyObject*)current : Py_NewRef(not_recorded);
}
static PyObject* module_traceparent(PyObject* module, PyObject* unused) { return traceparent_of(current_context()); }
static PyObject* module_enabled(PyObject* module, PyObject* unused) { return PyBool_FromLong(nopspan_enabled()); }

static PyMethodDef module_methods[] = {
    {"span", FAST(module_span) | METH_KEYWORDS,
     "span(name, *, traceparent=None, kind=None, **fields): begins a span inside the current one. Use it in `with`."},
    {"event", FAST(module_event) | METH_KEYWORDS, "event(name, **fields): an event of the current span."},
    {"gauge", FAST(module_gauge) | METH_KEYWORDS, "gauge(name, value, **labels): labels are engine, model, any other."},
    {"counter", FAST(module_counter) | METH_KEYWORDS, "counter(name, total, **labels)"},
    {"current", module_current, METH_NOARGS, "current(): the span of this task or thread."},
    {"traceparent", module_traceparent, METH_NOARGS, "traceparent(): the header for a call; empty outside of spans."},
    {"enabled", module_enabled, METH_NOARGS, "enabled(): whether a tracer or handler is attached."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "nopspan", .m_size = -1,
                                        .m_methods = module_methods};

PyMODINIT_FUNC PyInit_nopspan(void) {
  PyObject* const library = PyImport_ImportModule("contextvars");
  PyObject* const variable = library != NULL ? PyObject_CallMethod(library, "ContextVar", "s", "nopspan_span") : NULL;
  Py_XDECREF(library);
  if (variable == NULL) return NULL;
  get_current = PyObject_GetAttrString(variable, "get");
  set_current = PyObject_GetAttrString(variable, "set");
  span_type = (PyTypeObject*)PyType_FromSpec(&span_spec);
  if (get_current == NULL || set_current == NULL || span_type == NULL) return NULL;
  not_recorded = (PyObject*)new_span();
  PyObject* const module = not_recorded != NULL ? PyModule_Create(&definition) : NULL;
  if (module != NULL && PyModule_AddType(module, span_type) != 0) PyErr_Clear();
  return module;
}
