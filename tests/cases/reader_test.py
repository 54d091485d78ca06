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
    others = {"$type": {"$list": "any"}, "$list": {"$type": "int"}, "$ge": {**matcher, "$ge": 10**18},
              "$expr": {**matcher, "$expr": "t0 - t1"}, "$same": {**matcher, "$list": "any"},
              "$bind": {**matcher, "$list": "any"}}
    yield from (other for key, other in others.items() if key in matcher)


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


def test_unknown_notation_of_genai_fails(_):
    start = {"id": "x", "function": "start", "input": {"operation": "chat"},
             "expected": {"attributes": {"gen_ai.operation.name": "chat", "gen_ai.output.type": "text"}}}
    name = {"id": "x", "function": "span_name", "input": {"operation": "chat", "model_id": None}, "expected": {"value": "chat"}}
    sent = {"id": "x", "function": "prompt_sent", "input": {"model": "m"},
            "expected": {"event_count": 1, "name": "gen_ai.prompt.sent", "attributes": {"gen_ai.request.model": "m"}}}
    for file, good, bad in (
            ("genai_attributes.json", start, [{"function": "begin"}, {"unknown": 1}, {"variant": "A"},
                                              {"input": {"a": {"$tuple": []}}}, {"input": 1}, {"input": {"native_unit": "ms"}}, {"expected": {"value": 1}},
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
        code, failed = run_cases([{**good, **change} for change in bad], file)
        assert code == 1
        for number, change in enumerate(bad, 1):
            assert number in failed and failed[number][0].startswith("cannot be expressed"), f"{change}: {failed.get(number)}"


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
        changed(attach, ["args", "handler"], {"kind": "run", "ops": [{"op": "reattach"}]}),
        changed(attach, ["args", "handler"], {"kind": "run", "ops": [{"op": "detach", "id": "h", "unknown": 1}]}),
        changed(attach, ["expect", "unknown"], 1),
        changed(attach, ["expect", "returns"], {"$frobnicate": 1}),
        changed(attach, ["expect", "returns"], {"$type": "complex"}),
        changed(attach, ["expect", "raises"], "badmatch"),
        changed(attach, ["expect", "deliveries"], [{"handler": "h", "unknown": 1}]),
        changed(attach, ["expect", "deliveries_unordered"], [{"metadata": {"a": {"$frobnicate": 1}}}]),
        changed(attach, ["expect", "entries_unordered"], []),
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
    code, failed = run_cases(bad)
    assert code == 1
    for number, case in enumerate(bad, 1):
        assert number in failed, f"passes: {json.dumps(case)}"
        assert failed[number][0].startswith("cannot be expressed"), f"{failed[number]}: {json.dumps(case)}"


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
