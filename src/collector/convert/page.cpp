// SPDX-License-Identifier: Apache-2.0
#include "convert/page.h"

#include "base/gzip.h"
#include "base/saturating.h"
#include "base/text.h"
#include "convert/page_texts.h"
#include "model/entry_json.h"
#include "model/service.h"
#include "model/steps.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <type_traits>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostInBlock = 16'384;                 // spans, members or values
constexpr std::size_t kMostDetails = std::size_t{8} << 20U;  // bytes of the requests of a block

// A block of columns.
class Block {
 public:
  explicit Block(const char* kind) {
    head_.begin_object();
    head_.text("kind", kind);
    head_.key("columns");
    head_.begin_array();
  }
  template <class T>
  void add(const char* name, const std::vector<T>& values) {
    constexpr const char* type = std::is_same_v<T, double>          ? "f64"
                                 : std::is_same_v<T, std::uint32_t> ? "u32"
                                 : std::is_same_v<T, std::int32_t>  ? "i32"
                                                                    : "u8";
    head_.begin_array();
    head_.text(name);
    head_.text(type);
    head_.number(values.size());
    head_.end_array();
    columns_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    pad(columns_);
  }
  using Texts = std::vector<std::pair<const char*, const PageTexts*>>;
  // Call it once. Adds the names of texts that were too many or too long.
  std::string bytes(const Texts& texts, std::set<std::string>& shortened) {
    head_.end_array();
    head_.key("texts");
    head_.begin_object();
    for (const auto& [name, values] : texts) {
      head_.key_text(name);
      values->write(head_);
      if (values->has_others()) shortened.insert(name);
    }
    head_.end_object();
    head_.end_object();
    const std::string_view head = head_.text();
    const auto size = static_cast<std::uint32_t>(head.size());
    std::string bytes(reinterpret_cast<const char*>(&size), sizeof(size));
    bytes += head;
    pad(bytes);
    return bytes + columns_;
  }

 private:
  static void pad(std::string& bytes) { bytes.resize((bytes.size() + 7) / 8 * 8); }

  JsonWriter head_;
  std::string columns_;
};

std::uint32_t limited(std::uint64_t number) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(number, UINT32_MAX));
}

// With the attributes of its resource, as far as there is room in a text of PageTexts.
void write_process(JsonWriter& json, const Process& process, bool with_resource) {
  constexpr std::size_t kMostOfResource = 2048;
  std::string version;
  each_declared(process, [&](std::string_view key, std::string_view value) {
    if (key == "service.version") version = value;
  });
  json.begin_object();
  json.text("host", process.host);
  json.number("pid", process.pid);
  json.text("comm", process.comm);
  json.text("service", service_of(process));
  json.text("version", version);
  if (with_resource) {
    std::size_t bytes = 0;
    json.key("resource");
    json.begin_object();
    each_declared(process, [&](std::string_view key, std::string_view value) {
      if ((bytes += key.size() + value.size() + 8) > kMostOfResource) return;
      json.key_text(key);
      json.text(value);
    });
    json.end_object();
  }
  json.end_object();
}

void replace(std::string& text, std::string_view what, std::string_view with) {
  const std::size_t at = text.find(what);
  text.replace(at, what.size(), with);
}

// The hash of a source in a content security policy. `digits` are hexadecimal.
std::string hash_source(std::string_view digits) {
  std::string bytes;
  for (; digits.size() >= 2; digits.remove_prefix(2)) {
    unsigned byte = 0;
    std::from_chars(digits.data(), digits.data() + 2, byte, 16);
    bytes += static_cast<char>(byte);
  }
  return "sha256-" + base64_of(bytes);
}

}  // namespace

std::uint32_t PageTexts::number_of(std::string_view text) {
  const auto found = numbers_.find(text);
  if (found != numbers_.end()) return found->second;
  const bool is_full = texts_.size() >= kMost - 1 || bytes_ >= kMostBytes || text.size() > kMostOfText;
  const auto [made, is_new] = numbers_.try_emplace(std::string(is_full ? kOthers : text), texts_.size());
  if (is_new) {
    texts_.push_back(&made->first);
    bytes_ += made->first.size();
  }
  return made->second;
}

void PageTexts::write(JsonWriter& json) const {
  json.begin_array();
  for (const std::string* text : texts_) json.text(*text);
  json.end_array();
}

void Page::write_block(const char* kind, std::string_view bytes) const {
  write_(kind, base64_of(gzipped(bytes, level_)));
}

