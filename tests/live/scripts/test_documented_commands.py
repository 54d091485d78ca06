# SPDX-License-Identifier: Apache-2.0
"""The commands in the documents work as printed.

Commands are the lines of blocks marked ```sh, and inline code that runs a program (INLINE). This file runs them in a
copy of the tree, while nopspan is installed and the example service works. It does not run the commands that another
test runs. They stand in ELSEWHERE, or word for word in ../CMakeLists.txt.
"""

import concurrent.futures
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import example_service
import installed
from example_service import SERVER, Agent, Server
from harness import BUILD, LONG, SOURCE, Bpftrace, Test, wait_until
from otlp_receiver import HttpReceiver, Received

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md", "probes/README.md", "scripts/README.md", "examples/*/README.md")

# How inline code begins if it is a command.
INLINE = re.compile(r"(\S.* \| )?(sudo )?((nopspan|cmake|ctest|bpftrace|pkg-config|perf|stap|systemctl|xargs|scripts/\S+) [^=]|\./)")

# Inline code that names a command without the arguments that it needs.
NAMES = {"nopspan export", "nopspan export --otlp URL", "nopspan export --signals traces", "nopspan export --spool",
         "nopspan export --from unix:PATH", "nopspan record unix:PATH", "nopspan record", "nopspan replay", "nopspan convert",
         "nopspan record --from ONE unix:PATH", "nopspan trace --from unix:PATH",
         "nopspan hist --of", "nopspan hist --of X", "cmake --install", "stap -s MB"}

# Commands that another test runs too.
ELSEWHERE = {
    "./scripts/test.sh": "scripts/test.sh",
    "./scripts/test.sh --long": "scripts/test.sh",
    "python3 tests/support/tiny_gguf.py model.gguf": "live.engine_llama",
    "engine_llama --model model.gguf --slots 8 --requests 40 --spec 3 --ctx 600 --cancel-every 6 --books books":
        "live.engine_llama",
    "nopspan hist --of acceptance": "live.engine_facts",
    "nopspan whatif": "collector.blame",
    "nopspan whatif --from load.rec --set prefill-chunk=128": "collector.blame",
    "cmake --preset dev && cmake --build --preset dev": "scripts/test.sh",
    "ctest --preset dev -L unit": "scripts/test.sh",
    "cmake --build --preset dev --target docs": "hygiene.api_reference",
    "cmake --workflow --preset package": "package.debian",
    "systemctl enable --now nopspan": "package.debian",
    "systemctl edit nopspan": "package.debian",
    "systemctl enable --now nopspan-export nopspan-stream": "package.debian",
    "perf record -e 'sdt_nopspan:*'": "live.perf",
    "nopspan trace --name /order": "live.shop",
    **{command: "live.operating" for command in (
        "nopspan trace --slower-than 1s --limit 1", "nopspan top --by name --interval 10s --count 1",
        "nopspan hist --of ttft --duration 10s",
        "nopspan top --by tenant --name engine.request --sort p99 --interval 10s --count 1",
        "nopspan top --by model,process --name engine.request --interval 10s --count 1",
        "nopspan top --by service.version --name engine.request --interval 10s --count 1",
        "nopspan top --from FILE --by name,service.version --sort name --reverse",
        "nopspan top --by error,name --errors --interval 10s --count 1",
        "nopspan top --by tenant --sort output --interval 10s --count 1")},
    "stap -r VERSION -p4 -m spans scripts/spans.stp": "emulation.spans_stp",
    "staprun spans.ko [-x PID] [only_pid=PID] [only_tenant=TENANT]": "emulation.spans_stp",
    "stap -DMAXTRYLOCK=100000 -DSTP_NO_OVERLOAD scripts/spans.stp": "emulation.spans_stp",
    "cp -r /usr/share/systemtap/runtime stap-runtime": "emulation.spans_stp",
    r"sed -i 's/\btask_work_cancel\b/task_work_cancel_func/' stap-runtime/stp_task_work.c": "emulation.spans_stp",
    r"sed -i 's/buf->offset >= /buf->offset + sizeof(struct _stp_trace) >= /' stap-runtime/transport/relay_v2.c":
        "emulation.spans_stp",
    "stap -R $PWD/stap-runtime scripts/spans.stp": "emulation.spans_stp",
}

# A command that matches the first expression must print the second one. The first row that matches counts. The last
# row requires a span or the model of the service.
PRINTS = (
    (r"examples/hello 3", r"hello, somebody is tracing"),
    (r"hello", r"─ think|`- think"),
    (r"--target format", r"clang-format over the tree"),
    (r"^cmake --install", r"-- Installing: .*/bin/nopspan\n"),
    (r"^(cmake --preset|ldconfig|xargs)", r""),
    (r"^nopspan record", r"\d+ spans, "),
    (r"^nopspan blame", r"\d+ steps, by wall time, median error"),
    (r"^nopspan convert", r"\d requests?, \d+ spans?, \d+ steps? of engines"),
    (r"^nopspan export", r" accepted\n"),
    (r"^nopspan serve", r"\d delivered"),
    (r"^nopspan doctor", r"attach to \S+: works"),
    (r"^nopspan ps", r"\bchat_server\b"),
    (r"^nopspan open --watch", r"requests? in flight"),
    (r"^nopspan open", r""),  # usually no request hangs
    (r"--errors", r"nothing has matched --errors"),  # the service reports none to this load
    (r"--list", r"/libnopspan\.so"),
    (r":gauge ", r"\[example, running\]"),
    (r"^pkg-config", r"-lnopspan"),
    (r"^cmake -S", r"Build files have been written"),
    (r"chat_server --port", r"data: \[DONE\]"),
    (r"shop --port", r"globex pays 810 cents"),
    (r"", r"nopspan-ngram|\b(llm|engine)\.[a-z]"),
)
# Commands that read what other commands wrote.
READS = re.compile(r"replay|convert|--from|xargs")
# Commands that run until Ctrl-C, unless they read a file. Some of them print nothing before Ctrl-C.
ENDLESS = re.compile(r"^nopspan (open --watch|top|blame|hist|trace|record|export|serve)|^bpftrace|^scripts/.*\.bt")
PRINTS_AT_END = re.compile(r"^nopspan (record|blame|hist|export|serve)|^bpftrace (-e .*@|scripts/latency)")

