// SPDX-License-Identifier: Apache-2.0
// The warehouse: knows the prices of the items, and takes them out of stock. See README.md.
#include <nopspan/span.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "service.h"

namespace shop {

// The database ended a transaction, because it and another one waited for each other.
struct DeadlockError : std::runtime_error {
  DeadlockError() : std::runtime_error("deadlock detected") {}
};

// A table of items in memory. Its queries take time and may fail, as those of a database do.
class Database {
 public:
  Database(std::chrono::milliseconds query_time, int deadlock_every)
      : query_time_(query_time), deadlock_(deadlock_every) {}

  // The price of an item in cents, if there is such an item.
  std::optional<int> price(const std::string& item) {
    nopspan::Span span{"db.select", nopspan::SpanKind::client, [&](auto& m) { m.set("item", item); }};
    std::this_thread::sleep_for(query_time_);
    const std::lock_guard lock(mutex_);
    const auto row = rows_.find(item);
    if (row == rows_.end()) return std::nullopt;
    return row->second.price;
  }

  // Takes `count` pieces of an item, if there are as many. Tries again after a deadlock. Throws DeadlockError at the
  // third one.
  bool take(const std::string& item, int count) {
    nopspan::Span span{"db.update", nopspan::SpanKind::client};
    span.set("item", item).measure("count", count);
    for (int attempt = 1;; ++attempt) {
      try {
        return update(item, count);
      } catch (const DeadlockError&) {
        span.event("db.deadlock", [&](auto& m) { m.set("attempt", attempt); });
        if (attempt < 3) continue;
        span.caught();
        throw;
      }
    }
  }

 private:
  bool update(const std::string& item, int count) {
    std::this_thread::sleep_for(query_time_);
    if (deadlock_.happens()) throw DeadlockError();
    const std::lock_guard lock(mutex_);
    int& stock = rows_.at(item).stock;
    if (stock < count) return false;
    stock -= count;
    return true;
  }

  struct Row {
    int price;
    int stock;
  };

  const std::chrono::milliseconds query_time_;
  Fault deadlock_;
  std::mutex mutex_;
  std::map<std::string, Row> rows_ = {{"tea", {450, 1000000}}, {"coffee", {790, 1000000}}, {"cake", {320, 2}}};
};

}  // namespace shop

int main(int argc, char** argv) {
  int port = 9001;
  int query_ms = 1;
  int deadlock_every = 0;
  const auto status =
      shop::read_options(argc, argv, "The warehouse of the shop.",
                         {{"--port", &port, 0, "port to listen on; 0 takes a free one"},
                          {"--query-ms", &query_ms, 0, "time of a query of the database, in ms"},
                          {"--deadlock-every", &deadlock_every, 0, "every n-th update ends in a deadlock; 0: none"}});
  if (status) return *status;

  shop::Server server;
  shop::Database database(std::chrono::milliseconds(query_ms), deadlock_every);
  server.post("/reserve", [&database](const httplib::Request& request) -> shop::Reply {
    const std::string item = request.get_param_value("item");
    const int count = std::atoi(request.get_param_value("count").c_str());
    const std::optional<int> price = database.price(item);
    if (!price) return {404, "there is no " + item};
    if (!database.take(item, count)) return {409, "there is not enough " + item};
    return {200, std::to_string(count * *price)};
  });
  return server.serve(port);
}