double Page::time_of(std::uint64_t unix_ns) const {
  return unix_ns >= begin_unix_ns_ ? static_cast<double>(unix_ns - begin_unix_ns_)
                                   : -static_cast<double>(begin_unix_ns_ - unix_ns);
}

std::string Page::top(bool is_live) {
  std::string top = kPageTop;
  replace(top, "@BASE_HASH@", hash_source(kPageBaseHash));
  replace(top, "@VIEWS_HASH@", hash_source(kPageViewsHash));
  replace(top, "@STYLE_HASH@", hash_source(kPageStyleHash));
  replace(top, "@CONNECT@", is_live ? "connect-src 'self'; " : "");
  replace(top, "@LIVE@", is_live ? " data-live" : "");
  replace(top, "@STYLE@", kPageStyle);
  return top;
}

std::string Page::bottom() {
  return "<script>" + std::string(kPageBase) + "</script>\n<script>" + kPageViews + "</script>\n</body>\n</html>\n";
}

std::string Page::head(std::vector<std::string> notes) const {
  for (const std::string& what : shortened_)
    notes.push_back("Some " + what + " are too many or too long, and shown as (others)");
  JsonWriter json;
  json.begin_object();
  json.text("version", NOPSPAN_VERSION);
  json.text("begin_unix_ns", std::to_string(begin_unix_ns_));
  json.key("notes");
  json.begin_array();
  for (const std::string& note : notes) json.text(note);
  json.end_array();
  json.key("files");
  json.begin_array();
  for (const File& file : files_) {
    json.begin_object();
    json.text("name", file.name);
    json.text("remark", file.remark);
    json.text("losses", file.losses);
    json.number("outside", file.outside);
    json.number("unsure", file.unsure);
    json.key("stalls");
    json.literal(file.stalls.empty() ? "[]" : file.stalls);
    json.end_object();
  }
  json.end_array();
  json.end_object();
  return std::string(json.text());
}

PageOfFile::PageOfFile(Page& page, const std::string& name, StepFlows& flows, bool is_live)
    : page_(page),
      file_(page.files_.size()),
      flows_(flows),
      is_live_(is_live),
      blame_(
          {}, [](const Entry&) { return true; }, [this](const Blame::Request& request) { stalls_.add(request); }) {
  page_.files_.emplace_back().name = name;
}

void PageOfFile::add(const AssembledTrace& assembled) {
  const Trace& trace = assembled.trace;
  const TraceLinks& links = assembled.links;
  Requests& to = requests_;
  std::vector<std::int32_t> place(links.nodes().size());
  std::int32_t places = 0;
  struct Report {
    std::uint32_t node = 0;
    double input = 0, output = 0;
  };
  std::vector<Report> reports;  // of tokens
  std::string name, tenant, model;
  bool has_longest = false;
  std::uint64_t first_ns = UINT64_MAX, last_ns = 0;
  for (std::uint32_t i = links.first_root(); i != TraceLinks::kNone; i = links.next_before_children(i)) {
    const TraceLinks::Node& node = links.nodes()[i];
    const Entry entry = trace.view(*node.entry);
    const bool is_span = entry.kind == Kind::span;
    blame_.on_entry(entry);
    place[i] = places++;
    first_ns = std::min(first_ns, entry.start_unix_ns);
    last_ns = std::max(last_ns, entry.start_unix_ns);
    if (name.empty()) name = entry.name;
    to.span_start.push_back(page_.time_of(entry.start_unix_ns));
    to.span_duration.push_back(is_span ? static_cast<double>(entry.duration_ns) : 0);
    to.span_parent.push_back(node.parent == TraceLinks::kNone ? -1 : place[node.parent]);
    to.span_name.push_back(to.names.number_of(entry.name));
    if (to.last_process != *entry.process) {
      JsonWriter json;
      write_process(json, **entry.process, true);
      to.last_process_number = to.processes.number_of(json.text());
      to.last_process = *entry.process;
    }
    to.span_process.push_back(to.last_process_number);
    to.span_kind.push_back(static_cast<std::uint8_t>(entry.kind));
    to.span_status.push_back(entry.status);
    ++(is_span ? counts_.spans : counts_.points);
    if (const auto key = flows_.find(entry)) {
      if (const auto number = flows_.number_of(*key)) {
        to.key.push_back(*number);
        to.key_span.push_back(static_cast<std::uint32_t>(to.span_start.size() - 1));
      }
    }
    if (entry.counts_tokens)
      reports.push_back({i, static_cast<double>(entry.usage.input), static_cast<double>(entry.usage.output)});
    if (tenant.empty()) tenant = entry.tenant;
    if (model.empty()) model = entry.model;
    const bool is_longest = node.root != RootKind::none && entry.duration_ns == links.longest_root_ns();
    if (is_span && is_longest && !std::exchange(has_longest, true)) name = entry.name;
  }
  if (places == 0) return;
  // Client and server report the tokens of one call. The innermost span counts.
  std::vector<bool> is_around(links.nodes().size());
  for (const Report& report : reports) {
    std::uint32_t parent = links.nodes()[report.node].parent;
    for (; parent != TraceLinks::kNone && !is_around[parent]; parent = links.nodes()[parent].parent) {
      is_around[parent] = true;
    }
  }
  double input = 0, output = 0;
  for (const Report& report : reports) {
    if (is_around[report.node]) continue;
    input += report.input;
    output += report.output;
  }
  if (assembled.end != TraceEnd::late) ++counts_.requests;
  const bool has_spans = links.spans() > 0;  // otherwise there are events alone
  to.start.push_back(page_.time_of(has_spans ? links.start_unix_ns() : first_ns));
  to.duration.push_back(
      static_cast<double>(has_spans ? links.end_unix_ns() - links.start_unix_ns() : last_ns - first_ns));
  to.input_tokens.push_back(input);
  to.output_tokens.push_back(output);
  to.name.push_back(to.names.number_of(name));
  to.tenant.push_back(to.tenants.number_of(tenant));
  to.model.push_back(to.models.number_of(model));
  to.spans.push_back(static_cast<std::uint32_t>(places));
  to.errors.push_back(limited(links.failed() + assembled.over_limit_failed));
  to.over_limit.push_back(limited(assembled.over_limit));
  to.end.push_back(static_cast<std::uint8_t>(assembled.end));
  const std::string id = trace.request_id().substr(0, UINT8_MAX);
  to.id.insert(to.id.end(), id.begin(), id.end());
  to.id_size.push_back(static_cast<std::uint8_t>(id.size()));
  if (to.start.size() == 1) details_.begin_array();
  write_json(details_, assembled);
  if (to.span_start.size() >= kMostInBlock || details_.text().size() >= kMostDetails) write_requests();
}

