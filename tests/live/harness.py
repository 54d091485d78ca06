# SPDX-License-Identifier: Apache-2.0
"""Used by all live tests: the traced programs, and bpftrace as the tracer.

A test waits for conditions, never for a fixed time. A program answers each command when it is done
(programs/commands.h). bpftrace is attached when it waits for events. Its own "Attaching N probes..." is too early,
because it then attaches the probes one by one.

To run a file by hand: ctest --preset dev -V -R live.attach. To run one test of it:
PYTHONPATH=tests/live:tests/support python3 tests/live/library/test_attach.py -v Attach.test_before_the_program_starts
"""

import collections
import itertools
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import ability
from ability import own_mounts
from followed import Followed, children_of
from waiting import PATIENCE_S, hold_lock, wait_until

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("NOPSPAN_BUILD_DIR", os.path.join(SOURCE, "build", "dev")))
PROGRAMS = os.path.join(BUILD, "tests", "live")
# libnopspan.so.ABI: the name of the file, and the SONAME.
SONAME = os.path.basename(os.path.realpath(os.path.join(BUILD, "libnopspan.so")))
BUILT_LIBRARY = os.path.join(PROGRAMS, "lib", SONAME)
# The calling file's own copy of the library (see main()).
LIBRARY = os.path.join(PROGRAMS, "lib", os.path.splitext(os.path.basename(sys.argv[0]))[0], SONAME)
# The collector.
NOPSPAN = os.environ.get("NOPSPAN_PROGRAM", os.path.join(BUILD, "nopspan"))
# The path in the project's scripts, which attach.sh replaces.
INSTALLED = "/usr/*/*/libnopspan.so.*"
LONG = os.environ.get("NOPSPAN_LONG") == "1"
# Another bpftrace than the one in PATH, or a command that runs one.
BPFTRACE = os.environ.get("BPFTRACE", "bpftrace")
PROBES = ("span_start", "span_stop", "span_exception", "event", "first_token", "tokens", "retry", "tool_call",
          "engine_request", "gauge", "engine_step")

FLAG_ORPHAN = 0x1
FLAG_REMOTE_PARENT = 0x2
FLAG_FOREIGN_ID = 0x4
FLAG_STEP = 0x800

# The part of the gate for spans (include/nopspan/detail/gate.h).
GATE_SPANS = 0xFFFF


def text_of(path):
    """"" if the process or the file is gone."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


# Files that have probes of their own. A tracer raises the gates of all processes that map such a file.
WITH_PROBES = {"traced_static", "hostile", "starved", "unanswered", "recorded", "newer_library", "open_spans",
               "plugin_static.so", "mini", "sites_1.so", "sites_250.so"}
_COPYING = threading.Lock()  # several threads of a test may start the same program


def program_path(name):
    """A program, or the calling file's own copy of it if it has probes of its own."""
    built = os.path.join(PROGRAMS, name)
    if name not in WITH_PROBES or not os.path.exists(built):
        return built
    copy = os.path.join(os.path.dirname(LIBRARY), name)
    with _COPYING:
        if not os.path.exists(copy) or os.path.getmtime(copy) != os.path.getmtime(built):
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            replace_file(built, copy)
    return copy


def replace_file(source, destination):
    """Copies a file to a new one. A process may still map the old one, into which nothing may be written. Another process
    copies it: a fork by another thread would inherit a file that is being written, which cannot be executed then."""
    subprocess.run(["cp", "--preserve", source, destination + ".new"], check=True)
    os.replace(destination + ".new", destination)


