# SPDX-License-Identifier: Apache-2.0
"""The shop (examples/shop) under bpftrace and under nopspan trace: both show the same spans, and each order is one tree
over both programs."""

import collections
import contextlib
import os

import harness
import otlp_attributes
from harness import BUILD, Test, Tracer
from shop_service import Shop, Warehouse
from test_trace import STATUSES, Trace

# In this environment, programs load the library of the build tree, to which their RUNPATH leads.
UNTRACED = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
Span = collections.namedtuple("Span", "parent_id name pid status tenant error attributes")
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def of_bpftrace(tracer):
    """{request id: {span id: Span}}"""
    found = collections.defaultdict(dict)
    reasons = {e.span_id: e.reason for e in tracer.events("span_exception")}
    ends = tracer.events("span_stop")
    for event, attributes in zip(ends, otlp_attributes.decode([bytes(e.attributes) for e in ends], False)):
        error = reasons.get(event.span_id, event.error_type) or None
        found[event.request_id][event.span_id] = Span(event.parent_id or None, event.name, event.pid, STATUSES[event.status],
                                                      event.tenant or None, error, attributes)
    return found


def of_collector(parts):
    """{span id: Span} of a request, as nopspan trace shows it: one trace, and a late part if this machine is slow."""
    def number(text):
        return None if text is None else int(text, 16)
    return {number(span["span_id"]): Span(number(span.get("parent_id")), span["name"], trace["processes"][span["process"]]["pid"],
                                          span["status"], span.get("tenant"), span.get("error_type"), span.get("attributes", {}))
            for trace in parts for span in trace["spans"]}


def tree(spans, parent_id=None):
    """The names as nested lists, in alphabetical order: siblings may run at the same time."""
    children = [(span_id, span.name) for span_id, span in spans.items() if span.parent_id == parent_id]
    return sorted([name, *tree(spans, span_id)] for span_id, name in children)