# Options of compilers and binutils.
FOREIGN_OPTIONS = {"--gc-sections", "--keep-section", "--enable-feature"}
SHOP = [os.path.join(BUILD, "examples", "shop", program) for program in ("shop", "warehouse")]
# The commands whose options a document may name. The other documents may name those of all of nopspan's programs.
OPTIONS_OF = {"docs/export.md": ["nopspan export", "nopspan serve"], "docs/open.md": ["nopspan open"], "docs/trace.md": ["nopspan trace"],
              "docs/pictures.md": ["nopspan convert", "nopspan record", "nopspan serve", "nopspan export"],
              "docs/recording.md": ["nopspan record", "nopspan replay"],
              "examples/shop/README.md": SHOP}

# How a command names the dev build, to which the copy of the tree has a link, and how it ends if ninja only plans it.
OF_DEV = re.compile(r"--preset[ =]dev(?!\S)|(?<![\w/])(\./)?build/dev\b")
PLANS = re.compile(r" -- -n\s*$")


def lines_of(block):
    """The commands of a block. A block with a background process is one command."""
    if " &\n" in block:
        return [block + "kill $(jobs -p) && wait"]
    return [re.sub(r"\s+# .*", "", line) for line in block.splitlines()]


def documented():
    """{document: (its commands, its inline code)}"""
    found = {}
    for path in sorted(path for pattern in DOCUMENTS for path in glob.glob(os.path.join(SOURCE, pattern))):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        fence = r"(?ms)^```(\w*)[^\n]*\n(.*?)^```$"
        commands = [line for language, block in re.findall(fence, text) if language == "sh" for line in lines_of(block)]
        inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", re.sub(fence, "", text))]
        commands += [code for code in inline if INLINE.match(code) and code not in NAMES]
        found[os.path.relpath(path, SOURCE)] = ([re.sub(r"\bsudo ", "", command) for command in commands], inline)
    return found


def other_tests():
    """{name of a test: the lines of its command} of this build."""
    listed = subprocess.run(["ctest", "--show-only=json-v1"], cwd=BUILD, stdout=subprocess.PIPE, check=True).stdout
    return {test["name"]: " ".join(test.get("command", [])).splitlines() for test in json.loads(listed)["tests"]}