class Program:
    """A program that takes commands, or that runs by itself."""

    def __init__(self, name, *arguments, command=None, env=None):
        command = command or [program_path(name), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **(env or {})})
        self.ready = self.process.stdout.readline().split()
        if self.ready[:1] != ["ready"]:
            raise AssertionError("%s did not start: %s" % (command, self.ready))
        self.pid = int(self.ready[1])

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise AssertionError("the program died of %r: exit %s" % (command, self.process.wait()))
        return answer.rstrip("\n")

    def gate(self):
        return int(self.ask("gate"))

    def wait_for_gate(self, condition, what):
        wait_until(lambda: condition(self.gate()), what)

    def __enter__(self):
        return self

    def kill(self):
        """Kills the program, if it has not ended yet."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __exit__(self, failed, *_):
        """Ends the program by closing its stdin. Every test checks that it exits successfully, unless it was killed."""
        if self.process.stdin.closed:
            return
        self.process.stdin.close()
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process.stdout.close()
        if code != 0 and not failed:
            raise AssertionError("the program ended with %d" % code)


class Counting(Program):
    """programs/counting. Its counts are known even after it was killed."""

    def __init__(self, folder, threads=2, pause_us=0, depth=3, prefix=()):
        self.path = os.path.join(folder, "counted")
        super().__init__("counting", command=[*prefix, program_path("counting"), self.path, str(threads), str(pause_us), str(depth)])

    def threads(self):
        """[(spans begun, spans ended, events), …]"""
        with open(self.path, "rb") as file:
            return list(struct.iter_unpack("<3Q", file.read()))

    def entries(self):
        return sum(ended + events for _, ended, events in self.threads())


def run(name, *arguments):
    """Runs a program to its end. Returns its stdout."""
    command = [program_path(name), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S).stdout


def nopspan(*words, command=(), **options):
    """Runs the program nopspan to its end, by another command if one is given. Its stdout and stderr are texts."""
    return subprocess.run([*command, NOPSPAN, *map(str, words)], **{
        "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": PATIENCE_S, "check": False, **options})


def output_of(*arguments):
    """What a command prints as JSON. It must succeed."""
    done = nopspan("--json", *arguments)
    if done.returncode != 0:
        raise AssertionError(done.stderr + done.stdout)
    return done.stdout


def objects_of(*arguments):
    """The same of a command that prints an object per line."""
    return [json.loads(line) for line in output_of(*arguments).splitlines()]


def workload_ends(test, path):
    """Each span end that the handler of programs/workload received and wrote into a file: the event, and the span's
    name."""
    with open(path, encoding="utf-8") as file:
        events = [json.loads(line) for line in file]
    ends = [dict(e, name=e["event"].rpartition(".")[0]) for e in events if not e["event"].endswith(".start")]
    test.assertGreater(len(ends), 2000)
    return ends


# A canary emits one event of each kind, under a model that identifies it, on the given CPU.

def canary_program(name):
    """A canary that is a process of its own."""
    def emit(model, cpu=None):
        pin = [] if cpu is None else ["taskset", "--cpu-list", str(cpu)]
        subprocess.run([*pin, program_path(name), "canary", model], check=True, timeout=PATIENCE_S)
    return emit


def canary_in(program, pid=None):
    """A canary in a program that takes commands, for a tracer of that program alone."""
    pid = pid or program.pid

    def emit(model, cpu=None):
        allowed = os.sched_getaffinity(pid)
        os.sched_setaffinity(pid, allowed if cpu is None else {cpu})
        program.ask("canary " + model)
        os.sched_setaffinity(pid, allowed)
    return emit


def is_root(end):
    """Whether this event is the end of a root span."""
    return (end["parent_id"] == "0" or bool(end["flags"] & FLAG_REMOTE_PARENT)) and not end["flags"] & (
        FLAG_ORPHAN | FLAG_STEP)


_NUMBERS = itertools.count()


def canary_of_each_cpu(canary):
    """Emits a canary on each CPU, and yields its model, which no canary had before."""
    for cpu in sorted(os.sched_getaffinity(0)):
        model = "last-%d" % next(_NUMBERS)
        canary(model, cpu)
        yield model


def struct_text(name):
    """The text of a record's struct, as the scripts contain it."""
    with open(os.path.join(SOURCE, "include", "nopspan", "probes.h"), encoding="utf-8") as header:
        return re.search(r"/\* BEGIN struct %s \*/\n(.*?)/\* END" % name, header.read(), re.S).group(1)


# One line per event. It begins with the fields that all probes have. arg4 is a text for span_exception only.
FIELDS = (("pid", "%d", "pid"), ("id", "%s", "str(arg0)"), ("name", "%s", "str(arg1)"), ("arg2", "%lu", "arg2"),
          ("model", "%s", "str(arg3)"), ("arg4", "%lu", "arg4"), ("size", "%u", "$r->size"), ("flags", "%u", "$r->flags"),
          ("status", "%u", "$r->status"), ("link_count", "%u", "$r->link_count"), ("span_id", "%lx", "$r->span_id"),
          ("parent_id", "%lx", "$r->parent_id"), ("root_id", "%lx", "$r->root_id"), ("start_ns", "%lu", "$r->start_ns"),
          ("duration_ns", "%lu", "$r->duration_ns"), ("sequence_id", "%lx", "$r->sequence_id"), ("sequence", "%lu", "$r->sequence"),
          ("request_id", "%s", "$r->request_id"))
