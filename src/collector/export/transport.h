// SPDX-License-Identifier: Apache-2.0
// Sends request bodies to an OTLP receiver: over HTTP as protobuf or JSON, or over gRPC.
#pragma once

#include "export/answer.h"
#include "export/export_body.h"
#include "export/otlp_settings.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace nopspan::collector {

// A moment that other threads may move.
class MovableDeadline {
 public:
  using Clock = std::chrono::steady_clock;
  void set(Clock::time_point at) { at_ = at.time_since_epoch().count(); }
  [[nodiscard]] Clock::time_point get() const { return Clock::time_point(Clock::duration(at_.load())); }

 private:
  std::atomic<Clock::rep> at_ = Clock::time_point::max().time_since_epoch().count();
};

class Transport {
 public:
  virtual ~Transport() = default;
  // Sends one request and waits for the answer, at most until `until`. Only one thread may call this.
  virtual ReceiverAnswer post(const ExportBody& body, const MovableDeadline& until) = 0;
  // Where the signal's requests go, for messages: without passwords.
  [[nodiscard]] virtual std::string name(Signal signal) const = 0;
  // Makes a post() on another thread look at its deadline again.
  virtual void wake() {}
};

// Returns other headers for all signals if there are any since the last call.
using HeaderRenewal = std::function<std::optional<NamesAndValues>()>;

// A transport by libcurl. It honours http_proxy, https_proxy and no_proxy, keeps connections alive, and follows no
// redirects. Throws Failure if libcurl cannot be initialized. Before each request, and after an answer that refuses the
// headers, it calls `renewal` on the thread that sends.
std::unique_ptr<Transport> make_transport(OtlpSettings settings, const std::string& version,
                                          HeaderRenewal renewal = nullptr);

}  // namespace nopspan::collector
