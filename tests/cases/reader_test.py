#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests the reader itself: a case with a changed expectation must fail, and no part of a case may be skipped.

usage: reader_test.py READER CASES_FOLDER
"""
import copy
import json
import os
import re
import subprocess
import sys
import tempfile

READER, CASES = sys.argv[1:3]
FILE = "telemetry_registry.json"

# Comments, and facts about the trace that a case may omit without testing nopspan less strictly.
COMMENTS = {"given", "note"}
NOT_EXACT = {"telemetry_span_context"}


def run(files):
    """Runs the reader on a folder of {name: text}. Returns (exit code, output)."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
                out.write(text)
        return run_folder(folder)


def run_folder(folder):
    done = subprocess.run([READER], env={**os.environ, "NOPSPAN_CASES_DIR": folder}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def run_cases(cases, file=FILE):
    """Runs a list of cases. Returns (exit code, {number of a failed case: its messages})."""
    code, output = run({file: json.dumps(cases)})
    failed = {}
    for number, message in re.findall(rf"^FAILED {re.escape(file)} case (\d+): (.*)$", output, re.M):
        failed.setdefault(int(number), []).append(message)
    counts = re.search(rf"^{re.escape(file)}: (\d+) passed, (\d+) failed$", output, re.M)
    assert counts, output
    assert int(counts[2]) == len(failed) and int(counts[1]) + int(counts[2]) == len(cases), output
    return code, failed


def matcher_mutants(matcher):
    """Matchers that refuse the values that `matcher` accepts."""
    if "$type" in matcher:
        yield {"$type": "string"}
    if "$list" in matcher:
        yield {"$type": "string"}
        yield {"$list": "int", "$type": "map"}
    if "$ge" in matcher:
        yield {**matcher, "$ge": 10**18}
    if "$expr" in matcher:
        yield {**matcher, "$expr": matcher["$expr"] + " + 1"}
    if "$same" in matcher:
        yield {"$differs": matcher["$same"]}
        yield {"$not": {"$same": matcher["$same"]}}
    if "$bind" in matcher:
        yield {**matcher, "$not": {"$any": True}}


def mutants(value, key=None):
    """Changed copies of `value`, each different in one place."""
    if isinstance(value, dict) and any(k.startswith("$") for k in value):
        yield from matcher_mutants(value)
    elif isinstance(value, dict):
        for k in value:
            if k in COMMENTS:
                continue
            for other in mutants(value[k], k):
                yield {**value, k: other}
        if key in ("metadata", "measurements"):
            yield {**value, "not_there": 1}
            for k in value:
                bound = isinstance(value[k], dict) and "$bind" in value[k]  # another item uses the capture
                if k not in NOT_EXACT and not bound:
                    yield {other: v for other, v in value.items() if other != k}
    elif isinstance(value, list):
        for i, item in enumerate(value):
            for other in mutants(item):
                if isinstance(other, str) or not isinstance(item, str):  # names and mentions are strings
                    yield value[:i] + [other] + value[i + 1:]
        if key in ("event", "event_name"):
            yield value + ["x"]
        elif key == "handler_config":
            yield value + [1]
        elif key == "mentions":
            yield value + ["not in the log"]
        else:
            # One item less or one more. Not an item whose capture another item uses, and no second capture of the same
            # name.
            if value and '"$bind": "t0"' not in json.dumps(value[0]):
                yield value[1:]
            if value:
                yield value[:-1]
                yield value + [{"handler": "w"} if "$bind" in json.dumps(value[-1]) else value[-1]]
            if not value:
                yield {"deliveries": [{"event": ["not", "there"]}], "entries_unordered": [{"id": "not there"}]}.get(key, [1])
            if len(value) > 1 and value[0] != value[1] and not (key or "").endswith("_unordered"):
                yield [value[1], value[0]] + value[2:]
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield value + 1
        yield float(value) if isinstance(value, int) else int(value)
        yield None
        yield str(value)
    elif value is None:
        yield 0
        yield "null"
    elif key == "raises":
        return  # no other result than "badarg" can be expressed, and "returns" is tested below
    else:
        yield value + "x"
        yield None


def expectation_mutants(expect):
    for key in expect:
        if key not in COMMENTS:
            for other in mutants(expect[key], key):
                yield {**expect, key: other}
    if "raises" in expect:
        rest = {k: v for k, v in expect.items() if k != "raises"}
        yield rest
        yield {**rest, "returns": "ok"}
        if expect["raises"] == "badarg":
            yield {**expect, "raises": {"class": "error", "reason": "badarg"}}
    if "returns" in expect:
        rest = {k: v for k, v in expect.items() if k != "returns"}
        yield {**rest, "raises": "badarg"}
        yield {**rest, "raises": {"class": "error", "reason": "r"}}


def test_cases_pass(cases):
    code, output = run_folder(CASES)
    assert code == 0, output
    assert f"{FILE}: {len(cases)} passed, 0 failed" in output, output
    for function in ("attach", "attach_many", "detach", "execute", "list_handlers", "span"):
        assert re.search(rf"^  {function} +\d+ passed, 0 failed$", output, re.M), output


def test_ids_and_order_do_not_matter(cases):
    others = [{"id": "x", **{k: v for k, v in case.items() if k not in ("id", "note", "source")}} for case in cases]
    code, failed = run_cases(list(reversed(others)))
    assert code == 0 and not failed, failed


def test_other_expectations_fail(cases):
    wrong = []
    for case in cases:
        for i, step in enumerate(case["steps"]):
            for expect in expectation_mutants(step["expect"]):
                other = copy.deepcopy(case)
                other["steps"][i]["expect"] = expect
                wrong.append((other, case["id"], i, expect))
    code, failed = run_cases([case for case, _, _, _ in wrong])
    assert code == 1
    for number, (_, case_id, i, expect) in enumerate(wrong, 1):
        what = f"{case_id} step {i + 1} with {json.dumps(expect)}"
        assert number in failed, f"passes: {what}"
        assert not any(m.startswith("cannot be expressed") for m in failed[number]), f"{failed[number]}: {what}"
    print(f"{len(wrong)} wrong expectations failed")


def genai_cases(name):
    with open(os.path.join(CASES, f"genai_{name}.json"), encoding="utf-8") as file:
        return json.load(file)


def genai_mutants(value, key=None):
    """Changed copies of an expectation in the files of the GenAI layer, each different in one place."""
    if isinstance(value, dict):
        for k in value:
            if k not in ("exact", "ordered"):
                for other in genai_mutants(value[k], k):
                    yield {**value, k: other}
            if key in ("attributes", "types"):
                yield {other: v for other, v in value.items() if other != k}
        if key in ("attributes", "types"):
            yield {**value, "not.there": 1}
    elif isinstance(value, list):
        for i, item in enumerate(value):
            for other in genai_mutants(item, "item"):
                yield value[:i] + [other] + value[i + 1:]
        yield value[:-1] if value else ["not there"]
        if len(value) > 1 and value[0] != value[1]:
            yield [value[1], value[0]] + value[2:]
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield value + 1
        yield None
        yield str(value)
        if isinstance(value, float):
            yield value + 1e-8
        elif key != "item":  # a boundary may also be written as an integer
            yield float(value)
    elif value is None:
        yield "null"
    else:
        yield value + "x"
        if key != "name":
            yield None


def test_other_expectations_of_genai_fail(_):
    for name in ("attributes", "events", "spans_metrics"):
        cases = genai_cases(name)
        code, failed = run_cases([{**case, "id": "x"} for case in reversed(cases)], f"genai_{name}.json")
        assert code == 0 and not failed, failed
        wrong = [({**case, "expected": expected}, case["id"]) for case in cases
                 for expected in genai_mutants(case["expected"])]
        code, failed = run_cases([case for case, _ in wrong], f"genai_{name}.json")
        for number, (case, case_id) in enumerate(wrong, 1):
            assert number in failed, f"passes: {case_id} with {json.dumps(case['expected'])}"
        print(f"{len(wrong)} wrong expectations of genai_{name}.json failed")


def none_is_expressed(cases, file=FILE):
    code, failed = run_cases(cases, file)
    assert code == 1
    for number, case in enumerate(cases, 1):
        assert number in failed and failed[number][0].startswith("cannot be expressed"), f"{failed.get(number)}: {json.dumps(case)}"


def test_unknown_notation_of_genai_fails(_):
    start = {"id": "x", "function": "start", "input": {"operation": "chat"},
             "expected": {"attributes": {"gen_ai.operation.name": "chat", "gen_ai.output.type": "text"}}}
    name = {"id": "x", "function": "span_name", "input": {"operation": "chat", "model_id": None}, "expected": {"value": "chat"}}
    sent = {"id": "x", "function": "prompt_sent", "input": {"model": "m"},
            "expected": {"event_count": 1, "name": "gen_ai.prompt.sent", "attributes": {"gen_ai.request.model": "m"}}}
    for file, good, bad in (
            ("genai_attributes.json", start, [{"function": "begin"}, {"unknown": 1}, {"variant": "A"},
                                              {"input": {"a": {"$tuple": []}}}, {"input": 1},
                                              {"input": {"error": {"$exception": {"type": "T", "message": "m"}, "more": 1}}},
                                              {"input": {"error": {"$struct": {}}}}, {"input": {"native_unit": "ms"}}, {"expected": {"value": 1}},
                                              {"expected": {**start["expected"], "exact": False}},
                                              {"expected": {**start["expected"], "unknown": 1}}]),
            ("genai_spans_metrics.json", name, [{"function": "name"}, {"unknown": 1}, {"input": {"operation": "chat"}},
                                                {"input": {"operation": 1, "model_id": "m"}}, {"expected": {}},
                                                {"expected": {"value": "chat", "unknown": 1}}]),
            ("genai_events.json", sent, [{"function": "sent"}, {"unknown": 1}, {"input": []}, {"input": {"model": 1}},
                                         {"input": {"promptTokens": "1"}}, {"expected": {"event_count": 1}},
                                         {"expected": {**sent["expected"], "unknown": 1}}])):
        code, failed = run_cases([good], file)
        assert code == 0, failed
        none_is_expressed([{**good, **change} for change in bad], file)


def test_unknown_notation_fails(_):
    attach = {"op": "attach", "args": {"id": "h", "event": ["e"], "handler": {"kind": "record"}, "config": None},
              "expect": {"returns": "ok"}}
    span = {"op": "span", "args": {"prefix": ["p"], "start_metadata": {}, "body": {"return": 1}}, "expect": {"returns": 1}}

    def changed(step, path, value):
        step = copy.deepcopy(step)
        at = step
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        return {"id": "x", "steps": [step]}

    good = [{"id": "x", "steps": [attach]}, {"id": "x", "steps": [span]}]
    bad = [
        changed(attach, ["op"], "reattach"),
        changed(attach, ["unknown"], 1),
        changed(attach, ["args", "unknown"], 1),
        changed(attach, ["args", "id"], 7),
        changed(attach, ["args", "event"], [{"$string": "some"}]),
        changed(attach, ["args", "config"], {"$tuple": [1]}),
        changed(attach, ["args", "handler"], {"kind": "dance"}),
        changed(attach, ["args", "handler"], {"kind": "record", "unknown": 1}),
        changed(attach, ["args", "handler"], {"kind": "fail", "class": "exit", "reason": "r"}),
        changed(attach, ["args", "handler"], {"kind": "fail", "class": "throw", "reason": "r", "type": "RuntimeError"}),
        changed(attach, ["args", "handler"], {"kind": "fail", "class": "error"}),
        changed(attach, ["args", "handler"], {"kind": "run", "ops": [{"op": "reattach"}]}),
        changed(attach, ["args", "handler"], {"kind": "run", "ops": [{"op": "detach", "id": "h", "unknown": 1}]}),
        changed(attach, ["expect", "unknown"], 1),
        changed(attach, ["expect", "returns"], {"$frobnicate": 1}),
        changed(attach, ["expect", "returns"], {"$type": "complex"}),
        changed(attach, ["expect", "raises"], "badmatch"),
        changed(attach, ["expect", "deliveries"], [{"handler": "h", "unknown": 1}]),
        changed(attach, ["expect", "deliveries_unordered"], [{"metadata": {"a": {"$frobnicate": 1}}}]),
        changed(attach, ["expect", "entries_unordered"], []),
        changed(attach, ["expect", "entries"], []),
        changed(attach, ["expect", "deliveries_unordered"], [{"handler": str(i)} for i in range(8)]),
        changed(attach, ["expect"], {"returns": "ok", "raises": "badarg"}),
        changed(span, ["args", "body"], {"return": 1, "fail": {"class": "error", "reason": "r"}}),
        changed(span, ["args", "body"], {"return": 1, "extras": {"a": 1}, "stop_metadata": {"a": 1}}),
        changed(span, ["args", "body"], {"fail": {"class": "throw", "reason": "r", "type": "RuntimeError"}}),
        changed(span, ["args", "body"], {"fail": {"class": "error"}}),
        changed(attach, ["expect", "logs"], [{"unknown": 1}]),
        changed(attach, ["expect", "given"], {"something": 1}),
        changed(span, ["args", "body", "unknown"], 1),
        changed(span, ["args", "body", "extra_measurements"], {"a": "b"}),
        changed(span, ["args", "body"], {"fail": {"class": "crash", "reason": "r"}}),
        changed(span, ["args", "body", "nested"], {"op": "execute", "prefix": ["q"], "body": {"return": 1}}),
        changed(span, ["args", "body", "nested"], {"prefix": ["q"], "body": {"unknown": 1}}),
        {"id": "x", "steps": []},
        {"id": "x", "unknown": 1, "steps": [attach]},
        {"id": "x", "given": {"a": 1}, "steps": [attach]},
        {"id": "x"},
        [],
        "a case",
    ]
    code, failed = run_cases(good)
    assert code == 0, failed
    none_is_expressed(bad)


# Matchers, and values that each accepts and refuses.
MATCHERS = [
    ({"$type": "int"}, [-1], [1.0, "1", None]),
    ({"$type": "double"}, [1.0], [1]),
    ({"$type": "number"}, [1, 1.0], ["1"]),
    ({"$type": "bool"}, [True], [0]),
    ({"$type": "string"}, ["x"], [None, 1]),
    ({"$type": "string[]"}, [["x"]], [["x", 1], "x"]),
    ({"$type": "list"}, [[1, "x"]], [{"a": 1}]),
    ({"$type": "map"}, [{"a": 1}], [[1]]),
    ({"$type": "null"}, [None], [0]),
    ({"$any": True}, [None, 1], []),
    ({"$any": "string"}, ["x"], [1]),
    ({"$list": "any"}, [[1, "x"]], [{"a": 1}]),
    ({"$list": "int"}, [[1, 2], []], [[1, "x"]]),
    ({"$ge": 0}, [0, 0.5], [-1, "1"]),
    ({"$ge_ms": 2}, [2000000], [1999999]),
    ({"$near_zero": True}, [999999999, -1, 0.0], [1000000001, 0.1, "0"]),
    ({"$not": "x"}, ["y", 1], ["x"]),
    ({"$not": {"$type": "int"}}, ["1"], [1]),
    ({"$matches": "^[0-9]+$"}, ["12"], ["12x", 12]),
    ({"$type": "int", "$ge": 3}, [3], [2, 3.5]),
    ([{"$bind": "x"}, {"$same": "x"}], [["a", "a"]], [["a", "b"], [1, 1.0]]),
    ([{"$bind": "x"}, {"$differs": "x"}], [["a", "b"]], [["a", "a"]]),
    ([{"$bind": "x"}, {"$ge_bound": "x"}], [[2, 2]], [[2, 1]]),
    ([{"$expr": "t1 - t0", "$ge": 0}, {"$bind": "t0"}, {"$bind": "t1"}], [[3, 4, 7]], [[4, 4, 7], [3, 4.0, 7]]),
    ([{"$expr": "-(x + 2) * 3 - 1"}, {"$bind": "x"}], [[-13, 2]], [[-13, 3]]),
]
NO_MATCHERS = [{"$frobnicate": 1}, {"$not": {"$frobnicate": 1}}, {"$type": "complex"}, {"$list": "complex"},
               {"$type": "int", "a": 1}, {"$same": "nowhere"}, {"$expr": "1 +"}, {"$expr": "1 / 2"}, {"$expr": "nowhere"},
               {"$any": False}, {"$near_zero": 1}, {"$matches": "("}, [{"$bind": "x"}, {"$bind": "x"}]]


def case_with(value, matcher):
    """A case in which a handler receives the value."""
    attach = {"op": "attach", "args": {"id": "h", "event": ["e"], "handler": {"kind": "record"}}, "expect": {"returns": "ok"}}
    execute = {"op": "execute", "args": {"event": ["e"], "metadata": {"value": value}},
               "expect": {"deliveries": [{"metadata": {"value": matcher}}]}}
    return {"id": "x", "steps": [attach, execute]}


def test_matchers(_):
    accepted = [(value, matcher) for matcher, values, _ in MATCHERS for value in values]
    refused = [(value, matcher) for matcher, _, values in MATCHERS for value in values]
    _, failed = run_cases([case_with(*pair) for pair in accepted])
    assert not failed, [(accepted[number - 1], messages) for number, messages in failed.items()]
    _, failed = run_cases([case_with(*pair) for pair in refused])
    for number, pair in enumerate(refused, 1):
        assert number in failed and "cannot be expressed" not in failed[number][0], (pair, failed.get(number))
    none_is_expressed([case_with([1, 2], matcher) for matcher in NO_MATCHERS])


def all_pass_and_all_fail(good, wrong, file=FILE):
    code, failed = run_cases(good, file)
    assert code == 0, failed
    _, failed = run_cases(wrong, file)
    for number, case in enumerate(wrong, 1):
        assert number in failed, f"passes: {json.dumps(case)}"
        assert not failed[number][0].startswith("cannot be expressed"), f"{failed[number]}: {json.dumps(case)}"


def test_notation_of_the_registry_that_no_case_here_uses(_):
    watch = {"op": "attach_many", "args": {"id": "w", "events": ["o.start", "o.exception", "i.stop"],
                                           "handler": {"kind": "record"}}, "expect": {"returns": "ok"}}

    def exit_case(kind):
        return {"id": "x", "tags": ["exit"], "steps": [watch, {
            "op": "span", "args": {"prefix": "o", "body": {
                "nested": [{"op": "span", "prefix": "i", "body": {"return": 3, "extras": None}}],
                "fail": {"class": "exit", "reason": "r"}}},
            "expect": {"raises": {"class": kind, "reason": "r"}, "event_names": ["o.start", "i.stop", "o.exception"]}}]}

    def any_order(*metadata):
        """Two handlers of one event, of which the second one has a value that only a matcher can name."""
        def attach(name):
            return {"op": "attach", "args": {"id": name, "event": "e", "handler": {"kind": "record"}}, "expect": {}}
        execute = {"op": "execute", "args": {"event": "e", "metadata": {"n": 1}},
                   "expect": {"deliveries_unordered": [{"handler": name, "metadata": expected}
                                                       for name, expected in zip(("b", "a"), metadata)]}}
        return {"id": "x", "steps": [attach("a"), attach("b"), execute]}

    def of_two_steps(matcher):
        case = case_with(1, {"$bind": "first"})
        case["steps"].append({**case["steps"][1], "expect": {"deliveries": [{"metadata": {"value": matcher}}]}})
        return case

    def listed(expect):
        return {"id": "x", "steps": [watch, {"op": "list_handlers", "args": {"prefix": []}, "expect": expect}]}

    def fails(handler, reason):
        step = {"op": "execute", "args": {"event": "e"}, "expect": {"logs": [{"mentions": [reason]}]}}
        attach = {"op": "attach", "args": {"id": "f", "event": "e", "handler": {"kind": "fail", **handler}}, "expect": {}}
        return {"id": "x", "steps": [attach, step]}

    entries = [{"id": "w", "event": event, "config": None} for event in ("i.stop", "o.exception", "o.start")]
    in_order = listed({"entries": [{"id": "w", "event": event, "config": None}
                                   for event in ("o.start", "o.exception", "i.stop")]})
    argument = {"class": "error", "type": "ArgumentError", "message": "no good"}
    all_pass_and_all_fail(
        [exit_case("exit"), any_order({"n": 1}, {"n": {"$ge": 1}}), any_order({"n": {"$bind": "n"}}, {"n": {"$same": "n"}}),
         of_two_steps({"$same": "first"}), in_order, listed({"entries_unordered": entries}),
         listed({"returns": {"$list": "map"}}), fails(argument, "no good")],
        [exit_case("error"), any_order({"n": 1}, {"n": {"$ge": 2}}), any_order({"n": {"$bind": "n"}}, {"n": {"$differs": "n"}}),
         of_two_steps({"$differs": "first"}), listed({"entries": entries}), listed({"entries_unordered": entries[1:]}),
         listed({"returns": {"$list": "int"}}), fails(argument, "no bad")])


def test_notation_of_the_catalogues_that_no_case_here_uses(_):
    def scenario(when, expect):
        return {"id": "x", "tags": [], "when": when, "expect": expect}

    execute = {"op": "execute", "suffix": "made", "metadata": {"a": 1}}
    ids = {"op": "request_id", "times": 3}
    names = {"op": "event_names"}
    all_pass_and_all_fail(
        [scenario(execute, {"event_names": ["allm.made"]}), scenario(ids, {"length": 3, "distinct": 3}),
         scenario(names, {"length": {"$ge": 3}})],
        [scenario(execute, {"event_names": ["allm.other"]}), scenario(ids, {"length": 1}), scenario(ids, {"distinct": 2}),
         scenario(names, {"length": 1})], "allm_spans.json")

    stop = {"op": "emit_tool_stop", "metadata": {"tool_name": "t"}, "result": {"found": 3}, "start_time": "now"}
    failed = {"op": "emit_tool_exception", "metadata": {}, "error": "e", "start_time": 1, "stacktrace": ["frame"]}

    def one_event(name, metadata):
        return {"events": [{"event": name, "measurements": {"duration": {"$ge": 0}}, "metadata": metadata}]}
    attach = {"op": "attach_default_logger", "opts": {"level": "info"}}
    log = {"op": "log", "event": "beamlens.tool.start", "measurements": {}, "metadata": {}}
    all_pass_and_all_fail(
        [scenario(stop, one_event("beamlens.tool.stop", {"tool_name": "t", "result": {"found": 3}})),
         scenario(failed, one_event("beamlens.tool.exception", {"kind": "error", "stacktrace": ["frame"]})),
         scenario(attach, {"returns": "ok", "handler_id": "beamlens-telemetry-default-logger"}),
         scenario(log, {"message": {"$matches": "tool.start"}}), scenario(log, {"level": "debug"})],
        [scenario(stop, one_event("beamlens.tool.stop", {"result": {"found": 4}})),
         scenario(failed, one_event("beamlens.tool.exception", {"stacktrace": []})),
         scenario(attach, {"handler_id": "another"}), scenario(log, {"message": {"$matches": "tool.stop"}}),
         scenario(log, {"level": "info"})], "agent_scenarios.json")

    error = {"id": "x", "tags": [], "function": "error_type", "input": {"error": {"$map": {"type": "Timeout"}}},
             "expected": {"value": "Timeout"}}
    start = {"id": "x", "function": "start", "input": {"operation": "chat"},
             "expected": {"attributes": {"gen_ai.operation.name": "chat", "gen_ai.output.type": "text"},
                          "key_order": ["gen_ai.operation.name", "gen_ai.output.type"]}}
    swapped = {**start["expected"], "key_order": ["gen_ai.output.type", "gen_ai.operation.name"]}
    all_pass_and_all_fail([error, start], [{**error, "expected": {"value": "Other"}}, {**start, "expected": swapped}],
                          "genai_attributes.json")


def test_unknown_notation_of_the_catalogues_fails(_):
    def scenario(when, expect):
        return {"id": "x", "when": when, "expect": expect}

    tool = {"op": "tool_span", "metadata": {}, "body": {"return": 1}}
    stop = {"op": "emit_tool_stop", "metadata": {}, "result": 1, "start_time": "now"}
    none_is_expressed([scenario({**tool, "body": {"return": 1, "extras": {"a": 1}}}, {}),
                       scenario({**tool, "body": {}}, {}), scenario({**stop, "kind": "error"}, {}),
                       scenario({**stop, "start_time": 0.5}, {}), scenario({**stop, "start_time": "later"}, {}),
                       scenario({"op": "generate_trace_id", "times": 0}, {"length": 0}),
                       scenario({"op": "generate_trace_id"}, {})], "agent_scenarios.json")
    span = {"op": "span", "name": "chat", "body": {"return": 1}}
    none_is_expressed([scenario({"op": "request_id", "times": 0}, {"length": 0}), scenario({"op": "request_id"}, {}),
                       scenario(span, {}), scenario(span, {"returns": 1, "raises": {"class": "error"}})],
                      "allm_spans.json")


# Objects under these keys are maps of the program's, with any keys. The input of most functions of the GenAI layer is too.
FREE = {"start_metadata", "stop_metadata", "metadata", "extras", "measurements", "extra_measurements", "config", "return",
        "returns", "reason", "result", "error", "attributes", "types", "emitted_also", "value", "payload", "input", "events"}
# In these files "input" is not used, and the items of "events" have known keys.
FREE_OF_CATALOGUES = FREE - {"input", "events"}


def with_unknown_keys(case, free, key=None):
    """Copies of a case, in each of which one object has one more key."""
    if key in free:
        return
    if isinstance(case, dict) and not any(k.startswith("$") for k in case):
        yield {**case, "unknown key": 1}
        for k in case:
            yield from ({**case, k: other} for other in with_unknown_keys(case[k], free, k))
    elif isinstance(case, list):
        for i, item in enumerate(case):
            yield from (case[:i] + [other] + case[i + 1:] for other in with_unknown_keys(item, free, key))


def test_unknown_keys_are_refused(_):
    for file in sorted(os.listdir(CASES)):
        with open(os.path.join(CASES, file), encoding="utf-8") as opened:
            cases = json.load(opened)
        free = FREE if file.startswith("genai_") else FREE_OF_CATALOGUES
        wrong = [other for case in cases for other in with_unknown_keys(case, free)]
        none_is_expressed(wrong, file)
        print(f"{len(wrong)} unknown keys in {file} were refused")


def test_files_are_not_skipped(cases):
    text = json.dumps(cases)
    code, output = run({FILE: text, "telemetry_registry2.json": text})
    assert code == 1 and "FAILED telemetry_registry2.json: there is no runner" in output, output
    assert f"{FILE}: {len(cases)} passed" in output, output
    for broken in ("[", "{}", "[]", "1", ""):
        code, output = run({FILE: broken})
        assert code == 1 and f"FAILED {FILE}" in output, output
    code, output = run({"notes.txt": text})
    assert code == 1 and "no *.json" in output, output
    code, output = run_folder("/nonexistent")
    assert code == 1 and "FAILED" in output, output


def main():
    with open(os.path.join(CASES, FILE), encoding="utf-8") as file:
        cases = json.load(file)
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test(cases)
            print(f"ok {name}")


main()
