#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Uses the page that `nopspan convert --to html` writes in a real browser, by mouse and by keyboard.

By hand: NOPSPAN_PROGRAM=build/dev/nopspan NOPSPAN_LINES=build/dev/tests/collector/record_lines \
    NOPSPAN_RANDOM=build/dev/tests/collector/record_examples NOPSPAN_EXAMPLE=build/dev/examples/chat_service python3 tests/collector/page_test.py -v
"""
import base64
import contextlib
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock
import urllib.request
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent.parent / "support"
sys.path.insert(0, str(SUPPORT))
import perfetto_file  # noqa: E402  pylint: disable=wrong-import-position
import ability  # noqa: E402  pylint: disable=wrong-import-position
from lines import BEGIN, PROGRAM, event, gauge, recording, requests_of, run, span, step  # noqa: E402  pylint: disable=wrong-import-position
from waiting import wait_until  # noqa: E402  pylint: disable=wrong-import-position

try:
    from browser import chrome
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    ability.unable("no python3-selenium")

SOURCE = SUPPORT.parent.parent
EXAMPLE = Path(os.environ["NOPSPAN_EXAMPLE"])
RANDOM = os.path.abspath(os.environ["NOPSPAN_RANDOM"])
WRITE = os.environ.get("NOPSPAN_WRITE_EXAMPLES") == "1"
REMOTE_PARENT = 2  # NOPSPAN_FLAG_REMOTE_PARENT
LONG = os.environ.get("NOPSPAN_LONG", "0") == "1"
HOSTILE = "</script><script>hit=1</script><img src=x onerror=hit=1> \u202egnirts javascript:hit=1"


def service():
    """Twelve requests, of which one failed, and an engine that served three of them."""
    for number in range(9):
        request = span("chat", 10 * number, 10 * number + 5 + number, tenant=f"tenant-{number % 3}", model="small" if number % 2 else "large",
                       status=int(number == 4), error_type="timeout" if number == 4 else "", attributes={"user.plan": "free" if number < 3 else "paid"})
        tool = span("tool", 10 * number + 1, 10 * number + 3, request, attributes={"gen_ai.input.messages": "secret " * 99, "rows": number, "large": 2**53 + 1})
        yield from (tool, event("cache.miss", 10 * number + 2, tool), request)
    served = [span("generate", 1000 * number, 1000 * number + 800, tenant="acme") for number in range(3)]
    for number in range(30):
        at, own = 100 * number, served[number // 10]
        if number % 10 < 8 and number % 10 != 4:
            yield step(number, at, at + 90, own, prefill=50 * (number % 10 == 0))
        else:
            yield step(number, at, at + 90, prefill=500)
        yield gauge("running", at, number % 5, engine="vllm")
    yield from served
    yield span(HOSTILE, 50, 60, tenant=HOSTILE, attributes={HOSTILE: HOSTILE})


class Browsing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="nopspan-page-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.browser = chrome("--window-size=1400,900")
        cls.addClassCleanup(cls.browser.quit)
        cls.path = recording(cls.folder / "service.rec", *service())

    def tearDown(self):
        expected = "Content Security Policy|/live.*ERR_(INCOMPLETE_CHUNKED_ENCODING|CONNECTION_REFUSED)"
        errors = [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE" and not re.search(expected, entry["message"])]
        self.assertEqual(errors, [])

    def open(self, page, view=""):
        self.browser.get("about:blank")
        self.browser.get(f"{page}{view}" if str(page).startswith("http") else f"file://{page}{view}")
        wait_until(lambda: self.script("return document.documentElement.dataset.ready && !(isLive && live.head === undefined)"), "the page is ready",
                   seen=lambda: self.text("main"))
        self.settle()

    def script(self, code, *arguments):
        return self.browser.execute_script(code, *arguments)

    def settle(self):
        self.browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)))")

    def picture(self, name):
        if WRITE:
            self.browser.save_screenshot(str(SOURCE / "docs" / "pictures" / f"{name}.png"))

    def text(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector).text

    def rows(self):
        """The cells of the visible rows of the table."""
        return self.script("return [...document.querySelectorAll('.scroll tbody tr:not([aria-hidden])')].map(row => [...row.children].map(cell => cell.textContent))")

    def press(self, *keys):
        ActionChains(self.browser).send_keys(*keys).perform()
        self.settle()

    @contextlib.contextmanager
    def example_server(self, *words, step_us=1000):
        """The example server, and the command of its agent."""
        port = self.folder / "port"
        port.unlink(missing_ok=True)
        with subprocess.Popen([EXAMPLE / "chat_server", "--port-file", port, "--token-delay-us", str(step_us), "--fail-rate", "0.05", "--seed", "7", "--prefill-tokens", "64", *words],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                url = "http://127.0.0.1:" + wait_until(lambda: port.exists() and port.read_text(encoding="utf-8").strip(), "the server listens")
                yield process, [EXAMPLE / "agent", "--base-url", url, "--search-root", SOURCE / "docs", "--max-attempts", "12", "--seed", "3"]
            finally:
                process.terminate()

    @contextlib.contextmanager
    def load(self, ask, *words):
        """Ten agents of acme at a time, while prompts of globex take many steps of the engine."""
        with subprocess.Popen([*ask, "--requests", "150", "--concurrency", "10", "--organization", "acme", *words], stdout=subprocess.DEVNULL) as many:
            with subprocess.Popen([*ask, "--organization", "globex", "giant prompt " * 3000], stdout=subprocess.DEVNULL) as giant:
                yield
            subprocess.run([*ask, "--organization", "globex", "giant prompt " * 3000], stdout=subprocess.DEVNULL, check=True)
        self.assertEqual((giant.returncode, many.returncode), (0, 0))

    def filter(self, text):
        field = self.browser.find_element(By.ID, "filter")
        field.clear()
        field.send_keys(text, Keys.ESCAPE)
        self.settle()
        return self.text("#found")


class Page(Browsing):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.page = cls.converted(cls.path)

    @classmethod
    def converted(cls, *words):
        page = words[0].with_suffix(".html")
        done = run("convert", *words, "--to", "html", "-o", page, "--force")
        assert done.returncode == 0, done.stderr
        return page

    def test_the_table_has_what_trace_prints(self):
        self.open(self.page)
        wanted = requests_of(self.path)
        self.assertEqual(self.text("#found"), "13 requests")
        found = {row[-1]: row for row in self.rows()}
        self.assertEqual(set(found), {one["request_id"] for one in wanted})
        for one in wanted:
            row, root = found[one["request_id"]], one["spans"][0]
            points = sum(len(each.get("events", ())) for each in one["spans"])
            self.assertEqual((row[5], row[6]), (str(one["span_count"] + points), str(one["error_count"])))
            if root["name"] != HOSTILE:
                self.assertEqual((row[2], row[3], row[4]), (root["name"], root.get("tenant", ""), root.get("model", "")))

    def test_it_is_sorted_and_filtered(self):
        self.open(self.page)
        self.assertEqual(self.rows()[0][2], "generate", "the slowest")
        self.browser.find_elements(By.CSS_SELECTOR, "th button")[0].click()
        self.settle()
        starts = [row[0] for row in self.rows()]
        self.assertEqual(starts, sorted(starts, reverse=True))
        for text, count in (("name:chat", 9), ("tenant:tenant-1", 3), ("model:small chat", 4), ("error", 1), ("slower:700us", 3), ("user.plan=free", 3), ("large=9007199254740993", 9), ("large=9007199254740992", 0),
                            ("chat faster:6us", 2), ("nothing", 0)):
            self.filter(text)
            wait_until(lambda wanted=f"{count} of 13 requests": self.text("#found") == wanted, text, seen=lambda: self.text("#found"))
        self.assertIn("slower:soon is not understood", self.filter("slower:soon"))
        self.assertIn("There is no filter user:. There are name:", self.filter("user:1"))
        self.assertEqual(self.script("return document.getElementById('filter').value"), "user:1", "Esc keeps what is typed")

    def test_times_of_day_are_those_of_the_recording_or_near_it(self):
        self.open(self.page)
        begin = datetime.datetime.fromtimestamp(BEGIN // 10**9)

        def count(word, minutes):
            return self.filter(f"{word}:{begin + datetime.timedelta(minutes=minutes):%H:%M:%S}").split()[0]
        self.assertEqual([count("after", -5), count("before", -5), count("after", 5), count("before", 5)], ["13", "0", "0", "13"])
        self.assertIn("not understood", self.filter("after:25:00"))
        self.assertEqual(self.filter("slower:0.0000005").split()[0], self.filter("slower:500ns").split()[0])

    def test_a_call_counts_once_and_any_process_matches(self):
        """A client in one process, and the server that it called in another one. Both report the tokens of the call."""
        client = span("chat", 0, 100, usage=(10, 20))
        server = {**span("serve", 10, 90, client, usage=(10, 20), status=1, error_type="overloaded"), "pid": 222, "resource": "service.version=1.1,color=red"}
        page = self.converted(recording(self.folder / "call.rec", client, server))
        self.open(page)
        row, = self.rows()
        self.assertEqual(row[7:9], ["10", "20"])
        for word, count in (("version:1.1", "1"), ("color=red", "1"), ("color=blue", "0"), ("version:1.2", "0")):
            self.assertEqual(self.filter(word).split()[0], count, word)

    def test_a_request_shows_its_spans_and_their_attributes(self):
        self.open(self.page, "#requests?filter=name:chat&sort=start")
        self.press(Keys.ARROW_DOWN, Keys.ENTER)
        wait_until(lambda: "Self time" in self.text("aside"), "the details are read")
        self.assertIn("chat", self.text("h1"))
        self.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
        self.assertIn("rows\n1", self.text("aside"))
        self.assertIn("large\n9007199254740993", self.text("aside"))
        self.assertNotIn("secret", self.text("aside"), "content needs a second click")
        self.browser.find_element(By.CSS_SELECTOR, "aside dd button").click()
        self.assertIn("secret secret", self.text("aside"))
        link = self.browser.current_url
        wait_until(lambda: "span=1" in self.browser.current_url, "the link has the span")
        self.open(self.page, "#" + self.browser.current_url.split("#")[1])
        wait_until(lambda: "rows\n1" in self.text("aside"), "the link shows the same", seen=lambda: link)

    def test_the_way_back_leads_to_the_same_row(self):
        self.open(self.page, "#requests?sort=start")
        self.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
        wait_until(lambda: "Self time" in self.text("aside"), "the details are read")
        self.press(Keys.ESCAPE)
        wait_until(lambda: self.rows(), "the table is shown")
        self.assertEqual(self.script("return document.querySelector('tr.picked').getAttribute('aria-rowindex')"), "4")

    def test_the_parts_of_a_request_are_one_tree(self):
        root, root_too = (span(name, 0, 900) for name in ("front", "other"))
        part = span("server", 100, 800, root, flags=REMOTE_PARENT)
        here = recording(self.folder / "front.rec", root, root_too)
        there = recording(self.folder / "back.rec", span("inner", 200, 300, part), part)
        self.open(self.converted(here, there, "--incomplete"), "#requests?filter=front")
        self.press(Keys.ENTER)
        wait_until(lambda: "Self time" in self.text("aside"), "the details are read")
        own = dict(re.findall(r"(?m)^(\w+) ([\d.]+ µs)", self.text("aside")))
        self.assertEqual(own, {"front": "200 µs", "server": "600 µs", "inner": "100 µs"})

    def test_an_engine_shows_its_steps_and_who_made_a_gap(self):
        self.open(self.page, "#engine")
        self.press(Keys.ARROW_RIGHT)
        self.assertIn("Step 0", self.text("aside"))
        self.assertIn("prefill_tokens\n50", self.text("aside"))
        lanes = self.browser.find_element(By.CSS_SELECTOR, ".tall canvas")
        # Step 4 of the first request, which lasts from 0 to 0.8 of 2.99 ms, did not have it.
        box = lanes.size
        ActionChains(self.browser).move_to_element_with_offset(lanes, int(445 / 2990 * box["width"] - box["width"] / 2), int(27 - box["height"] / 2)).click().perform()
        self.settle()
        self.assertIn("was in no step", self.text("aside"))
        self.assertIn("step 4, 500 prefill tokens", self.text("aside"))

    def test_two_halves_are_compared(self):
        self.open(self.page, "#compare?a=tenant:tenant-0&b=tenant:tenant-1")
        row, = self.rows()
        self.assertEqual(row[:3] + row[7:9], ["chat", "3", "3", "0", "1"])

    def test_hostile_texts_do_nothing(self):
        self.open(self.page, "#requests?filter=script")
        self.assertEqual(self.text("#found"), "1 of 13 requests")
        self.assertIn("\\u202egnirts", self.rows()[0][2])
        self.press(Keys.ENTER)
        wait_until(lambda: "Self time" in self.text("aside"), "the details are read")
        self.press(Keys.ARROW_DOWN)
        self.assertIn("onerror", self.text("aside"))
        self.assertEqual(self.script("return [typeof hit, document.images.length]"), ["undefined", 0])
        self.script("const node = document.createElement('script'); node.textContent = 'hit = 2'; document.body.append(node)")
        self.assertEqual(self.script("return typeof hit"), "undefined", "the policy refuses what is added")
        self.assertTrue([entry for entry in self.browser.get_log("browser") if "Content Security Policy" in entry["message"]])

    def test_a_recording_that_is_cut_is_said(self):
        cut = self.folder / "cut.rec"
        cut.write_bytes(self.path.read_bytes()[:-70])
        self.open(self.converted(cut))
        self.assertIn("cut.rec", self.text("#remark"))
        slow = self.folder / "slow.rec"
        slow.write_bytes(self.path.read_bytes())
        self.open(self.converted(slow, "--slowest", "2"))
        self.assertEqual((self.text("#found"), self.text("#remark")), ("2 requests", "Only the 2 slowest requests"))

    def open_lines(self, name, *lines, view="", options=()):
        self.open(self.converted(recording(self.folder / (name + ".rec"), *lines), *options), view)

    def test_a_late_part_that_has_events_alone(self):
        request = span("request", 0, 1000)
        self.open_lines("late", request, {"tick": BEGIN + 5_000_000_000}, event("note", 500, request), span("other", 0, 5))
        self.assertEqual(self.text("#found"), "2 requests, 1 late part")
        self.assertEqual(self.script("return [data.last_ns - data.first_ns, data.names[data.request_name[data.request_end.indexOf(1)]]]"), [1_000_000, "note"])

    def test_times_that_are_far_apart_can_be_zoomed(self):
        self.open_lines("far", span("old", -365 * 86400 * 1_000_000, 0), span("new", 0, 5))
        for _ in range(120):
            self.press("w")
        self.assertEqual(len(self.rows()), 2)

    def test_each_request_of_a_random_recording_is_found_by_its_id(self):
        path = self.folder / "random.rec"
        subprocess.run([RANDOM, path, "3000"], check=True)
        self.open(self.converted(path, "--incomplete"))
        self.assertEqual(self.script("return Array.from({ length: data.count }, (_, i) => i).filter((i) => !partsOf(requestId(i)).includes(i)).map(requestId)"), [])

    def test_steps_of_two_processes_may_have_the_same_id(self):
        requests = [span("r", 0, 900, pid=pid) for pid in (12, 13)]
        steps = [step(number, 100, 200, one, id=77, pid=one["pid"]) for number, one in enumerate(requests, 1)]
        self.open_lines("steps", *steps, *requests)
        self.assertEqual(self.script("return [...data.step_number].sort().concat([...data.member_first])"), [1, 2, 0, 1, 2])

    def test_gauges_with_other_labels_are_others(self):
        self.open_lines("gauges", *(gauge("waiting", 10 * number + k, 5, engine="vllm", attributes={"reason": reason})
                                    for number in range(3) for k, reason in enumerate(("slots", "memory"))), span("r", 0, 90))
        self.assertEqual(self.script("return data.gauges.map((one) => one.attributes.reason)"), ["slots", "memory"])

    def test_very_many_engines_and_a_long_resource(self):
        resource = ",".join(f"key{number}={'x' * 90}" for number in range(100))
        self.open_lines("engines", *(step(number, number, number + 1, instance=number) for number in range(1200)),
                        span("r", 0, 90, resource="service.name=svc," + resource, pid=333), view="#engine")
        self.assertEqual(self.script("return [data.engines.length, document.querySelectorAll('option').length]"), [1200, 1000])
        self.assertEqual(self.filter("service:svc"), "")
        self.press("1")
        self.assertEqual(self.text("#found"), "1 request")

    def test_files_are_told_apart_by_the_whole_name(self):
        one, two = (recording(self.folder / name, span("r", 0, end)) for name, end in (("1.rec", 10), ("a 1.rec", 20)))
        self.open(self.converted(one, two), "#compare")
        row, = self.rows()
        self.assertEqual(row[1:5], ["1", "1", "10.0 µs", "20.0 µs"])

    def test_what_memory_leaves_out_is_said(self):
        requests = [span("r", number, number + 50) for number in range(100)]
        self.open_lines("full", *(step(number, 10, 20, one) for number, one in enumerate(requests, 1)), *requests, options=("--memory", "4K", "--incomplete"))
        self.assertIn("Some requests are beyond --memory, and not in the view Engine", self.text("#remark"))
        roots = [span("r", number, number + 500) for number in range(300)]
        self.open_lines("evicted", *(span("i", 10, 20, root) for root in roots), *roots, options=("--memory", "4K", "--incomplete"))
        self.assertRegex(self.text("#remark"), r"\d+ requests evicted before the end, because --memory was full")
        self.open_lines("labels", *(gauge("g", number, 1, attributes={"label": str(number) + "x" * 30_000}) for number in range(3)), span("r", 0, 1))
        self.assertIn("Some gauges are too many or too long", self.text("#remark"))

    def test_addresses_that_nobody_made(self):
        for view in ("#constructor", "#requests?color=constructor", "#requests?__proto__=1", "#engine?step=1.5&engine=99", "#request?request=nothing&span=9"):
            self.open(self.page, view)
            self.assertNotIn("cannot be shown", self.text("main"), view)
        self.open(self.page)
        self.assertIn("There is no filter constructor:", self.filter("constructor:x"))
        self.filter("name:chat")
        self.browser.find_element(By.LINK_TEXT, "Compare").click()
        self.settle()
        self.assertEqual([row[0] for row in self.rows()], ["chat"], "the filter stays")

    def under_load(self):
        """Recordings of the example server and its agent."""
        server, agent = self.folder / "load.rec", self.folder / "agent.rec"
        with self.example_server("--record", server, "--prompt-delay-us", "20") as (_, ask), self.load(ask, "--record", agent):
            pass
        return server, agent

    def test_each_view_in_both_schemes_and_at_both_widths(self):
        """With NOPSPAN_WRITE_EXAMPLES=1 it writes the pictures of docs/pictures.md."""
        server, agent = self.under_load()
        page = self.converted(server, agent)
        slowest = max(requests_of(agent), key=lambda one: one["duration_ns"])["request_id"]
        for scheme, width in (("light", 1024), ("light", 1400), ("dark", 2560)):
            self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
            self.browser.set_window_size(width, 900)
            for view in ("requests?color=tenant", f"request?request={slowest}", "engine", "compare?a=tenant:acme&b=tenant:globex"):
                self.open(page, "#" + view)
                wait_until(lambda: "Reading" not in self.text("body"), "all is read")
                self.settle()
                self.assertEqual(self.script("return document.documentElement.scrollWidth"), self.script("return innerWidth"), (view, width))
                if width == 1400:
                    self.picture(view.split("?")[0])
        self.open(page, "#engine")
        worst = max(json.loads(run("blame", "--from", server, "--json").stdout.splitlines()[-1])["stalls"], key=lambda one: one["ns"])
        self.assertRegex(self.text("aside"), rf"Time lost to others\nstalled by lost share requests\n{worst['victim']} {worst['by']} .* \d+ % {worst['requests']}\n")

    def test_many_spans(self):
        """Prints how long it takes. The limits are far above that."""
        spans = 1_000_000 if LONG else 100_000

        def many():
            for number in range(spans // 10):
                request = span("request", number, number + 500 + number % 777, tenant=f"t{number % 50}")
                yield from (span("work", number + k, number + k + 40, request, attributes={"a": k, "b": "text", "c": number, "d": 0.5}) for k in range(9))
                yield request
        page = self.converted(recording(self.folder / "many.rec", *many()), "--memory", "1G")
        self.open(page)
        ready = float(self.script("return document.documentElement.dataset.ready"))
        self.script("""window.frames_ = []; let last = performance.now();
            const frame = (now) => { frames_.push(now - last); last = now; requestAnimationFrame(frame); }; requestAnimationFrame(frame);""")
        worst = {}
        for name, keys in (("zoom", "wwwwssss"), ("scroll", Keys.PAGE_DOWN * 8), ("type", "/tenant:t4")):
            self.script("frames_.length = 0")
            for key in keys:
                self.press(key)
            worst[name] = max(self.script("return frames_"))
        print(f"{spans} spans: {page.stat().st_size / 1e6:.1f} MB, ready after {ready:.0f} ms, worst frame {worst}", file=sys.stderr)
        self.assertEqual(self.text("#found").split()[0], f"{spans // 10 // 50 * 11:,}")
        self.assertLess(ready, 40_000)
        self.assertLess(max(worst.values()), 2_000)


class Live(Browsing):
    """The page of nopspan serve."""

    @contextlib.contextmanager
    def serve(self, address, *words):
        with subprocess.Popen([PROGRAM, "serve", address, *map(str, words)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as serve:
            try:
                said = ""
                while "token=" not in said:
                    said = serve.stderr.readline()
                    self.assertTrue(said, "nopspan serve has ended")
                self.address = re.search(r"http://\S+", said)[0]
                yield self.address.split("?")[0]  # root and the same user need no token
            finally:
                serve.send_signal(signal.SIGINT)
                serve.communicate(timeout=60)

    def emit(self, socket, *names):
        """Programs connect to the socket, and emit these spans now."""
        with unittest.mock.patch("lines.BEGIN", time.time_ns()):
            run("record", f"unix:{socket}", "--from", recording(self.folder / f"{names[0]}.rec", *(span(name, 0, 100) for name in names)))

    def wait_for_rows(self, count):
        text = f"{count} request{'s' * (count != 1)}"
        wait_until(lambda: self.text("#found") == text, text, seen=lambda: (self.text("#found"), self.text("#remark")))

    def test_it_shows_what_a_page_of_the_recording_shows(self):
        with self.serve("127.0.0.1:0", "--from", self.path) as url:
            self.open(url, "#requests")
            self.wait_for_rows(13)
            # Nothing more arrives after requests that arrived too soon after others to be shown at once.
            self.script("orders.clear(); searched.clear(); use([], live.head); show(); shownRequests = 0; quietUntil = performance.now() + 500; followed()")
            self.wait_for_rows(13)
            self.assertEqual({row[-1] for row in self.rows()}, {one["request_id"] for one in requests_of(self.path)})
            self.filter("name:generate")
            self.press(Keys.ENTER)
            wait_until(lambda: "Steps of engines" in self.text("aside"), "the details are read")
            self.press("1")  # the filter is still there
            wait_until(lambda: [row[0] for row in self.rows()] == ["generate"], "the rates of a name", seen=self.rows)
            self.filter("slower:1s")  # rates have no such thing
            done = run("top", "--from", self.path, "--json")
            top = json.loads(done.stdout.splitlines()[-1])
            self.assertIn("%s requests/s" % round(top["window"]["requests_per_s"]), self.text("main"))
            rates = sorted([self.script("return visible(arguments[0])", row[key]) for key in ("name", "model")]
                           + [self.script("return durationText(arguments[0])", row["window"][f"duration_{of}_ns"]) for of in ("p50", "p99")]
                           for row in top["rows"])
            wait_until(lambda: sorted(row[:2] + row[4:6] for row in self.rows()) == rates, "the rates of top", seen=self.rows)
            self.press("4")
            self.assertEqual(len(self.script("return [...document.querySelectorAll('canvas')].map(one => one.ariaLabel)")), 5)

    def test_it_follows_and_survives_restarts(self):
        socket = self.folder / "socket"

        def emit(*names):
            self.emit(socket, *names)

        with self.serve("127.0.0.1:0", "--from", f"unix:{socket}") as url:
            emit("before")  # no page is open
            self.open(url, "#requests")
            emit("first", "second")
            self.wait_for_rows(2)
            self.browser.find_element(By.CSS_SELECTOR, ".scroll").click()  # who is busy there is not disturbed
            emit("third")
            wait_until(lambda: self.text("#news") == "1 new request", "what is new is counted", seen=lambda: self.text("#news"))
            self.assertEqual(self.text("#found"), "2 requests")
            self.press("r")
            self.wait_for_rows(3)
            self.open(url, "#requests")
            self.wait_for_rows(3)
            began = self.script("return live.head.begin_unix_ns")
        wait_until(lambda: "nopspan serve" in self.text("#remark"), "the end is said")
        self.assertEqual(self.text("#found"), "3 requests")
        with self.serve(url.split("/")[2], "--from", f"unix:{socket}"):
            wait_until(lambda: self.script("return live.head?.begin_unix_ns ?? ''") > began, "the page follows the new one")
            emit("fourth")
            self.wait_for_rows(1)
            self.assertEqual(self.rows()[0][2], "fourth")

    def test_behind_a_proxy_it_needs_the_token(self):
        def pass_on(headers):
            self.browser.execute_cdp_cmd("Network.enable", {})
            self.browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": headers})

        socket = self.folder / "proxied"
        self.addCleanup(self.browser.delete_all_cookies)
        self.addCleanup(pass_on, {})
        pass_on({"X-Forwarded-For": "10.0.0.7"})
        with self.serve("127.0.0.1:0", "--from", f"unix:{socket}") as url:
            self.browser.get(url)
            self.assertIn("needs a token, because a proxy has forwarded the request", self.text("body"))
            self.open(self.address, "#requests")
            self.emit(socket, "passed on")
            self.wait_for_rows(1)
            self.assertEqual(self.script("return [location.href.split('#')[0], document.cookie]"), [url, ""])
            self.assertEqual([(one["httpOnly"], one["sameSite"]) for one in self.browser.get_cookies()], [(True, "Strict")])
        with self.serve(url.split("/")[2], "--from", f"unix:{socket}"):
            wait_until(lambda: "needs a token" in self.text("#remark"), "the token of the other server is refused", seen=lambda: self.text("#remark"))
            self.open(self.address, "#requests")
        for entry in self.browser.get_log("browser"):
            self.assertRegex(entry["message"], "403|/favicon.ico|/live.*ERR_")

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_it_shows_what_the_example_server_does(self):
        with self.example_server(step_us=10_000) as (process, ask), self.serve("127.0.0.1:0", "--pid", process.pid) as url:
            self.open(url)
            with self.load(ask):
                # The table of rates is the first one, that of requests in flight the second one.
                in_flight = "return [...document.querySelectorAll('.scroll')].at(-1).textContent"
                wait_until(lambda: "globex" in self.script(in_flight) and "acme" in self.script(in_flight), "both tenants to be in flight",
                           seen=lambda: self.text("main"))
                wait_until(lambda: "engine.step" in self.text("main"), "the rates", seen=lambda: self.text("main"))
                self.picture("live")

    def test_a_hidden_tab_does_not_keep_a_connection(self):
        socket = self.folder / "hidden"
        hide = "Object.defineProperty(document, 'hidden', { value: arguments[0], configurable: true }); document.dispatchEvent(new Event('visibilitychange'));"
        with self.serve("127.0.0.1:0", "--from", f"unix:{socket}") as url:
            self.open(url, "#requests")
            self.script(hide, True)
            self.emit(socket, "meanwhile")
            time.sleep(3)
            self.assertEqual((self.text("#found"), self.text("#remark")), ("0 requests", ""))
            self.script(hide, False)
            self.wait_for_rows(1)

    def test_a_recording_for_perfetto_is_of_now(self):
        with self.serve("127.0.0.1:0", "--from", f"unix:{self.folder}/now") as url:
            def capture(query=""):
                return self.enterContext(urllib.request.urlopen(f"{url}capture{query}", timeout=60))
            session = capture().readlines()[0].split()[2].decode()
            capture(f"?session={session}&next=99999999999")  # it never gets a line
            self.assertNotEqual(capture().readline().split()[2].decode(), session)

    def test_it_gives_perfetto_what_it_recorded(self):
        socket = self.folder / "capture"
        with self.serve("127.0.0.1:0", "--from", f"unix:{socket}") as url:
            self.open(url + "perfetto")
            self.script("""window.open = () => ({ postMessage: (message) => {
                if (message === "PING") dispatchEvent(new MessageEvent("message", { origin: "https://ui.perfetto.dev", data: "PONG" }));
                else window.got = String.fromCharCode(...new Uint8Array(message.perfetto.buffer)); } })""")
            self.browser.find_element(By.CSS_SELECTOR, ".legend button").click()
            wait_until(lambda: "bytes" in self.text("[role=status]"), "the begin of the file", seen=lambda: self.text("[role=status]"))
            self.emit(socket, "chat")
            wait_until(lambda: self.script("return window.got !== undefined"), "the file", seen=lambda: self.text("[role=status]"))
            trace = perfetto_file.Importer().read(base64.b64decode(self.script("return btoa(window.got)")))
        self.assertEqual((dict(trace.errors), [one.name for one in trace.slices]), ({}, ["chat"]))


if __name__ == "__main__":
    unittest.main()
