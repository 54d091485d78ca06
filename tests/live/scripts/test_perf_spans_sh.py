# SPDX-License-Identifier: Apache-2.0
"""scripts/perf-spans.sh as users run it. perf must record what the workload's own handler recorded. A flame graph must
have exactly the functions that ran inside the spans with its name."""

import collections
import os
import re
import shutil
import signal
import subprocess
import xml.etree.ElementTree

import harness
import installed
from followed import Followed, children_of
from harness import LIBRARY, PATIENCE_S, SONAME, SOURCE, Program, program_path

SCRIPT = os.path.join(SOURCE, "scripts", "perf-spans.sh")
TRACEFS = "/sys/kernel/tracing"
# No handler can be attached under a truncated name. 4 threads with 20 root spans each use this one.
CUT = ("work.a_name_of_more_than_sixty_three_bytes_which_is_cut_so_t…", 80)


def perf_spans(*arguments, **options):
    return subprocess.run([SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          timeout=PATIENCE_S, **options)


def events_of(pid):
    """The kernel's events that the script with this pid made."""
    with open(os.path.join(TRACEFS, "uprobe_events"), encoding="utf-8") as file:
        return [line for line in file if line.startswith("p:nopspan_%d_" % pid)]


class Recording(Followed):
    """`perf-spans.sh record` until Ctrl-C. A context manager: it records on entry and has ended on exit."""

    def __init__(self, data, *arguments):
        # The process that runs the tests may ignore SIGINT, and the script would inherit that.
        super().__init__(["setsid", "env", "--default-signal=INT", SCRIPT, "record", "-o", data, *arguments])

    def wait_until_up(self):
        self.wait_until_it_says("until Ctrl-C")

    def stop(self, signal_number=signal.SIGINT, send=os.killpg):
        """As a terminal does: Ctrl-C goes to all processes in it."""
        send(self.pid, signal_number)
        code = self.end()
        if code != 0:
            raise AssertionError("perf-spans.sh: exit %d: %s" % (code, self.said))

    def perf_pid(self):
        return next(pid for pid in children_of(self.pid) if os.path.basename(os.readlink("/proc/%d/exe" % pid)).startswith("perf"))


class PerfSpans(harness.Test):
    def setUp(self):
        self.folder = self.temporary_folder()
        self.data = os.path.join(self.folder, "perf.data")

    def path(self, name):
        return os.path.join(self.folder, name)

    def record_command(self, *arguments, commands, options=()):
        """Records a program that takes commands until it ends."""
        done = perf_spans("record", "-o", self.data, *options, "--", *arguments,
                          input="".join(line + "\n" for line in commands))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def names(self, data=None, *options):
        """{name: how many ends of its spans were recorded}"""
        return collections.Counter(re.findall(r":span_stop(?:_\d+)?: .* name=\"(.*)\"\n", self.lines(
            "-F", "event,trace", *options, data=data)))

    def folded(self, name, *options, data=None):
        """Runs the flame graph's folding. Returns [(frames, count)], where the first frame is the span's name, and
        stderr."""
        done = perf_spans("flamegraph", name, "--folded", "-i", data or self.data, *options)
        stacks = []
        for line in done.stdout.splitlines():
            frames, _, count = line.rpartition(" ")
            stacks.append((frames.split(";"), int(count)))
        self.assertEqual(done.returncode, 0 if stacks else 1, done.stderr)
        return stacks, done.stderr

    def lines(self, *fields, data=None):
        return subprocess.run(["perf", "script", "-i", data or self.data, "--no-inline", *fields],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout

    def test_spans_of_one_process(self):
        with Program("traced") as other, Program("workload") as program:
            self.assertEqual(other.gate(), 0)
            with Recording(self.data, "-p", str(program.pid)) as recording:
                self.assertEqual(len(events_of(recording.pid)), 2)
                self.assertEqual(program.ask("run " + self.path("handler.jsonl")), "done")
                self.assertEqual(other.gate(), 0, "another process costs nothing")
                recording.stop()
            self.assertEqual(events_of(recording.pid), [])
        ends = harness.workload_ends(self, self.path("handler.jsonl"))
        stop = r":span_stop: \(\w+\) dur=(\d+) status=(\d) flags=(\d+) span=0x(\w+) id=\"(.*?)\" name=\"(.*)\"\n"
        recorded = re.findall(stop, self.lines("-F", "event,trace"))
        self.assertEqual(sum(row[-1] == CUT[0] for row in recorded), CUT[1])
        self.assertEqual(sorted((e["span_id"], e["duration_ns"], e["status"], e["flags"], e["name"]) for e in ends),
                         sorted((span, int(ns), int(status), int(flags), name)
                                for ns, status, flags, span, _, name in recorded if name != CUT[0]))
        # The id is the request's. Supplied ids in other forms are hashed.
        ids = {span: request_id for _, _, _, span, request_id, _ in recorded}
        for end in ends:
            if not end["flags"] & harness.FLAG_FOREIGN_ID:
                self.assertEqual(ids[end["span_id"]], end["request_id"])

    def test_spans_of_a_command(self):
        done = self.record_command(program_path("traced"), commands=["span command 3"])
        self.assertIn("recording " + os.path.join("/usr/local/lib", SONAME), done.stderr)
        self.assertEqual(self.names(), {"command": 3})
        self.assertEqual(perf_spans("record", "-o", self.data, "--", "sh", "-c", "exit 7").returncode, 7)

    def test_spans_of_the_whole_host(self):
        with Recording(self.data) as recording:
            with Program("traced") as program, Program("traced") as other:
                self.assertEqual([program.ask("span all 3"), other.ask("span all 10")], ["3", "10"])
            recording.stop()
        self.assertEqual(self.names()["all"], 13)
        self.assertEqual(self.names(None, "--pid", str(other.pid))["all"], 10)

    def test_a_static_program_is_named_by_its_file(self):
        static = program_path("traced_static")
        self.record_command(static, commands=["span static 3"], options=(static,))
        self.assertEqual(self.names(), {"static": 3})

    def test_a_file_whose_path_the_kernel_could_not_read(self):
        library = self.path("with blank #1")
        os.mkdir(library)
        shutil.copy(LIBRARY, library)
        self.record_command("env", "LD_LIBRARY_PATH=" + library, program_path("traced"), commands=["span named 3"],
                            options=(os.path.join(library, os.path.basename(LIBRARY)),))
        self.assertEqual(self.names()["named"], 3)

    def test_recordings_that_begin_and_end_in_the_middle_of_spans(self):
        """A flame graph does not include spans that were recorded only in part."""
        other = self.path("other.data")
        with Program("burning") as program:
            with Recording(self.data, "--cpu", "-p", str(program.pid)) as first:
                self.assertEqual(program.ask("begin ends_late"), "begun")
                with Recording(other, "--cpu", "-p", str(program.pid)) as second:
                    # Each instance has its own events.
                    self.assertEqual((len(events_of(first.pid)), len(events_of(second.pid))), (2, 2))
                    self.assertEqual(program.ask("burn inside a"), "done")
                    first.stop()
                    self.assertEqual((len(events_of(first.pid)), len(events_of(second.pid))), (0, 2))
                    self.assertEqual(program.ask("end"), "ended")
                    self.assertEqual(program.ask("begin never_ends"), "begun")
                    second.stop()
                    self.assertEqual(events_of(second.pid), [])
        for data, name, missing in ((self.data, "ends_late", "end"), (other, "ends_late", "start"),
                                    (other, "never_ends", "end")):
            stacks, said = self.folded(name, data=data)
            self.assertEqual(stacks, [])
            self.assertIn("left out: 1 span of which no %s was recorded" % missing, said)
        self.assertTrue(self.folded("inside", data=other)[0])

    def test_flame_graphs(self):
        done = self.record_command(program_path("burning"), options=("--cpu",), commands=[
            "burn burn.a a", "burn burn.b b", "outside", "at_once", "nest burn.nested", "async burn.async",
            "burn burn.<&> b", "leave burn.left"])
        self.assertEqual(done.stdout.splitlines()[-1], "left")
        graphs = {name: self.folded(name)[0] for name in ("burn.a", "burn.b", "burn.nested")}

        def samples(name, function):
            return sum(count for frames, count in graphs[name] if function in frames)
        for name, mine, others in (("burn.a", "burn_in_a", ("burn_in_b", "burn_in_outside")),
                                   ("burn.b", "burn_in_b", ("burn_in_a", "burn_in_outside")),
                                   ("burn.nested", "burn_in_a", ("burn_in_b", "burn_in_outside"))):
            self.assertGreater(samples(name, mine), 0, name)
            for other in others:
                self.assertEqual(samples(name, other), 0, (name, other))
            self.assertEqual({frames[0] for frames, _ in graphs[name]}, {name})
        # Callers come first.
        frames = next(frames for frames, _ in graphs["burn.a"] if "burn_in_a" in frames and "main" in frames)
        self.assertLess(frames.index("main"), frames.index("burn_in_a"))
        # burn_in_a runs only inside these spans, so each of its samples must be counted exactly once, even in nested
        # spans with the same name.
        in_a = [block for block in self.lines("-F", "sw:ip,sym", "-F", "hw:ip,sym", "-F", "trace:event").split("\n\n")
                if re.search(r"\bburn_in_a$", block, re.M)]
        self.assertEqual(len(in_a), samples("burn.a", "burn_in_a") + samples("burn.nested", "burn_in_a"))
        self.check_svg("burn.nested", graphs["burn.nested"])
        self.check_svg("burn.<&>", self.folded("burn.<&>")[0])

        stacks, said = self.folded("burn.async")
        self.assertEqual(stacks, [])
        self.assertIn("left out: 1 AsyncSpan, bound to no thread", said)
        stacks, said = self.folded("burn.left")
        self.assertEqual(stacks, [])
        self.assertIn("left out: 1 span of which no end was recorded", said)
        stacks, said = self.folded("burn.c")
        self.assertEqual(stacks, [])
        self.assertRegex(said, "no span is named burn.c; there are: .*burn.nested")

    def check_svg(self, name, stacks):
        done = perf_spans("flamegraph", name, "-i", self.data)
        self.assertEqual(done.returncode, 0, done.stderr)
        svg = xml.etree.ElementTree.fromstring(done.stdout)
        space = "{http://www.w3.org/2000/svg}"
        total = sum(count for _, count in stacks)
        texts = [text.text for text in svg.iter(space + "text")]
        self.assertEqual(texts[0], "CPU inside span " + name)
        self.assertTrue(texts[1].startswith("%d sample" % total), texts[1])
        drawn = collections.Counter()
        for group in svg.iter(space + "g"):
            title, count = re.match(r"(.*) \((\d+) samples?, [\d.]+%\)$", group.find(space + "title").text).groups()
            drawn[title] += int(count)
            # The width is proportional to the number of samples.
            width = float(group.find(space + "rect").get("width"))
            self.assertAlmostEqual(width, 1180 * int(count) / total, delta=0.1)
        expected = collections.Counter()
        for frames, count in stacks:
            for frame in frames:
                expected[frame] += count
        self.assertEqual(drawn, expected)

    def test_an_end_by_a_signal_to_the_script_alone(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with Program("traced") as program:
                with Recording(self.data, "-p", str(program.pid)) as recording:
                    self.assertEqual(program.ask("span by_perf 3"), "3")
                    recording.stop(number, os.kill)
                self.assertEqual(events_of(recording.pid), [], number)
                program.wait_for_gate(lambda gate: gate == 0, "the gate at zero when perf has ended")
            self.assertEqual(self.names()["by_perf"], 3)

    def test_what_perf_lost_is_said(self):
        with Program("workload") as program:
            with Recording(self.data, "--cpu", "-m", "1", "-p", str(program.pid)) as recording:
                perf = recording.perf_pid()
                os.kill(perf, signal.SIGSTOP)  # its buffer of one page is full soon
                self.assertEqual(program.ask("run " + self.path("handler.jsonl")), "done")
                os.kill(perf, signal.SIGCONT)
                recording.stop()
        spans = len(harness.workload_ends(self, self.path("handler.jsonl"))) + CUT[1]
        recorded = len(re.findall(r"^ *nopspan_\w+:span_st", self.lines("-F", "event"), re.M))
        self.assertLess(recorded, 2 * spans)
        lost = int(re.search(r"perf lost (\d+) records", self.folded("work.inner")[1])[1])
        # The lost records may also be CPU samples, or about threads: the run starts 4 of them, and each starts one more
        # per round.
        self.assertGreaterEqual(recorded + lost, 2 * spans)

    def check_refusal(self, done, status, words):
        self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
        self.assertRegex(done.stderr, words)

    def test_misuse(self):
        for arguments, words in (
                ((), "use record or flamegraph"),
                (("draw",), "unknown command draw"),
                (("record", "--loud"), "no option --loud"),
                (("record", "-p"), "-p needs a value"),
                (("record", "-p", "x"), "not a pid: x"),
                (("record", "-p", "1", "--", "true"), "use -p or a COMMAND"),
                (("record", "--all", LIBRARY), "only one of"),
                (("record", "--"), "no COMMAND"),
                (("record", "--", "/no/such/program"), "no such command"),
                (("record", "-F", "0"), "not a frequency"),
                (("record", "/no/such/file"), "no such file"),
                (("record", "-p", str(os.getpid())), "maps no file with nopspan probes"),
                (("record", shutil.which("env")), "neither .* has nopspan probes"),
                (("report",), "unknown command report"),
                (("flamegraph",), "NAME is missing"),
                (("flamegraph", "a", "b"), "one NAME")):
            self.check_refusal(perf_spans(*arguments), 2, words)
        done = perf_spans("record", env={**os.environ, "PERF": "/no/such/perf"})
        self.check_refusal(done, 2, "/no/such/perf was not found")
        stripped = self.path("stripped.so")
        subprocess.run(["objcopy", "--remove-section=.note.stapsdt", LIBRARY, stripped], check=True)
        self.check_refusal(perf_spans("record", stripped), 2, "was stripped of the notes")
        self.check_refusal(perf_spans("flamegraph", "a", "-i", "/no/such/data"), 1, "no such file")
        self.check_refusal(perf_spans("flamegraph", "a", "-i", SCRIPT), 1, "perf cannot read")
        helped = perf_spans("--help")
        self.assertEqual((helped.returncode, helped.stderr), (0, ""))
        self.assertIn("usage: perf-spans.sh record", helped.stdout)

    def test_a_recording_without_samples_has_no_graph(self):
        self.record_command(program_path("traced"), commands=["span quick 3"])
        done = perf_spans("flamegraph", "quick", "-i", self.data)
        self.check_refusal(done, 1, "no CPU samples: record it with --cpu")

    def test_what_cannot_record_says_what_it_lacks(self):
        copies = self.path("scripts")
        shutil.copytree(os.path.dirname(SCRIPT), copies)
        for folder in (self.folder, copies):
            os.chmod(folder, 0o755)
        script = os.path.join(copies, os.path.basename(SCRIPT))
        done = subprocess.run([script, "record"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              check=False, user=65534, cwd="/")
        self.check_refusal(done, 2, "must be root")
        if not os.path.exists("/sys/kernel/debug/tracing"):
            without = [*harness.own_mounts(), "sh", "-c", 'umount -l %s && exec "$0" "$@"' % TRACEFS]
            done = subprocess.run([*without, SCRIPT, "record", LIBRARY], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, check=False)
            self.check_refusal(done, 2, "tracefs is not mounted: mount -t tracefs")


if __name__ == "__main__":
    harness.run_in_tracefs()
    installed.main("perf", "unshare", "readelf", "objcopy", "setsid")
