// SPDX-License-Identifier: Apache-2.0
// The shop: takes orders of three tenants, reserves the items in the warehouse, and charges for them. See README.md.
#include <nopspan/propagation.h>
#include <nopspan/span.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <stdexcept>

#include "service.h"
#include "worker_pool.h"

namespace shop {

// The tenants, and the discount that each has, in percent.
const std::map<std::string, int> kDiscounts = {{"acme", 0}, {"globex", 10}, {"initech", 5}};

struct Order {
  std::string tenant;
  std::string item;
  int count = 0;
};

// The warehouse did not answer, or failed.
struct WarehouseError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Reserves the items of an order in the warehouse. The body of a successful reply is their price in cents.
Reply reserve(int warehouse_port, const Order& order) {
  httplib::Client warehouse("127.0.0.1", warehouse_port);
  httplib::Request request;
  request.method = "POST";
  request.path =
      httplib::append_query_params("/reserve", {{"item", order.item}, {"count", std::to_string(order.count)}});
  return nopspan::span("warehouse.reserve", nopspan::SpanKind::client, [&](nopspan::Span& span) -> Reply {
    nopspan::inject(request.headers);
    const httplib::Result result = warehouse.send(request);
    if (!result) throw WarehouseError("no answer: " + httplib::to_string(result.error()));
    span.set("http.response.status_code", result->status);
    if (result->status >= 500) throw WarehouseError(result->body);
    return {result->status, result->body};
  });
}

struct Options {
  int port = 9000;
  int warehouse_port = 9001;
  int workers = 4;
  int payment_ms = 5;
  int decline_every = 0;
};

class Shop {
 public:
  explicit Shop(const Options& options) : options_(options), declined_(options.decline_every), pool_(options.workers) {}

  // Processes an order on the workers.
  Task<Reply> process(Order order) {
    co_await pool_.worker();
    Reply reply = reserve(options_.warehouse_port, order);
    if (reply.status != 200) co_return reply;
    nopspan::AsyncSpan span{"bank.charge", nopspan::Context::current(), nopspan::SpanKind::client};
    co_await pool_.worker(std::chrono::milliseconds(options_.payment_ms));  // the time that the bank needs
    if (declined_.happens()) {
      span.fail("declined");
      co_return Reply{402, "the bank declined the payment"};
    }
    span.end();
    const int cents = std::stoi(reply.body) * (100 - kDiscounts.at(order.tenant)) / 100;
    reply.body = order.tenant + " pays " + std::to_string(cents) + " cents";
    pool_.submit([line = reply.body + "\n"] { std::cout << line << std::flush; });  // the customer does not wait for it
    co_return reply;
  }

 private:
  const Options options_;
  Fault declined_;
  WorkerPool pool_;
};

}  // namespace shop

int main(int argc, char** argv) {
  shop::Options options;
  const auto status = shop::read_options(
      argc, argv, "A shop for three tenants.",
      {{"--port", &options.port, 0, "port to listen on; 0 takes a free one"},
       {"--warehouse-port", &options.warehouse_port, 1, "port of the warehouse"},
       {"--workers", &options.workers, 1, "threads that process orders"},
       {"--payment-ms", &options.payment_ms, 0, "time that the bank needs for a payment, in ms"},
       {"--decline-every", &options.decline_every, 0, "the bank declines every n-th payment; 0: none"}});
  if (status) return *status;

  shop::Server server;
  shop::Shop orders(options);
  server.post("/order", [&orders](const httplib::Request& request) -> shop::Reply {
    const shop::Order order{request.get_header_value("X-Tenant"), request.get_param_value("item"),
                            std::atoi(request.get_param_value("count").c_str())};
    if (shop::kDiscounts.count(order.tenant) == 0) return {403, "there is no tenant " + order.tenant};
    if (order.count < 1) return {400, "the count is not a positive number"};
    try {
      return orders.process(order).result.get();
    } catch (const shop::WarehouseError& error) {
      return {502, error.what()};
    }
  });
  return server.serve(options.port);
}