class Orders(Test):
    """One run. Each test checks one order."""

    @classmethod
    def setUpClass(cls):
        with Tracer(("span_stop", "span_exception", "event"), details=True, attributes=True) as cls.tracer, \
                contextlib.ExitStack() as attached:
            # The programs end before the tracers, because an order's last job may end after the customer has the answer.
            with Warehouse(BUILD, "--deadlock-every", 4) as warehouse, Shop(BUILD, warehouse, "--decline-every", 3) as shop, \
                    Warehouse(BUILD, "--deadlock-every", 1) as broken_warehouse, Shop(BUILD, broken_warehouse) as broken_shop:
                pids = ",".join(str(each.pid) for each in (warehouse, shop, broken_warehouse, broken_shop))
                trace = attached.enter_context(Trace("--json", "--name", "/order", "--pid", pids))
                cls.answers = [shop.order("globex", "tea", 2), shop.order("acme", "cake", 3), shop.order("initech", "coffee"),
                               shop.order("globex", "tea"), shop.order("acme", "tea")]
                cls.failure = broken_shop.order("initech", "tea")
            trace.stop()
            cls.tracer.stop()
        cls.shop, cls.warehouse, cls.broken_warehouse = shop.pid, warehouse.pid, broken_warehouse.pid
        cls.requests = collections.defaultdict(list)
        for part in sorted(trace.traces(shop.pid, broken_shop.pid), key=lambda part: part["start_unix_ns"]):
            cls.requests[part["request_id"]].append(part)
        cls.orders = list(cls.requests.values())
        cls.seen = of_bpftrace(cls.tracer)

    def spans(self, order):
        return of_collector(self.orders[order])

    def shown(self, order, name):
        """The spans of this name, as nopspan trace shows them."""
        return [span for part in self.orders[order] for span in part["spans"] if span["name"] == name]

    def one(self, order, name):
        found = [span for span in self.spans(order).values() if span.name == name]
        self.assertEqual(len(found), 1, name)
        return found[0]

    def test_the_customers_have_their_answers(self):
        self.assertEqual([status for status, _ in self.answers + [self.failure]], [200, 409, 200, 402, 200, 502])
        self.assertEqual(len(self.orders), len(self.answers) + 1)

    def test_bpftrace_and_the_collector_show_the_same_spans(self):
        for request_id, parts in self.requests.items():
            self.assertEqual(of_collector(parts), self.seen[request_id])

    def test_an_order_is_one_tree_over_both_programs(self):
        reserve = ["warehouse.reserve", ["/reserve", ["db.select"], ["db.update"]]]
        queue = [["pool.queue"]] * 3  # the start of the coroutine, the answer of the bank, the line that is printed
        for order in (0, 2, 4):
            self.assertEqual(tree(self.spans(order)), [["/order", ["bank.charge"], *queue, reserve]])
            of_warehouse = {span.name for span in self.spans(order).values() if span.pid == self.warehouse}
            self.assertEqual(of_warehouse, {"/reserve", "db.select", "db.update"})
        self.assertEqual(tree(self.spans(1)), [["/order", ["pool.queue"], reserve]])

    def test_each_span_has_the_tenant_also_in_the_second_program(self):
        for spans, tenant in zip(map(of_collector, self.orders), ("globex", "acme", "initech", "globex", "acme", "initech")):
            self.assertEqual({span.tenant for span in spans.values()}, {tenant})

    def test_the_bank_is_part_of_the_coroutines_order(self):
        charge, = self.shown(0, "bank.charge")
        self.assertGreaterEqual(charge["duration_ns"], 5_000_000)
        self.assertEqual((charge["status"], self.one(3, "bank.charge").status), ("ok", "error"))
        self.assertEqual(self.one(3, "bank.charge").error, "declined")

    def test_the_time_in_the_queue_begins_when_the_job_is_due(self):
        for order in range(6):
            begins = [span["start_unix_ns"] for span in self.shown(order, "/order") + self.shown(order, "pool.queue")]
            self.assertEqual(min(begins), begins[0])

    def test_a_deadlock_that_is_tried_again_is_an_event(self):
        update, = self.shown(3, "db.update")
        self.assertEqual(update["status"], "ok")
        self.assertEqual([(event["name"], event["attributes"]) for event in update["events"]], [("db.deadlock", {"attempt": 1})])

    def test_an_error_has_the_exceptions_type_in_both_programs(self):
        failed = {span.name: (span.status, span.error) for span in self.spans(5).values() if span.status != "ok"}
        deadlock, warehouse = ("exception", "shop::DeadlockError"), ("exception", "shop::WarehouseError")
        self.assertEqual(failed, {"db.update": deadlock, "/reserve": deadlock, "warehouse.reserve": warehouse, "/order": ("error", "502")})
        self.assertEqual(self.one(5, "db.update").pid, self.broken_warehouse)

    def test_a_server_reports_the_status_code_of_each_answer(self):
        def codes(name):
            return [span["attributes"]["http.response.status_code"] for order in range(6) for span in self.shown(order, name)]
        self.assertEqual(codes("/order"), [200, 409, 200, 402, 200, 502])
        self.assertEqual(codes("/reserve"), [200, 409, 200, 200, 200, 500])


class Forwarded(Test):
    def test_a_shop_that_is_not_traced_forwards_the_trace_and_the_baggage(self):
        with Tracer(details=True) as tracer:
            with Warehouse(BUILD) as warehouse, Shop(BUILD, warehouse, env=UNTRACED) as shop:
                shop.order("acme", "tea", headers={"traceparent": CALLER, "baggage": "tenant=acme,session=17"})
            tracer.stop()
        spans = {e.name: e for e in tracer.events(pid=warehouse.pid)}
        self.assertEqual(set(spans), {"/reserve", "db.select", "db.update"})
        self.assertEqual("%x" % spans["/reserve"].parent_id, CALLER.split("-")[2].lstrip("0"))
        self.assertEqual({e.tenant for e in spans.values()}, {"acme"})
        self.assertEqual(len({e.id for e in spans.values()}), 1)


if __name__ == "__main__":
    if not os.path.exists(os.path.join(BUILD, "examples", "shop", "shop")):
        harness.ability.unable("the examples are not built (NOPSPAN_EXAMPLES=ON)")
    harness.main("protoc", own_processes=False)