void PageOfFile::write_requests() {
  if (requests_.start.empty()) return;
  Requests& of = requests_;
  Block block("requests");
  block.add("request_start", of.start);
  block.add("request_duration", of.duration);
  block.add("request_input", of.input_tokens);
  block.add("request_output", of.output_tokens);
  block.add("request_name", of.name);
  block.add("request_tenant", of.tenant);
  block.add("request_model", of.model);
  block.add("request_spans", of.spans);
  block.add("request_errors", of.errors);
  block.add("request_over_limit", of.over_limit);
  block.add("request_end", of.end);
  block.add("id", of.id);
  block.add("request_id_size", of.id_size);
  block.add("span_start", of.span_start);
  block.add("span_duration", of.span_duration);
  block.add("span_parent", of.span_parent);
  block.add("span_name", of.span_name);
  block.add("span_process", of.span_process);
  block.add("span_kind", of.span_kind);
  block.add("span_status", of.span_status);
  block.add("key", of.key);
  block.add("key_span", of.key_span);
  block.add("file", Numbers{static_cast<std::uint32_t>(file_)});
  details_.end_array();
  page_.write_block(
      "columns",
      block.bytes(
          {{"names", &of.names}, {"tenants", &of.tenants}, {"models", &of.models}, {"processes", &of.processes}},
          page_.shortened_));
  page_.write_block("details", details_.text());
  requests_ = {};
  details_.clear();
}