def may_write_the_build(command):
    parts = re.split(r"&&|\|\||[;|&\n]", command)
    return any(OF_DEV.search(part) and not PLANS.search(part) for part in parts)


class Load(threading.Thread):
    """Agents of the tenant acme. Each request takes more than 2 s, because each answer has 128 tokens. A context
    manager."""

    def __init__(self, url):
        super().__init__()
        self.url, self.rounds, self.stopped = url, 0, False

    def run(self):
        while not self.stopped:
            Agent(self.url, "--ignore-eos", "--organization", "acme", "--concurrency", "2", *example_service.PROMPTS[2:3] * 2)
            Agent(self.url, "--organization", "acme", *example_service.PROMPTS[:1])  # which calls a tool
            self.rounds += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped = True
        self.join()


class Typed(Bpftrace):
    """A command as typed into a shell, and ended by Ctrl-C if it does not end by itself. A context manager: on entry it
    has printed what it must, or has ended."""

    may_lose = True

    def __init__(self, line, folder, load):
        self.line = line
        self.prints = next(expected for pattern, expected in PRINTS if re.search(pattern, line))
        self.is_endless = ENDLESS.search(line) and not READS.search(line)
        self.prints_at_end = PRINTS_AT_END.search(line)
        self.load = load
        super().__init__(["setsid", "env", "--default-signal=INT", "-C", folder, "bash", "-c", line],
                         env={"DESTDIR": os.path.join(folder, "destination")})

    def wait_until_up(self):
        if not self.is_endless:
            self.wait_for(lambda: False, "end")
        elif self.prints_at_end:
            self.wait_for(lambda: re.search("Ctrl-C|Attaching", self.output()), "attach")
            # The current round may have begun before the command attached, so it is not enough.
            rounds = self.load.rounds + 2
            self.wait_for(lambda: self.load.rounds >= rounds, "receive spans")
        else:
            self.wait_for(self.has_printed, "print " + self.prints)

    def wait_for(self, condition, what):
        wait_until(lambda: not self.is_running() or condition(), "%s to %s" % (self.line, what), seen=self.output)

    def stop(self, signal_number=signal.SIGINT):
        """Ctrl-C goes to all processes of a terminal. Bpftrace.stop() has the reason for SIGSTOP."""
        os.killpg(self.pid, signal_number)
        while self.process.poll() is None:
            try:
                self.process.wait(0.5)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGSTOP)
                os.killpg(self.pid, signal.SIGCONT)

    def has_printed(self):
        return re.search(self.prints, self.output())

    def output(self):
        return "\n".join(list(self.lines) + list(self.said))

    def failure(self):
        """None, or what is wrong with the command that has ended."""
        status = self.end()
        if status != 0 or not self.has_printed():
            return "%s: exit status %d\n%s" % (self.line, status, self.output()[-2000:])
        return None


