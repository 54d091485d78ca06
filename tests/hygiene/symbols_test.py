#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The shared library exports nopspan's names only. The static library exports nothing."""
import os
import re
import subprocess
import unittest
from pathlib import Path

import surroundings

SHARED = os.environ["NOPSPAN_SHARED"]
STATIC = os.environ["NOPSPAN_STATIC"]


C_FUNCTIONS_OF_0_3 = """
    nopspan_call_cancel nopspan_call_complete nopspan_call_counter nopspan_call_end nopspan_call_end_at
    nopspan_call_event_begin nopspan_call_event_begin_in nopspan_call_exception nopspan_call_fail
    nopspan_call_first_token nopspan_call_gauge nopspan_call_gauge_begin nopspan_call_gauge_end nopspan_call_link
    nopspan_call_retry nopspan_call_set_bool nopspan_call_set_double nopspan_call_set_doubles nopspan_call_set_int
    nopspan_call_set_ints nopspan_call_set_null nopspan_call_set_text nopspan_call_set_texts nopspan_call_set_uint
    nopspan_call_span_begin nopspan_call_span_begin_in nopspan_call_span_begin_with nopspan_call_start
    nopspan_call_step nopspan_call_usage nopspan_capture_content nopspan_context_baggage nopspan_context_current
    nopspan_context_extract nopspan_context_from nopspan_context_from_environment nopspan_context_from_headers
    nopspan_context_inject nopspan_context_is_empty nopspan_context_label nopspan_context_make
    nopspan_context_request_id nopspan_context_span_id nopspan_context_trace_id nopspan_context_traceparent
    nopspan_context_tracestate nopspan_context_with_label nopspan_context_with_request_id nopspan_declare_label
    nopspan_end_open_spans nopspan_keep_open_spans nopspan_member_in nopspan_member_of nopspan_now_ns nopspan_prepare
    nopspan_reseed
    nopspan_scope_enter nopspan_scope_leave nopspan_span_context nopspan_span_context_or nopspan_stats_read
""".split()


def c_functions():
    """Those that c.h declares without defining them."""
    header = surroundings.read(Path("include/nopspan/c.h"))
    return set(re.findall(r"^NOPSPAN_C_(?:API|CALL) [^(;]*?\b(nopspan_\w+)\(", header, re.M))


def symbols(*arguments):
    """[(type, binding, visibility, section, demangled name)] as readelf -s prints them."""
    table = subprocess.run(["readelf", "-sW", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = re.findall(r"^ *\d+: [0-9a-f]+ +\S+ +(\S+) +(\S+) +(\S+)(?: +\[.*?\])? +(\S+) +(\S+)", table, re.M)
    names = subprocess.run(["c++filt"], input="\n".join(row[4].split("@")[0] for row in rows), stdout=subprocess.PIPE,
                           text=True, check=True).stdout.splitlines()
    return [(*row[:4], name) for row, name in zip(rows, names)]


def defined(rows):
    """Without the version node, which is absolute."""
    return [row for row in rows if row[3] != "UND" and row[1] in ("GLOBAL", "WEAK", "UNIQUE")
            and not (row[3] == "ABS" and re.fullmatch(r"NOPSPAN_[\d.]+", row[4]))]


class Symbols(unittest.TestCase):
    def test_the_shared_library_exports_only_nopspan(self):
        exported = [row[4] for row in defined(symbols("--dyn-syms", SHARED)) if row[2] in ("DEFAULT", "PROTECTED")]
        self.assertIn("nopspan_gate_ptr", exported)
        self.assertTrue(any(name.startswith("nopspan::attach(") for name in exported))
        foreign = {name for name in exported if not name.startswith(("nopspan::", "typeinfo for nopspan::"))}
        self.assertEqual(foreign, {"nopspan_gate_ptr", *c_functions()})

    def test_the_functions_of_the_c_api_are_never_removed(self):
        """Those of each release. A new function is added here when it is released (docs/compatibility.md)."""
        self.assertLessEqual(set(C_FUNCTIONS_OF_0_3), c_functions())

    def test_exported_names_have_the_version_of_the_soname(self):
        dynamic = subprocess.run(["readelf", "-dW", SHARED], stdout=subprocess.PIPE, text=True, check=True).stdout
        soname = re.search(r"soname: \[libnopspan\.so\.([\d.]+)\]", dynamic)
        table = subprocess.run(["readelf", "--dyn-syms", "-W", SHARED], stdout=subprocess.PIPE, text=True, check=True).stdout
        versions = set(re.findall(r" DEFAULT +(?:\[.*?\] +)?\d+ \S*nopspan\S*@@(\S+)", table))
        self.assertEqual(versions, {f"NOPSPAN_{soname[1]}"})

    def test_the_shared_library_exports_no_more_than_the_headers_declare(self):
        """An internal name that is accidentally visible would be part of the ABI for good."""
        text = "".join(surroundings.read(path) for path in surroundings.files(".h") if path.parts[0] == "include")
        for row in defined(symbols("--dyn-syms", SHARED)):
            name = re.sub(r"\(.*", "", row[4]).split("[abi")[0].split("::")[-1].lstrip("~")
            self.assertTrue(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text), row[4])

    def test_the_static_library_hides_all_of_nopspan(self):
        # Instances of std templates over std types are the same in every copy. Instances over nopspan's types are not.
        visible = [row for row in defined(symbols(STATIC)) if row[2] == "DEFAULT"]
        self.assertEqual([row[4] for row in visible if "nopspan" in row[4]], [])
        self.assertEqual([row[4] for row in visible if not re.search(r"\b(std|__gnu_cxx)::", row[4])], [])
        self.assertTrue([row for row in defined(symbols(STATIC)) if row[2] == "HIDDEN" and "nopspan::attach(" in row[4]])

    @unittest.skipUnless("NOPSPAN_COLLECTOR" in os.environ, "the collector is not built")
    def test_what_traces_decodes_no_entry(self):
        """It has the capabilities, and entries are what hostile programs write. Only its command decodes them."""
        listing = subprocess.run(["nm", "--print-file-name", "--demangle", os.environ["NOPSPAN_COLLECTOR"]],
                                 stdout=subprocess.PIPE, text=True, check=True).stdout
        # Each room is one object.
        decoders = {}
        decoding = (r":unity_folder_(\w+)_cxx\.cxx\.o:.* nopspan::collector::"
                    r"(BatchReader|RecordedBatches|EarlyRequests|Reader|unpack_open_spans|read_messages)\b")
        for room, name in re.findall(decoding, listing):
            decoders.setdefault(name, set()).add(room)
        self.assertTrue({"reader", "recording", "open"} <= decoders["BatchReader"], decoders)
        self.assertEqual({name for name, rooms in decoders.items() if "live" in rooms}, set())
        self.assertEqual({name for name, rooms in decoders.items() if "stream" in rooms}, {"read_messages"})
        self.assertEqual({name for name, rooms in decoders.items() if "host" in rooms}, {"unpack_open_spans"})


surroundings.need("readelf", "c++filt", "nm")
surroundings.main()