void PageOfFile::add(const Entry& entry) {
  Steps& to = steps_;
  if (entry.kind == Kind::gauge) {
    JsonWriter json;
    NumberText number;
    json.begin_object();
    json.text("name", entry.name);
    json.key("process");
    write_process(json, **entry.process, false);
    json.text("engine", entry.engine);
    json.text("model", entry.model);
    json.text("tenant", entry.tenant);
    json.text("instance", label_or_attribute(entry, "nopspan.instance", number));
    json.key("attributes");
    bool malformed = false;
    write_attributes(json, entry.attributes, kEventAttributes, malformed);
    json.end_object();
    to.gauge.push_back(to.gauges.number_of(json.text()));
    to.gauge_time.push_back(page_.time_of(entry.start_unix_ns));
    to.gauge_value.push_back(static_cast<double>(entry.value));
    ++counts_.values;
  } else if (!is_step(entry) && entry.kind != Kind::part) {
    ++(entry.kind == Kind::span ? counts_.spans : counts_.points);
    ++page_.files_[file_].outside;
  } else {
    const nopspan_step none{};
    const nopspan_step& step = entry.step != nullptr ? *entry.step : none;
    const bool is_part = entry.kind == Kind::part;
    blame_.on_entry(entry);
    JsonWriter json;
    json.begin_object();
    json.key("process");
    write_process(json, **entry.process, false);
    json.text("name", entry.engine.empty() ? entry.name : entry.engine);
    json.number("instance", std::uint64_t{step.instance});
    json.end_object();
    to.start.push_back(page_.time_of(entry.start_unix_ns));
    to.duration.push_back(static_cast<double>(entry.duration_ns));
    to.number.push_back(static_cast<double>(step.number));
    to.host.push_back(static_cast<double>(step.host_ns));
    to.device.push_back(static_cast<double>(step.device_ns));
    to.engine.push_back(is_part ? UINT32_MAX : to.engines.number_of(json.text()));
    to.prefill.push_back(limited(step.prefill_tokens));
    to.decode.push_back(limited(step.decode_tokens));
    to.batch.push_back(step.batch_size);
    to.process.push_back(static_cast<std::uint32_t>(flows_.process_of(entry)));
    to.id_low.push_back(static_cast<std::uint32_t>(entry.span_id));
    to.id_high.push_back(static_cast<std::uint32_t>(entry.span_id >> 32U));
    to.is_part.push_back(is_part ? 1 : 0);
    const std::size_t before = to.member_key.size();
    for_each_member(entry.members, [&](const nopspan_member& member) {
      const auto key = flows_.number_of(entry, member);
      to.member_key.push_back(key ? static_cast<std::int32_t>(*key) : -1);
      to.member_prefill.push_back(member.prefill_tokens);
      to.member_context.push_back(member.context_tokens);
      to.member_decode.push_back(member.decode_tokens);
    });
    to.members.push_back(static_cast<std::uint32_t>(to.member_key.size() - before));
    if (!is_part) ++counts_.steps;
  }
  if (to.start.size() + to.member_key.size() + to.gauge.size() >= kMostInBlock) write_steps();
}

void PageOfFile::write_steps() {
  if (steps_.start.empty() && steps_.gauge.empty()) return;
  Steps& of = steps_;
  Block block("steps");
  block.add("step_start", of.start);
  block.add("step_duration", of.duration);
  block.add("step_number", of.number);
  block.add("step_host", of.host);
  block.add("step_device", of.device);
  block.add("step_engine", of.engine);
  block.add("step_prefill", of.prefill);
  block.add("step_decode", of.decode);
  block.add("step_batch", of.batch);
  block.add("step_process", of.process);
  block.add("step_id_low", of.id_low);
  block.add("step_id_high", of.id_high);
  block.add("step_is_part", of.is_part);
  block.add("step_members", of.members);
  block.add("member_key", of.member_key);
  block.add("member_prefill", of.member_prefill);
  block.add("member_context", of.member_context);
  block.add("member_decode", of.member_decode);
  block.add("gauge", of.gauge);
  block.add("gauge_time", of.gauge_time);
  block.add("gauge_value", of.gauge_value);
  block.add("file", Numbers{static_cast<std::uint32_t>(file_)});
  page_.write_block("columns", block.bytes({{"engines", &of.engines}, {"gauges", &of.gauges}}, page_.shortened_));
  steps_ = {};
}

void PageOfFile::finish(const Ledger& ledger, const std::string& remark, const std::optional<ClockState>& /*clock*/) {
  write_requests();
  write_steps();
  Page::File& file = page_.files_[file_];
  if (ledger.total.lost() > 0) file.losses = to_text(ledger);
  file.remark = remark;
  if (!is_live_) {
    blame_.finish();
  } else {
    // A few more steps would change little.
    if (counts_.steps <= settled_steps_ + settled_steps_ / 10) return;
    settled_steps_ = counts_.steps;
    blame_.settle(0);
  }
  file.unsure = stalls_.unsure();
  file.stalls = stalls();
}

std::string PageOfFile::stalls() const {
  JsonWriter json;
  json.begin_array();
  for (const auto& [who, stall] : stalls_.longest_stalls()) {
    const auto victim = stalls_.victims().find(who.first);
    json.begin_object();
    json.text("stalled", printable(who.first, 64));
    json.text("by", printable(who.second, 64));
    json.number("ns", saturated(stall.ns));
    json.number("of_ns", saturated(victim != stalls_.victims().end() ? victim->second.all_ns : 0));
    json.number("requests", stall.victims);
    json.end_object();
  }
  json.end_array();
  return std::string(json.text());
}

}  // namespace nopspan::collector