class DocumentedCommands(Test):
    @classmethod
    def setUpClass(cls):
        cls.documents, cls.tests = documented(), other_tests()
        cls.commands = {command for commands, _ in cls.documents.values() for command in commands}

    def copy_of_the_tree(self):
        folder = os.path.join(self.temporary_folder(), "nopspan")
        shutil.copytree(SOURCE, folder, ignore=lambda path, names: {"build", ".git"} & set(names) if path == SOURCE else ())
        os.mkdir(os.path.join(folder, "build"))
        os.symlink(BUILD, os.path.join(folder, "build", "dev"))
        return folder

    def stand_ins(self, pid, receiver):
        """What stands for the placeholders in the commands."""
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
            ports = [str(server.getsockname()[1]) for server in servers]
        return {"4242": str(pid), "[PID]": str(pid), "./build/server": SERVER, "=PREFIX": "=/usr/local",
                "localhost:4318": "127.0.0.1:%d" % receiver.port, "--serve 127.0.0.1:9464": "--serve 127.0.0.1:0", "8080": ports[0], "9000": ports[1], "9001": ports[2],
                "/var/lib/nopspan/20260102T030405Z.rec": "FILE", "--install build/release": "--install " + BUILD,
                "build/release/examples": os.path.join(BUILD, "examples"),
                # clang-tidy takes minutes, and other versions of clang-format format differently. So ninja only plans them.
                "--build --preset tidy": "--build --preset tidy -- -n",
                "--build --preset dev --target format": "--build --preset dev --target format -- -n"}

    def run_all(self, commands, folder, load, stand_ins):
        def failure(command):
            for placeholder, value in stand_ins.items():
                command = command.replace(placeholder, value)
            if may_write_the_build(command):
                return "%s: it would write into %s" % (command, BUILD)
            typed = Typed(command, folder, load)
            try:
                with typed:
                    pass
                return typed.failure()
            except AssertionError as error:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(typed.pid, signal.SIGKILL)
                return str(error)

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            failures = list(filter(None, pool.map(failure, commands)))
        if failures:
            self.fail("\n\n".join(failures))

    def test_commands_work_as_printed(self):
        commands = sorted(self.commands - set(ELSEWHERE) - {line for lines in self.tests.values() for line in lines})
        self.assertGreater(len(commands), 20)
        if not LONG:  # configuring a second build takes as long as all other commands need to start
            commands = [command for command in commands if "--preset tidy" not in command]
        folder = self.copy_of_the_tree()
        with Server(folder, "--token-delay-us", "20000") as server, Load(server.url) as load, HttpReceiver(Received()) as receiver:
            stand_ins = self.stand_ins(server.pid, receiver)
            self.run_all([command for command in commands if not READS.search(command)], folder, load, stand_ins)
            for copy in ("FILE.1", "FILE.2", "a.rec", "b.rec"):
                shutil.copy(os.path.join(folder, "FILE"), os.path.join(folder, copy))
            os.mkdir(os.path.join(folder, "DIR"))
            copies = [path for path in glob.glob(os.path.join(folder, "destination", "**"), recursive=True) if os.path.isfile(path)]
            os.makedirs(os.path.join(folder, "build", "release"), exist_ok=True)
            with open(os.path.join(folder, "build", "release", "install_manifest.txt"), "w", encoding="utf-8") as file:
                file.write("\n".join(copies))
            self.run_all([command for command in commands if READS.search(command)], folder, load, stand_ins)
            self.assertEqual([path for path in copies if os.path.exists(path)], [], "the uninstallation leaves files")

    def test_a_command_that_would_write_into_the_dev_build_is_refused(self):
        for command in ("cmake --preset dev", "cmake --build --preset dev --target format", "ninja -C build/dev", "rm -r ./build/dev",
                        "cmake --preset dev && cmake --build --preset dev -- -n"):
            self.assertTrue(may_write_the_build(command), command)
        for command in ("cmake --build --preset dev -- -n", "cmake --preset tidy && cmake --build --preset tidy -- -n",
                        "cmake --install " + BUILD):
            self.assertFalse(may_write_the_build(command), command)

    def test_the_other_tests_exist(self):
        self.assertEqual(set(ELSEWHERE) - self.commands, set(), "no document has these commands")
        self.assertEqual(set(ELSEWHERE.values()) - set(self.tests), {"scripts/test.sh"}, "there are no such tests")

    def test_the_presets_exist(self):
        with open(os.path.join(SOURCE, "CMakePresets.json"), encoding="utf-8") as file:
            presets = {preset["name"] for preset in json.load(file)["configurePresets"]}
        self.assertEqual(set(re.findall(r"--preset (\S+)", " ".join(self.commands))) - presets, set())

    def test_the_options_exist(self):
        nopspan = ["nopspan " + command for command in ("ps", "open", "top", "blame", "whatif", "hist", "trace", "record", "replay", "convert", "export", "serve", "doctor")]
        others = [SERVER, example_service.AGENT, *SHOP, *(os.path.join(SOURCE, "scripts", name) for name in ("attach.sh", "perf-spans.sh", "test.sh"))]
        options = {program: set(re.findall(r"--[a-z][a-z-]*", subprocess.run(
            [*program.split(), "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout)) for program in nopspan + others}
        for path, (_, inline) in self.documents.items():
            named = {match[1] for code in inline if (match := re.fullmatch(r"(--[a-z][a-z-]*)(?:[ =][^ ]+)?", code))}
            known = set().union(*(options[program] for program in OPTIONS_OF.get(path, nopspan + others)))
            self.assertEqual(named - FOREIGN_OPTIONS - known, set(), path)


if __name__ == "__main__":
    example_service.need()
    installed.main("ctest", "cmake", "pkg-config", "zstd", "curl", "setsid")
