// SPDX-License-Identifier: Apache-2.0
// What nopspan convert writes, the page and the file for Perfetto, of what processes may claim (claimed_entries.h).
#include "claimed_entries.h"
#include "require.h"

#include "convert/page.h"
#include "convert/perfetto.h"
#include "trace/trace_stage.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace {

using namespace nopspan::collector;  // NOLINT: the whole file tests this namespace

class PictureSink : public TraceSink {
 public:
  explicit PictureSink(Picture& picture) : picture_(picture) {}
  bool on_trace(const AssembledTrace& trace) override {
    picture_.add(trace);
    return true;
  }
  void on_other(const Entry& entry) override { picture_.add(entry); }
  [[nodiscard]] bool wants_others() const override { return true; }

 private:
  Picture& picture_;
};

void draw(std::string_view script, Picture& picture) {
  PictureSink sink(picture);
  TraceStageOptions options;
  options.incomplete = true;
  TraceStage stage({}, options, sink);
  ClaimedEntries claimed(script);
  claimed.for_each([&](const Entry& entry) { stage.on_entry(entry); });
  stage.finish(LedgerSource());
  picture.finish({}, "a remark", {});
}

// The flows are found by a first reading.
void see(std::string_view script, StepFlows& flows) {
  ClaimedEntries(script).for_each([&](const Entry& entry) {
    if (is_step(entry) || entry.kind == Kind::part) flows.see(entry);
  });
}

void draw_page(std::string_view script) {
  SpanKeys keys;
  StepFlows flows(Flows::all, 8, keys, true);
  see(script, flows);
  constexpr int kFast = 1;
  Page page(
      [](const char* kind, std::string_view base64) {
        require(std::string_view(kind) == "columns" || std::string_view(kind) == "details", "there is such a block");
        require(base64.find('<') == std::string_view::npos, "a block does not end its element");
      },
      0, kFast);
  PageOfFile picture(page, "file", flows);
  draw(script, picture);
  require(nlohmann::json::accept(page.head({})), "the head is JSON");
}

void draw_for_perfetto(std::string_view script) {
  SpanKeys keys;
  StepFlows flows(Flows::some, 8, keys, true);
  see(script, flows);
  constexpr std::size_t kMostHeld = 8192;
  std::size_t bytes = 0;
  PerfettoTrace picture(nullptr, flows, kMostHeld, [&](std::string_view part) { bytes += part.size(); });
  draw(script, picture);
  require(bytes > 0, "the file has a beginning");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view script(reinterpret_cast<const char*>(data) + 1, size - 1);
  data[0] % 2 == 0 ? draw_page(script) : draw_for_perfetto(script);
  return 0;
}
