#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The programs of examples/shop do their work, and refuse wrong options."""
import os
import subprocess
import unittest
from concurrent.futures import ThreadPoolExecutor

from surroundings import BUILD

from shop_service import Shop, Warehouse


class Orders(unittest.TestCase):
    def test_each_tenant_pays_its_own_price(self):
        with Warehouse(BUILD) as warehouse, Shop(BUILD, warehouse) as shop:
            self.assertEqual(shop.order("acme", "tea", 2), (200, "acme pays 900 cents"))
            self.assertEqual(shop.order("globex", "tea", 2), (200, "globex pays 810 cents"))
            self.assertEqual(shop.order("initech", "coffee"), (200, "initech pays 750 cents"))
        self.assertEqual(sorted(shop.printed), ["acme pays 900 cents", "globex pays 810 cents", "initech pays 750 cents"])

    def test_an_order_that_cannot_be_met_is_refused(self):
        with Warehouse(BUILD) as warehouse, Shop(BUILD, warehouse) as shop:
            self.assertEqual(shop.order("hooli", "tea"), (403, "there is no tenant hooli"))
            self.assertEqual(shop.order("acme", "tea", 0), (400, "the count is not a positive number"))
            self.assertEqual(shop.order("acme", "gold"), (404, "there is no gold"))
            self.assertEqual(shop.order("acme", "cake", 3), (409, "there is not enough cake"))
        self.assertEqual(shop.printed, [])

    def test_orders_at_the_same_time(self):
        with Warehouse(BUILD, "--query-ms", 5) as warehouse, Shop(BUILD, warehouse, "--workers", 2) as shop:
            with ThreadPoolExecutor(16) as customers:
                answers = list(customers.map(lambda _: shop.order("acme", "tea"), range(64)))
            self.assertEqual(set(answers), {(200, "acme pays 450 cents")})
        self.assertEqual(len(shop.printed), 64)


class Faults(unittest.TestCase):
    def test_a_deadlock_is_tried_again(self):
        with Warehouse(BUILD, "--deadlock-every", 2) as warehouse, Shop(BUILD, warehouse) as shop:
            self.assertEqual({shop.order("acme", "tea") for _ in range(8)}, {(200, "acme pays 450 cents")})

    def test_deadlocks_that_do_not_end_are_an_error(self):
        with Warehouse(BUILD, "--deadlock-every", 1) as warehouse, Shop(BUILD, warehouse) as shop:
            self.assertEqual(shop.order("acme", "tea"), (502, "deadlock detected"))

    def test_the_bank_declines_every_third_payment(self):
        with Warehouse(BUILD) as warehouse, Shop(BUILD, warehouse, "--decline-every", 3) as shop:
            self.assertEqual([shop.order("globex", "tea")[0] for _ in range(6)], [200, 200, 402] * 2)

    def test_without_a_warehouse(self):
        with Warehouse(BUILD) as warehouse:
            pass
        with Shop(BUILD, warehouse) as shop:
            self.assertEqual(shop.order("acme", "tea")[0], 502)


class Options(unittest.TestCase):
    def refused(self, program, *options):
        done = subprocess.run([os.path.join(BUILD, "examples", "shop", program), *map(str, options)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        return done.stderr

    def test_wrong_ones_are_refused(self):
        self.assertIn("--workers: Value 0 not in range 1 to 65535", self.refused("shop", "--workers", 0))
        self.assertIn("--port: Value x not in range", self.refused("warehouse", "--port", "x"))
        self.assertIn("--speed", self.refused("warehouse", "--speed", 1))
        with Warehouse(BUILD) as warehouse:
            self.assertIn("cannot listen on 127.0.0.1:%d" % warehouse.port, self.refused("shop", "--port", warehouse.port))


unittest.main(verbosity=2)