# Further lines, matched by sequence_id and sequence, because BPF's stack is too small to print everything in one printf().
DETAILS = (("engine", "%s", "str($r->engine)"), ("tenant", "%s", "str($r->tenant)"),
           ("kind", "%s", "str($r->exception_kind)"), ("error_type", "%s", "str($r->error_type)"),
           ("tracestate", "%s", "str($r->tracestate)"))
COUNTS = (("input_tokens", "%lu", "$r->input_tokens"), ("output_tokens", "%lu", "$r->output_tokens"),
          ("cached_tokens", "%lu", "$r->cached_tokens"), ("reasoning_tokens", "%lu", "$r->reasoning_tokens"),
          ("first_token_ns", "%lu", "$r->first_token_ns"), ("attributes_bytes", "%lu", "$r->attributes_bytes"))
ENGINE = (("engine_size", "%d", "$e->engine_size"), ("arrival_ns", "%lu", "$e->arrival_ns"), ("queue_ns", "%lu", "$e->queue_ns"),
          ("prefill_ns", "%lu", "$e->prefill_ns"), ("decode_ns", "%lu", "$e->decode_ns"),
          ("preemptions", "%lu", "$e->preemptions"))
STRINGS = {"id", "name", "model", "request_id", "engine", "tenant", "kind", "error_type", "tracestate", "reason"}
HEX = {"span_id", "parent_id", "root_id", "sequence_id"}
SEPARATOR = "\x1f"

# The numbers of epoll_wait and epoll_pwait on x86-64 and aarch64.
EPOLL_WAIT = ("232", "281", "22")


def in_chroot():
    """Whether "/" is a plain folder and not a mount. A process that enters other mounts could not find back to it."""
    return len(own_mounts()) > 2


def with_tracefs(command):
    """Wraps `command` such that it has tracefs. If the machine has no tracefs mounted, it is mounted in a private
    namespace. The pid stays the same."""
    mount = '[ -e /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing; exec "$@"'
    return [*own_mounts(), "sh", "-c", mount, "sh", *command]


def run_in_tracefs():
    """If the machine has no tracefs mounted, runs the calling file again in a private mount namespace with tracefs.
    Mounting it for all processes would change what other tracers on this machine do."""
    events = "/sys/kernel/tracing/uprobe_events"
    if not os.path.exists(events) and os.geteuid() == 0 and "NOPSPAN_IN_TRACEFS" not in os.environ:
        os.environ["NOPSPAN_IN_TRACEFS"] = "1"
        command = with_tracefs([sys.executable, *sys.argv])
        os.execvp(command[0], command)
    if os.geteuid() == 0 and not os.path.exists(events):
        ability.unable("no tracefs with uprobe_events")


def _print(mark, fields):
    formats = SEPARATOR.join([mark] + [f[1] for f in fields])
    return 'printf("%s\\n", %s);' % (formats, ", ".join(f[2] for f in fields))


def _parse(fields, words):
    values = {}
    for (name, _, _), word in zip(fields, words):
        values[name] = word if name in STRINGS else int(word, 16 if name in HEX else 10)
    return values


# The probes whose records have attributes, and how many bytes of the attributes are printed, 64 at a time.
WITH_ATTRIBUTES = ("span_start", "span_stop", "span_exception", "event", "retry")
ATTRIBUTE_CHUNKS = 32


def _print_attributes(probe):
    # The last piece begins earlier if it would extend beyond the end, because the memory after it may be unmapped.
    return ('$n = (int64)$r->attributes_bytes; $a = (int64)$r->attributes; $i = (int64)0;\n'
            '  unroll(%d) {\n    if ($i < $n) {\n      $o = $i; if ($i + 64 > $n && $n >= 64) { $o = $n - 64; }\n'
            '      printf("%s@%s%%lx%s%%lu%s%%lu%s%%lu%s%%rx\\n", $r->sequence_id, $r->sequence, $n, $o, buf((uint8*)($a + $o), 64));\n'
            '    }\n    $i = $i + 64;\n  }\n') % ((ATTRIBUTE_CHUNKS, probe) + (SEPARATOR,) * 5)


def event_script(probes, libraries=(LIBRARY,), details=False, attributes=False):
    """A script that prints every event of some probes of some files."""
    key = (("sequence_id", "%lx", "$r->sequence_id"), ("sequence", "%lu", "$r->sequence"))
    text = struct_text("nopspan_span") + (struct_text("nopspan_engine") if "engine_request" in probes else "")
    for probe in probes:
        places = ",\n".join("usdt:%s:nopspan:%s" % (library, probe) for library in libraries)
        text += "%s\n{\n  $r = (struct nopspan_span *)arg5;\n  %s\n" % (places, _print(probe, FIELDS))
        if details:
            text += "  " + _print(probe + "+", key + DETAILS) + "\n"
            text += "  " + _print(probe + "#", key + COUNTS) + "\n"
        if attributes and probe in WITH_ATTRIBUTES:
            text += "  " + _print_attributes(probe)
        if probe == "span_exception":
            text += "  " + _print(probe + "!", key + (("reason", "%s", "str(arg4)"),)) + "\n"
        if probe == "engine_request":
            text += "  $e = (struct nopspan_engine *)arg5;\n  " + _print(probe + "!", key + ENGINE) + "\n"
        text += "}\n"
    return text


class Event(dict):
    """One event that a tracer printed, with its fields as attributes."""

    __getattr__ = dict.__getitem__


def end_by(signal_number, process):
    """Ends a tracer by a signal, as a user does."""
    if process.poll() is None:
        process.send_signal(signal_number)
    # bpftrace 0.17 ignores a SIGINT that arrives while it handles an event, until a system call is interrupted.
    # Stopping and continuing it interrupts a system call, and has no other effect.
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGSTOP)
            process.send_signal(signal.SIGCONT)
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise AssertionError("signal %d did not end %s" % (signal_number, process.args))


class Bpftrace(Followed):
    """A bpftrace that runs a script."""

    # Whether a test may continue if events were lost.
    may_lose = False
    # Whether the output may contain arbitrary bytes of the program.
    decoding_errors = "surrogateescape"

    def __init__(self, command, env=None):
        # Large per-CPU buffers, because a lost event would fail a test without a defect of the library.
        super().__init__(command, env={"BPFTRACE_PERF_RB_PAGES": "2048", **(env or {})})

    def wait_until_up(self):
        """bpftrace begins to wait for events when its last probe is attached."""
        self.wait_while_it_runs(self.is_in_epoll_wait, self.command_line + " to attach")

    def is_in_epoll_wait(self):
        try:
            # In a wrapper (for example of a chroot), bpftrace is the last child.
            pid = self.pid
            while children := children_of(pid):
                pid = children[0]
            comm, call = (text_of("/proc/%d/%s" % (pid, name)).split() for name in ("comm", "syscall"))
            return comm[:1] == ["bpftrace"] and call[:1] and call[0] in EPOLL_WAIT
        except (FileNotFoundError, ProcessLookupError):
            return False  # bpftrace 0.17 first runs a child that asks clang for its paths, and it ended meanwhile

    def lost(self):
        """How many events bpftrace reports as lost. 0.17 and 0.23 report this on stdout, 0.27 on stderr."""
        said = (re.match(r"Lost (\d+) events", line) for line in self.lines + self.said)
        return sum(int(match[1]) for match in said if match)

    def stop(self, signal_number=signal.SIGINT):
        """Ends it by a signal, as a user does. Returns the lines that it printed."""
        end_by(signal_number, self.process)
        code = self.end()
        if self.lost() and not self.may_lose:
            raise AssertionError("bpftrace lost %d events, so that this run shows nothing" % self.lost())
        if code not in (0, -signal_number):
            raise AssertionError("bpftrace ended with %d: %s" % (code, "\n".join(self.said)))
        return self.lines


class Tracer(Bpftrace):
    """A bpftrace that prints the events of some probes. A context manager: attached on entry and ended on exit."""

    def __init__(self, probes=("span_stop",), libraries=(LIBRARY,), details=False, canary=None, options=(), command=None,
                 script=None, attributes=False):
        self.probes = probes
        self.canary = canary or canary_program("traced")
        self._read_lines, self._events, self._by_key = 0, [], {}
        self._folder = tempfile.mkdtemp(prefix="nopspan-live-")
        self.script = os.path.join(self._folder, "events.bt")
        with open(self.script, "w", encoding="utf-8") as file:
            file.write(script or event_script(probes, libraries, details, attributes))
        super().__init__([*(command or [BPFTRACE, "-B", "line", *options]), self.script])

    def __exit__(self, *exception):
        super().__exit__(*exception)
        shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self, signal_number=signal.SIGINT):
        """Ends it after it has printed everything that happened before this call. Returns the lines."""
        if self.is_running() and signal_number == signal.SIGINT:
            # On a signal, bpftrace discards what it has not read yet. It reads the events of each CPU in order, so a
            # canary per CPU shows when everything before has been printed.
            for model in canary_of_each_cpu(self.canary):
                self.wait_while_it_runs(lambda model=model: any(
                    (e.probe, e.model) == (self.probes[0], model) for e in self._parsed()), "the canary " + model)
        return super().stop(signal_number)

    def _parsed(self):
        """The events printed so far. Each line is parsed once."""
        for line in self.lines[self._read_lines:]:
            self._read_lines += 1
            words = line.split(SEPARATOR)
            if len(words) > 1 and words[0].rstrip("+#!@") in PROBES:
                self._parse_event(words[0].rstrip("+#!@"), words)
        return self._events

    def _parse_event(self, probe, words):
        if words[0] == probe:
            event = Event(_parse(FIELDS, words[1:]), probe=probe, attributes=bytearray())
            self._events.append(event)
            self._by_key[probe, event.sequence_id, event.sequence] = event
            return
        event = self._by_key[probe, int(words[1], 16), int(words[2])]
        if words[0][-1] == "@":
            size, offset = int(words[3]), int(words[4])
            if size > 64 * ATTRIBUTE_CHUNKS:
                raise AssertionError("%d bytes of attributes are more than this prints" % size)
            piece = bytes.fromhex(words[5].replace("\\x", ""))
            event.attributes[offset:offset + 64] = piece[:size - offset]
            return
        fields = {"+": DETAILS, "#": COUNTS}.get(words[0][-1],
                                                 ENGINE if probe == "engine_request" else (("reason", "", ""),))
        event.update(_parse(fields, words[3:]))

    def events(self, probe=None, pid=None):
        """The events printed so far, without the canaries. Complete only after stop()."""
        return [e for e in self._parsed() if not e.name.startswith("canary") and probe in (None, e.probe)
                and pid in (None, e.pid)]

    def names(self, probe=None, pid=None):
        return collections.Counter(e.name for e in self.events(probe, pid))


def status_of(pid):
    """The lines of /proc/PID/status."""
    with open("/proc/%s/status" % pid, encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


class Test(unittest.TestCase):
    """A test that needs a capable machine. If something is missing, main() names it and skips the file."""

    longMessage = True

    def temporary_folder(self):
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    @classmethod
    def folder_of_the_class(cls):
        """A temporary folder for setUpClass()."""
        folder = tempfile.mkdtemp(prefix="nopspan-live-")
        cls.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def until_interrupted(self, *command, **options):
        """Starts a tracer that SIGINT ends, at the latest at the end of the test: one that was left would keep the gates
        of the next tests raised."""
        process = subprocess.Popen(command, **options)  # pylint: disable=consider-using-with
        self.addCleanup(end_by, signal.SIGINT, process)
        return process


def need(*commands):
    ability.need(*commands)
    if not os.path.exists(BUILT_LIBRARY):
        ability.unable("no built library at %s: set NOPSPAN_BUILD_DIR" % BUILT_LIBRARY)
    # Each start of bpftrace takes a second, so one file tries it for all others, once since the boot.
    here = text_of("/proc/sys/kernel/random/boot_id") + status_of("self")["CapEff"]
    worked = os.path.join(PROGRAMS, "lib", "bpftrace-worked")
    if text_of(worked) != here:
        ability.need_bpftrace()
        with open(worked, "w", encoding="ascii") as file:
            file.write(here)


def is_among_own_processes():
    return "NOPSPAN_OWN_PROCESSES" in os.environ


def among_own_processes(*command):
    """The command that runs this one in a pid namespace of its own, where a tracer of all processes finds no others."""
    # The shell waits for the processes that others leave behind, as a machine's init does.
    return ["env", "NOPSPAN_OWN_PROCESSES=1", *own_mounts("--pid", "--fork", "--kill-child", "--mount-proc"),
            "sh", "-c", '"$@"; exit $?', "sh", *command]


def main(*commands, own_processes=True):
    """Runs the tests of the calling file, if the machine can. They attach to a copy of the library that only their
    programs load, and are among their own processes, so that the tests of other files can run at the same time.
    bpftrace does not know the pids of such a namespace."""
    need(*commands)
    if own_processes and not is_among_own_processes():
        command = among_own_processes(sys.executable, *sys.argv)
        os.execvp(command[0], command)
    os.makedirs(os.path.dirname(LIBRARY), exist_ok=True)
    _lock = hold_lock(os.path.join(os.path.dirname(LIBRARY), ".lock"))
    replace_file(BUILT_LIBRARY, LIBRARY)
    # Searched before the programs' RUNPATH, but after the library in /usr/local (scripts/installed.py).
    os.environ.setdefault("LD_LIBRARY_PATH", os.path.dirname(LIBRARY))
    unittest.main()
